"""Cycles of a whole inference: what is counted, by which model, and lines that caches fetch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import small

from embbert_tvm.cycles.caches import Cache, Caches, Fills, parse_caches, read_fills
from embbert_tvm.cycles.counting import joined
from embbert_tvm.cycles.image import Code
from embbert_tvm.cycles.inference import WORST, inference_cycles, weigh
from embbert_tvm.cycles.llvm_mca import Mca, lines_of
from embbert_tvm.cycles.model import Model
from embbert_tvm.cycles.rules import SINGLE_MANUAL
from embbert_tvm.device.package import load_package
from embbert_tvm.errors import InputError
from embbert_tvm.target import load_board, load_cpu

CPU, BOARD = load_cpu("cortex-m4"), load_board("mps2_an386")


def test_functions_are_weighed_block_by_block_by_the_worst_model():
    texts = {0: (4, "ldr r0, [r1]"), 4: (4, "add r2, r3, r4"), 16: (4, "add r0, r1, r2"), 24: (4, "udiv r0, r1, r2")}
    code = Code(texts, ((0, 8, "load"), (16, 28, "divide")))
    known = {lines_of(code.block(at, n)): cycles for at, n, cycles in ((0, 2, 1.0), (16, 1, 5.0), (24, 1, 1.0))}
    model = Model(Mca(CPU, "", known), BOARD, (SINGLE_MANUAL,))
    found = weigh(9, Counter({(0, 2): 100, (16, 1): 10, (24, 1): 10}), code, model)
    assert [(f.name, f.instructions) for f in found.functions] == [("load", 200), ("divide", 20)]
    assert found.functions[0].cycles == {"llvm-mca": 100, "single-manual": 300, WORST: 300}
    # The addition by llvm-mca, the division by the manual.
    assert found.functions[1].cycles == {"llvm-mca": 60, "single-manual": 130, WORST: 50 + 120}
    assert (found.instructions, found.cycles[WORST]) == (220, 470)


def test_what_qemu_parts_is_one_block():
    texts = {0: "ldr r0, [r1]", 4: "add r2, r3, r4", 8: "add r5, r5, #1", 12: "bne elsewhere", 16: "add r0, r0, r0"}
    code = Code({at: (4, text) for at, text in texts.items()}, ((0, 20, "f"),))
    assert joined(Counter({(0, 1): 7, (4, 1): 7, (8, 2): 7, (16, 1): 7}), code) == {(0, 4): 7, (16, 1): 7}
    # A loop of which the first round was translated with what comes before it.
    assert joined(Counter({(0, 3): 1, (12, 1): 10, (4, 2): 9}), code) == {(0, 1): 1, (4, 3): 10}
    # Another number of times, a branch, a gap: not one.
    assert joined(Counter({(0, 1): 7, (4, 1): 8, (12, 1): 8, (16, 1): 8}), code) == {
        (0, 1): 7, (4, 1): 8, (12, 1): 8, (16, 1): 8,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["16k", "16k/2", "16/2,16/4", "16k/3,16k/4", "16k/0,16k/4", "0k/2,16k/4"])
def test_caches_that_are_none(text):
    with pytest.raises(InputError, match="--caches"):
        parse_caches(text)


def test_caches_are_read():
    assert parse_caches("16k/2, 8K/4") == Caches(Cache(16384, 2), Cache(8192, 4))
    assert Cache(16384, 2).sets(32) == 256


def test_fills_are_read_and_subtracted(tmp_path):
    path = Path(tmp_path, "fills")
    np.array([5, 7, 9], "<u8").tofile(path)
    assert read_fills(path).since(Fills(1, 2, 3)) == Fills(4, 5, 6)


@pytest.mark.usefixtures("optimized")
def test_a_whole_inference_in_qemu():
    """Every instruction is counted once, and a cache that holds everything fetches nothing the second time."""
    package = load_package(small.package(target=CPU.name))
    tight, roomy = (Caches(Cache(size, 2), Cache(size, 2)) for size in (512, 262144))
    (found,) = inference_cycles(package, [8], tight)
    assert found.instructions == pytest.approx(found.clock, abs=3 * BOARD.qemu.instructions_per_tick)
    assert found.cycles[WORST] >= max(found.cycles["llvm-mca"], found.cycles["single-manual"])
    assert found.cycles["single-manual"] > found.instructions
    assert found.functions[0].name.startswith("embbert_")
    assert found.assumed < 0.02 * found.instructions  # what llvm-mca reads of no assembly
    assert found.fills.flash > 0
    (second,) = inference_cycles(package, [8], roomy)
    assert second.cycles == pytest.approx(found.cycles, rel=1e-2)  # the server waits and copies a little too
    assert second.fills == Fills(0, 0, 0)  # all of it was there from the run before


def test_a_core_that_llvm_mca_does_not_know_goes_by_its_rules():
    """RISC-V's instructions of 2 and 4 bytes, counted to the last."""
    package = load_package(small.package(target="rv32imac"))
    (found,) = inference_cycles(package, [8])
    assert found.instructions == pytest.approx(found.clock, abs=200)
    assert set(found.cycles) == {"single-hazard3", "single-textbook", WORST}
    assert found.instructions < found.cycles["single-hazard3"] < found.cycles["single-textbook"] <= found.cycles[WORST]
    assert found.assumed == 0


def test_a_length_that_the_package_does_not_take():
    with pytest.raises(InputError, match="takes 1 to"):
        inference_cycles(load_package(small.package(target=CPU.name)), [100000])
