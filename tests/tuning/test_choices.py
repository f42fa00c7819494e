"""Variants of micro-kernels and unrolled loops: what can be chosen, and what is printed of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import embbert_kernels
import numpy as np
import pytest

from embbert_tvm.codegen.c_function import c_function
from embbert_tvm.codegen.lower import schedule, to_loops
from embbert_tvm.kernels import micro
from embbert_tvm.kernels.attention import Attention, attention
from embbert_tvm.kernels.choices import variants
from embbert_tvm.kernels.isa import DSP, MVE, PLAIN
from embbert_tvm.tuning.logs import fingerprint

MICRO = Path(micro.__file__).parent


def printed(func, chosen=None):
    return c_function(to_loops(schedule(func), "kernel"), "kernel", chosen)


def test_a_layer_leaves_its_calls_and_loops_to_choose():
    found = {c.key: c.values for c in printed(embbert_kernels.layer(128, PLAIN)).choices}
    assert len(found["call0"]) == 1 + 12 + 6  # the queries' product: LDRD, single or grouped, four lengths, plain
    assert len(found["call2"]) == 1 + 6 + 6
    assert found["loop0"] == (0, 1, 2, 4, 8)


def test_a_schedule_leaves_its_kernel_as_it_is():
    """As MetaSchedule's databases know a kernel by its structure."""
    func = attention(Attention(32, one_row=True, interleaved=True))
    known = fingerprint(func)
    assert fingerprint(schedule(func)) != known
    assert fingerprint(func) == known


def test_a_form_that_does_not_suit_is_not_offered():
    knobs = {c.key: c.values for c in printed(embbert_kernels.layer(32, DSP)).choices}
    names = [variants("embbert_dsp_dot_4x2")[i].name for i in knobs["call0"]]
    assert "embbert_dsp_dot_ldrd_16" in names
    assert "embbert_dsp_dot_ldrd_32" not in names  # 16 pairs are no multiple of 32
    wide = {c.key: c.values for c in printed(embbert_kernels.layer(96, MVE)).choices}
    assert [variants("embbert_mve_product")[i].name for i in wide["call0"]] == [
        "embbert_mve_product",
        "embbert_mve_product_32",
    ]


def test_nothing_chosen_prints_what_is_there_by_hand():
    body = printed(embbert_kernels.layer(128, PLAIN)).body
    assert "#pragma" not in body
    assert set(re.findall(r"embbert_dsp_(?:dot|context)\w*", body)) == {
        "embbert_dsp_dot_4x2",
        "embbert_dsp_context_4x2",
    }


def test_choices_change_the_call_and_the_loop_alone():
    body = printed(embbert_kernels.layer(128, PLAIN)).body
    other = printed(embbert_kernels.layer(128, PLAIN), {"call0": 3, "call1": 14, "loop0": 4}).body
    changed = [line for line in other.splitlines() if line not in body.splitlines()]
    names = [re.search(r"embbert_dsp_\w+|#pragma.*", line)[0] for line in changed]
    assert names == ["embbert_dsp_dot_ldrd_16", "embbert_dsp_dot_plain", "#pragma GCC unroll 4"]
    assert changed[1].rstrip().endswith(", 1, 1);")


_PROGRAM = """
#include <stdio.h>
#define EMBBERT_DUAL_ISSUE {dual}
#include "embbert_arithmetic.h"
#include "embbert_dsp.h"
#include "embbert_mve.h"
int main(void)
{{
    static int16_t a[4 * 64 * 2];
    static int8_t b[64 * 256];
    for (int i = 0; i < (int)(sizeof a / 2); i++) a[i] = (int16_t)(i * 37 % 251 - 125);
    for (int i = 0; i < (int)sizeof b; i++) b[i] = (int8_t)(i * 101 % 253 - 126);
    int32_t acc[8];
{calls}
    return 0;
}}
"""


@pytest.mark.parametrize("dual", [0, 1])
def test_every_form_computes_the_same(tmp_path, dual):
    """On this machine all variants are their plain C; tests/tuning/test_tune.py runs the others in QEMU."""
    calls, expected = [], []
    rng = (np.arange(512) * 37 % 251 - 125, (np.arange(64 * 256) * 101 % 253 - 126).astype(np.int8).astype(int))
    a = rng[0].reshape(64, 4, 2)
    for base, scalars in (
        ("embbert_dsp_dot_4x2", (64,)),
        ("embbert_dsp_dot_raw", (64,)),
        ("embbert_dsp_context_4x2", (256, 64)),
    ):
        b = rng[1]
        if base == "embbert_dsp_dot_raw":
            right = b[: 64 * 4].reshape(64, 2, 2)
            right = np.stack([right[..., 0], right[..., 1] + (right[..., 0] < 0)], axis=2)  # what was borrowed
            want = np.einsum("prh,phc->rc", a, right)
        elif len(scalars) == 1:
            right = b[: 64 * 4].reshape(64, 2, 2)  # pair, column of the pair, row
            want = np.einsum("prh,phc->rc", a, right)
        else:
            right = b.reshape(64, 128, 2)[:, :2]  # pair of rows, column, row of the pair
            want = np.einsum("prh,pch->rc", a, right)
        for variant in variants(base):
            arguments = ", ".join(map(str, ("acc", "a", "b", *scalars, *variant.extra)))
            calls.append("    for (int i = 0; i < 8; i++) acc[i] = i;")
            calls.append(f"    {variant.name}({arguments});")
            calls.append('    for (int i = 0; i < 8; i++) printf("%d ", (int)acc[i]);\n    printf("\\n");')
            expected.append((want.reshape(-1) + np.arange(8)).tolist())
    source = tmp_path / "variants.c"
    source.write_text(_PROGRAM.format(dual=dual, calls="\n".join(calls)))
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O2", f"-I{MICRO}"]
    subprocess.run(["gcc", *flags, source, "-o", tmp_path / "variants"], check=True)
    said = subprocess.run([tmp_path / "variants"], capture_output=True, text=True, check=True).stdout
    assert [list(map(int, line.split())) for line in said.splitlines()] == expected
