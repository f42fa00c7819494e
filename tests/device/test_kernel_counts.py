"""Instructions of one product may not silently grow: what the compiler chooses, or how our rounds are cut."""

from __future__ import annotations

import sys

import pytest

from embbert_tvm.resources import resource
from embbert_tvm.target import load_cpu

sys.path.insert(0, str(resource("benchmarks")))

import kernels

# 256 x 128 x 128 with requantization, by Debian 12's compilers: `python benchmarks/kernels.py --cpu cortex-m3 rv32imc`.
# M55's took 565,344 with 136 cycles a tile of 128 columns; what follows a tile takes more instructions in 131 cycles.
KNOWN = {
    "cortex-m3": 7_955_680,
    "cortex-m4": 4_297_760,
    "cortex-m7": 4_293_680,
    "cortex-m55": 574_562,
    "rv32imc": 12_285_849,
}


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("name", KNOWN)
def test_a_product_takes_no_more_instructions_than_it_did(name, tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "FIGURES", kernels.FIGURES[:1])
    (row,) = kernels.measure(load_cpu(name), tmp_path / "package")
    assert row["kernel"] == "product 256x128x128, requantized"
    assert 0.9 * KNOWN[name] < row["instructions"] <= 1.0001 * KNOWN[name]
