"""An inference in slices gives the bits of one that is not interrupted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import small

import embbert_tvm
from embbert_tvm.codegen import program
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.device.profile import profile
from embbert_tvm.device.protocol import STATUS_NAMES

STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-O2", "-Wno-cast-qual")


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16", "fp32"])
def test_bits_are_equal_whatever_the_budget(precision):
    package = load_package(small.package(precision))
    with open_place("host", package) as device:
        for length in (1, 2, 5, package.max_length):
            ids = small.some_ids(length)
            expected = device.run(ids).logits
            counts = []
            for budget in (0, 5000, 10**9):
                found = device.slices(ids, budget)
                np.testing.assert_array_equal(found.logits.view(np.uint32), expected.view(np.uint32))
                counts.append(found.count)
            assert counts[0] >= counts[1] >= counts[2] == 1
            assert counts[0] > len(package.steps) or length == 1


def test_texts_take_turns_and_misuse_has_a_status(tmp_path):
    package = load_package(small.package())
    includes = [f"-I{folder}" for folder in {*package.includes, package.sources[0].parent}]
    binary = tmp_path / "slices"
    source = Path(__file__).parent / "slices_test.c"
    command = ["gcc", *STRICT, *includes, source, *package.sources, "-lm", "-o", binary]
    subprocess.run(list(map(str, command)), check=True)
    statuses, *lines = subprocess.run([str(binary)], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [STATUS_NAMES[int(word)].removeprefix("EMBBERT_") for word in statuses.split()[1:]] == [
        "E_BEGIN",
        "E_ARGUMENT",
        "E_LENGTH",
        "MORE",
        "E_BEGIN",
    ]
    assert lines[:2] == lines[2:]
    assert lines[0] != lines[1]


def test_the_longest_slice_is_what_the_header_says():
    """Multiplications stand for instructions: within a half of what QEMU counts."""
    package = load_package(small.package(target="cortex-m7"))
    found = profile(package, "qemu", [package.max_length]).slices
    header = (package.path / "codegen/host/include/embbert.h").read_text()
    said = float(header[: header.index(" % of an inference")].split()[-1])
    assert found.longest / found.total == pytest.approx(said / 100, rel=0.5)
    assert found.count > package.max_length // 4


def test_a_cost_that_int32_does_not_hold_is_cut(monkeypatch, tmp_path):
    """A long text of a large model: the slices are shorter than asked then, and the bits are the same."""
    ids = small.some_ids(9)
    with open_place("host", load_package(small.package())) as device:
        expected = device.run(ids).logits
    monkeypatch.setattr(program, "_MOST_COST", 1000)
    made = embbert_tvm.compile(small.folder(), "host", tmp_path / "p").path
    assert "slice_end(model, count, 1000, &budget)" in (made / "codegen/host/src/embbert_model.c").read_text()
    with open_place("host", load_package(made)) as device:
        np.testing.assert_array_equal(device.run(ids).logits, expected)
