"""Cycles by llvm-mca: what it is asked, what of blocks it weighs, and how often QEMU ran them."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from embbert_tvm.codegen.lower import schedule
from embbert_tvm.cycles import image, tool
from embbert_tvm.cycles.image import Code
from embbert_tvm.cycles.llvm_mca import Mca, lines_of
from embbert_tvm.cycles.model import Model, rules_of
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
def program(tmp_path, monkeypatch):
    """A program in the place of llvm-mca; the file where it notes that it was called."""
    path, calls = tmp_path / "bin" / "llvm-mca", tmp_path / "calls"
    path.parent.mkdir()
    path.write_text(LLVM_MCA.format(python=sys.executable, calls=str(calls)))
    path.chmod(0o755)
    monkeypatch.setattr(tool, "find_mca", lambda: str(path))
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
    assert image.plain(printed) == asked


def test_a_block_is_what_stands_from_its_address_on():
    texts = [(2, "it ge"), (2, "movge r1, r4"), (4, "bl elsewhere"), (4, "smull r8, r7, r6, r6"), (2, "bne elsewhere")]
    addresses = np.cumsum([0, *(size for size, _ in texts)]).tolist()
    code = Code(dict(zip(addresses, texts, strict=False)), ((0, 14, "f"),))
    assert code.block(0, 5) == tuple(texts)
    assert code.block(8, 1) == ((4, "smull r8, r7, r6, r6"),)
    assert lines_of(code.block(0, 5)) == ("mov r1, r4", "nop", "smull r8, r7, r6, r6", "bne elsewhere")


def test_what_is_predicated_is_read_without_its_condition():
    texts = ("vctp.16 r6", "vpstt", "vldrht.u16 q2, [r3, q0]", "vaddt.i32 q0, q1, q2", "vqmovnt.s32 q0, q1")
    lines = lines_of(tuple((4, text) for text in texts))
    assert lines == ("vctp.16 r6", "vldrh.u16 q2, [r3, q0]", "vadd.i32 q0, q1, q2", "vqmovnt.s32 q0, q1")


def test_a_function_is_where_its_addresses_lie():
    code = Code({}, ((16, 32, "one"), (64, 80, "two")))
    assert [code.function(at) for at in (0, 16, 31, 32, 64, 79, 80)] == [None, "one", "one", None, "two", "two", None]


def test_a_block_takes_at_least_its_fetch():
    flash, *rest = BOARD.memory
    slow = replace(BOARD, memory=(replace(flash, wait_states=7, line_bytes=8), *rest))
    short, long = ((2, "nop"),), ((4, "udiv r0, r0, r1"),) * 4
    known = {lines_of(short): 1.0, lines_of(long): 40.0}

    def cycles(board, counts):
        return Model(Mca(CPU, "", dict(known)), board).cycles(counts)

    assert cycles(BOARD, {short: 10, long: 2}) == 10 + 80
    assert cycles(slow, {short: 10, long: 2}) == 10 * 2 + 80
    assert cycles(slow, {((8, "udiv r0, r0, r1"),) * 4: 2}) == 2 * 40
    assert cycles(slow, {((16, "udiv r0, r0, r1"),) * 4: 2}) == 2 * 64


def test_the_worst_of_the_models_counts():
    """A block by llvm-mca alone, and one by a rule that knows what a division takes."""
    add, divide = ((4, "add r0, r1, r2"),), ((4, "udiv r0, r1, r2"),)
    mca_says = {lines_of(add): 3.0, lines_of(divide): 1.0}
    model = Model(Mca(CPU, "", mca_says), BOARD, rules_of(CPU))
    assert set(model.each([add])[add]) == {"llvm-mca", *CPU.pipelines}
    assert model.cycles({add: 10, divide: 2}) == 10 * 3 + 2 * 8
    with pytest.raises(InputError, match="unknown 'guess', known: dual-measured"):
        rules_of(replace(CPU, pipelines=("guess",)))


def test_a_block_that_it_cannot_read_spoils_no_other(program):
    blocks = [((4, "add r0, r1"),) * n for n in range(1, 6)]
    bad = ((4, "bad r0"), (2, "nop"), (2, "nop"))
    model = Mca(CPU, str(program[0]))
    assert list(model.cycles([*blocks, bad]).values()) == [1, 2, 3, 4, 5, 3]
    assert model.is_assumed(bad)
    assert not any(map(model.is_assumed, blocks))
    calls = program[1].read_text()
    assert sum(model.cycles([*blocks, bad]).values()) == 18
    assert program[1].read_text() == calls  # each block is asked of once


def test_a_trial_is_what_ran_since_the_last(tmp_path):
    class Fake:
        def run(self, number):
            return Reading(instructions=number)

        def close(self):
            pass

    code = Code({0: (2, "nop"), 2: (2, "nop"), 64: (2, "nop")}, ((0, 4, "f"),))
    model = Model(Mca(CPU, "", {("nop",): 1.0, ("nop", "nop"): 3.0}), BOARD)
    counts = tmp_path / "counts"
    session = mca.McaSession(Fake(), counts, code, model)
    # Two translations of a block, one of its first half, one of what is no candidate.
    for times, cycles in (((1, 2, 4, 100), 13), ((1, 2, 4, 200), 0), ((2, 2, 6, 300), 5)):
        rows = zip((0, 0, 0, 64), (2, 2, 1, 1), times, strict=True)
        np.asarray([*rows, (0, 0, 0), (9, 9, 9)], "<u8").tofile(counts)
        assert session.run(5) == Reading(instructions=5, cycles=cycles)
    session.close()
    assert not counts.exists()


def test_qemu_counts_every_instruction_of_a_candidate(tmp_path, program):
    """With a cycle for each and no other model they are what QEMU's clock counted, but the harness's."""
    task = rounding_task(64)
    bench = Bench(task, CPU, BOARD, tmp_path / "bench")
    made = [candidate(task, schedule(task.func), n, CPU.features) for n in range(2)]
    session = mca.McaPlace(QemuPlace(BOARD), replace(CPU, pipelines=()), BOARD).open(
        bench.link(made, [bench.compile(c) for c in made])
    )
    try:
        readings = [session.run(n) for n in (0, 1, 0)]
    finally:
        session.close()
    assert all(r.error is None for r in readings)
    # The harness waits for its next request in between.
    assert readings[0].cycles == pytest.approx(readings[2].cycles, abs=BOARD.qemu.instructions_per_tick)
    for reading in readings:
        assert reading.cycles > 64 * 16 * 5
        assert reading.cycles == pytest.approx(reading.instructions, abs=2 * BOARD.qemu.instructions_per_tick)


def test_llvm_mca_that_is_missing_or_old(tmp_path, monkeypatch):
    monkeypatch.setattr(tool.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="apt-get install llvm"):
        tool.find_mca()
    old = tmp_path / "llvm-mca"
    old.write_text("#!/bin/sh\necho 'LLVM version 14.0.6'\n")
    old.chmod(0o755)
    monkeypatch.setattr(tool.shutil, "which", lambda name: str(old) if name == "llvm-mca" else None)
    with pytest.raises(InputError, match="llvm-mca 15 or later is not installed"):
        tool.find_mca()
