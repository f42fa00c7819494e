"""Which headers of micro-kernels a package ships: those that its kernels use, and no other."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import small

from embbert_tvm.codegen import micro_headers
from embbert_tvm.device.package import load_package
from embbert_tvm.kernels.isa import MICRO_KERNELS


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("x = a + b;", ""),
        ("x = multiply_high(a, m);", "arithmetic"),
        ("embbert_dsp_dot_ldrd_16(c, a, b, n);", "dsp"),
        ("embbert_mve_product_64(c, a, b, n);", "mve"),
        ("y = half_to_float(x);", "half"),
        ("embbert_mve_half_softmax(y, x, n);", "mve_half half"),
        ("embbert_unpack(out, low, high, m, n);", "low_bits"),
        ("/* not multiply_high(a, m) */ x = 1; // half_to_float(x)", ""),
    ],
)
def test_a_name_brings_its_header_and_what_that_needs(text, headers):
    found = {path.name for path in micro_headers.needed(text)}
    assert {f"embbert_{name}.h" for name in headers.split()} <= found
    if not headers:
        assert found == set()
    assert ("embbert_mve_half.h" in found) == ("mve_half" in headers.split())


def test_a_function_brings_what_it_calls_and_no_neighbour():
    found = micro_headers.shipped("embbert_dsp_dot_ldrd_8(c, a, b, n);")
    text = found["embbert_dsp.h"]
    assert "EMBBERT_DSP_DOT(embbert_dsp_dot_ldrd_8, LDRD, 8" in text
    assert "#define EMBBERT_DOT_LDRD_STEP" in text
    assert not any(name in text for name in ("embbert_dsp_dot_ldrd_4", "embbert_dsp_rows", "embbert_dsp_transpose"))
    assert "multiply_high" not in text
    assert "embbert_dsp_softmax" in micro_headers.shipped("embbert_dsp_softmax(w, t, s, e, m, n);")["embbert_dsp.h"]


def test_every_micro_kernel_is_in_the_header_that_the_registry_names():
    names = [name for kernel in MICRO_KERNELS for name in (kernel.name, *(v.name for v in kernel.variants))]
    assert len(names) > 80
    for name in names:
        text = micro_headers.shipped(f"{name}();")[MICRO_KERNELS.header(name)]
        assert re.search(rf"\b{name}\b", text), name


FUNCTION = r"^(?:static inline|EMBBERT_INLINE|EMBBERT_MVE_APART)[\w\s*]*?(\w+)\("
INSTANCE = r"^EMBBERT_\w+\((\w+),"


@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m55"])
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_package_defines_no_function_that_nothing_calls(target, precision):
    package = load_package(small.package(target=target, precision=precision))
    folder = package.sources[0].parent
    texts = {path.name: re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL) for path in folder.glob("*.[hc]")}
    headers = {name: text for name, text in texts.items() if re.match(r"embbert_(dsp|mve|low|arith|half)", name)}
    assert headers
    words = Counter(word for text in texts.values() for word in re.findall(r"\w+", text))
    found = (re.findall(f"{FUNCTION}|{INSTANCE}", text, re.MULTILINE) for text in headers.values())
    defined = ["".join(names) for of_one in found for names in of_one]
    assert defined
    assert [name for name in defined if words[name] < 2] == []


def test_an_int8_package_needs_no_floating_point_of_the_c_library():
    """As Zephyr's minimal one, whose math.h has no INFINITY and no copysign."""
    package = load_package(small.package())
    folder = package.sources[0].parent
    texts = {path.name: path.read_text() for path in [*folder.glob("*.h"), *package.sources]}
    assert not any(
        re.search(r"#include <(math|stdio|stdlib)\.h>|\bINFINITY\b|\bldexp\(", text) for text in texts.values()
    )
    included = set().union(*(re.findall(r'#include "(\w+\.h)"', text) for text in texts.values()))
    assert {name for name in texts if name.endswith(".h")} == included - {"embbert.h"}
    assert all(text.startswith("/* SPDX-License-Identifier: Apache-2.0 */\n") for text in texts.values())
