"""Cycles by llvm-mca: what it is asked, what of blocks it weighs, and how often QEMU ran them."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from embbert_tvm.codegen.lower import schedule
from embbert_tvm.errors import InputError
from embbert_tvm.target import load_board, load_cpu
from embbert_tvm.tuning import mca
from embbert_tvm.tuning.bench import Bench, candidate
from embbert_tvm.tuning.measure import QemuPlace, Reading
from tests.tuning.rounding import rounding_task

CPU, BOARD = load_cpu("cortex-m7"), load_board("mps2_an500")

# An instruction takes a cycle, but one that begins with `bad` is no assembly to it.
LLVM_MCA = """#!{python}
import json, re, sys
text = sys.stdin.read()
if "--version" in sys.argv:
    sys.exit(print("LLVM version 19.1.7"))
if "\\nbad" in text:
    sys.exit("error: invalid instruction")
iterations = int(next(a for a in sys.argv if a.startswith("-iterations=")).partition("=")[2])
found = re.findall(r"# LLVM-MCA-BEGIN (\\d+)\\n(.*?)# LLVM-MCA-END", text, re.S)
regions = [{{"Name": n, "SummaryView": {{"TotalCycles": iterations * len(b.splitlines())}}}} for n, b in found]
print(json.dumps({{"CodeRegions": regions}}))
with open({calls!r}, "a") as file:
    file.write("asked\\n")
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """A program in the place of llvm-mca; the file where it notes that it was called."""
    path, calls = tmp_path / "bin" / "llvm-mca", tmp_path / "calls"
    path.parent.mkdir()
    path.write_text(LLVM_MCA.format(python=sys.executable, calls=str(calls)))
    path.chmod(0o755)
    monkeypatch.setattr(mca, "find_mca", lambda: str(path))
    return path, calls


@pytest.mark.parametrize(
    ("printed", "asked"),
    [
        ("ldr.w\tr0, [r1, #-28]", "ldr r0, [r1, #-28]"),
        ("adds.n\tr0, #4", "adds r0, #4"),
        ("vmul.f32\ts0, s1, s2", "vmul.f32 s0, s1, s2"),
        ("bne.n\t1a2 <candidate_0+0x22>", "bne elsewhere"),
        ("cbz\tr3, 1a2 <candidate_0+0x22>", "cbz r3, elsewhere"),
        ("ldr\tr3, [pc, #8]\t@ (1c4 <candidate_0+0x44>)", "ldr r3, [pc, #8]"),
        ("mov\tr8, r8 ; a comment", "mov r8, r8"),
    ],
)
def test_instructions_as_llvm_mca_reads_them(printed, asked):
    assert mca._plain(printed) == asked


def test_a_block_is_what_stands_from_its_address_on():
    texts = [(2, "it ge"), (2, "movge r1, r4"), (4, "bl elsewhere"), (4, "smull r8, r7, r6, r6"), (2, "bne elsewhere")]
    addresses = np.cumsum([0, *(size for size, _ in texts)]).tolist()
    code = mca.Code(dict(zip(addresses, texts, strict=False)), ((0, 14),))
    assert code.block(0, 5) == (("mov r1, r4", "nop", "smull r8, r7, r6, r6", "bne elsewhere"), 14)
    assert code.block(8, 1) == (("smull r8, r7, r6, r6",), 4)


def test_a_block_takes_at_least_its_fetch():
    flash, *rest = BOARD.memory
    slow = replace(BOARD, memory=(replace(flash, wait_states=7, line_bytes=8), *rest))
    short, long = ("nop",), ("udiv r0, r0, r1",) * 4
    known = {short: 1.0, long: 40.0}
    assert mca.Model(CPU, BOARD, "", known).cycles({short: 10, long: 2}, {short: 2, long: 16}) == 10 + 80
    assert mca.Model(CPU, slow, "", known).cycles({short: 10, long: 2}, {short: 2, long: 16}) == 10 * 2 + 80
    assert mca.Model(CPU, slow, "", known).cycles({long: 2}, {long: 64}) == 2 * 64


def test_a_block_that_it_cannot_read_spoils_no_other(tool):
    blocks = {("add r0, r1",) * n: 1 for n in range(1, 6)} | {("bad r0", "nop", "nop"): 1}
    model = mca.Model(CPU, BOARD, str(tool[0]))
    assert model.cycles(blocks, dict.fromkeys(blocks, 0)) == 1 + 2 + 3 + 4 + 5 + 3
    assert model.assumed == {("bad r0", "nop", "nop")}
    calls = tool[1].read_text()
    assert model.cycles(blocks, dict.fromkeys(blocks, 0)) == 18
    assert tool[1].read_text() == calls  # each block is asked of once


def test_a_trial_is_what_ran_since_the_last(tmp_path):
    class Fake:
        def run(self, number):
            return Reading(instructions=number)

        def close(self):
            pass

    code = mca.Code({0: (2, "nop"), 2: (2, "nop"), 64: (2, "nop")}, ((0, 4),))
    model = mca.Model(CPU, BOARD, "", {("nop",): 1.0, ("nop", "nop"): 3.0})
    counts = tmp_path / "counts"
    session = mca.McaSession(Fake(), counts, code, model)
    # Two translations of a block, one of its first half, one of what is no candidate.
    for times, cycles in (((1, 2, 4, 100), 13), ((1, 2, 4, 200), 0), ((2, 2, 6, 300), 5)):
        rows = zip((0, 0, 0, 64), (2, 2, 1, 1), times, strict=True)
        np.asarray([*rows, (0, 0, 0), (9, 9, 9)], "<u8").tofile(counts)
        assert session.run(5) == Reading(instructions=5, cycles=cycles)
    session.close()
    assert not counts.exists()


def test_qemu_counts_every_instruction_of_a_candidate(tmp_path, tool):
    """With a cycle for each, cycles are the instructions that QEMU's own clock counted, apart from the harness's."""
    task = rounding_task(64)
    bench = Bench(task, CPU, BOARD, tmp_path / "bench")
    made = [candidate(task, schedule(task.func), n, CPU.features) for n in range(2)]
    session = mca.McaPlace(QemuPlace(BOARD), CPU).open(bench.link(made, [bench.compile(c) for c in made]))
    try:
        readings = [session.run(n) for n in (0, 1, 0)]
    finally:
        session.close()
    assert all(r.error is None for r in readings)
    assert readings[0].cycles == readings[2].cycles
    for reading in readings:
        assert reading.cycles > 64 * 16 * 5
        assert reading.cycles == pytest.approx(reading.instructions, abs=2 * BOARD.qemu.instructions_per_tick)


def test_llvm_mca_that_is_missing_or_old(tmp_path, monkeypatch):
    monkeypatch.setattr(mca.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="apt-get install llvm"):
        mca.find_mca()
    old = tmp_path / "llvm-mca"
    old.write_text("#!/bin/sh\necho 'LLVM version 14.0.6'\n")
    old.chmod(0o755)
    monkeypatch.setattr(mca.shutil, "which", lambda name: str(old) if name == "llvm-mca" else None)
    with pytest.raises(InputError, match="llvm-mca 15 or later is not installed"):
        mca.find_mca()
