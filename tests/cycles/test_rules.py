"""The rules of the pipelines on sequences whose cycles their sources tell."""

from __future__ import annotations

import pytest

from embbert_tvm.cycles import risc
from embbert_tvm.cycles.instruction import parse
from embbert_tvm.cycles.pipeline import cycles
from embbert_tvm.cycles.rules import RULES


def took(name: str, *lines: str) -> float:
    return cycles(RULES[name], [parse(line, 2 if line.startswith(("it", "nop")) else 4) for line in lines])


MEASURED = [
    # Two at once, and what is not.
    (("add r0, r1, r2", "eor r3, r4, r5"), 1),
    (("add r0, r1, r2", "eor r3, r0, r5"), 2),
    (("sxtb16 r0, r1", "sxtb16 r2, r3"), 2),
    (("sxtb16 r0, r1", "smlad r2, r3, r4, r2"), 1),
    (("smlad r2, r3, r4, r2", "sxtb16 r0, r1"), 2),  # bit operations in the older slot only
    (("smlad r0, r4, r5, r0", "smlad r1, r4, r5, r1"), 2),
    (("smlad r0, r4, r5, r0",), 1),  # a chain of accumulations
    (("smlad r0, r4, r5, r0", "str r3, [r6]"), 2),
    (("mul r0, r1, r2", "sxtb16 r3, r4"), 2),
    (("str r0, [r1]", "str r2, [r1, #4]"), 2),
    (("ldr r0, [r1]", "str r2, [r3]"), 1),
    # Banks: even and odd words of one base.
    (("ldr r0, [r1]", "ldr r2, [r1, #4]"), 1),
    (("ldr r0, [r1]", "ldr r2, [r1, #8]"), 2),
    (("ldr r0, [r1]", "ldr r2, [r3, #4]"), 2),
    # Pairs and lists never pair.
    (("ldrd r0, r1, [r2]", "add r3, r4, r5"), 2),
    (("ldmia r0, {r1, r2, r3, r4}", "add r5, r6, r7"), 3),
    # Load to use: none for an addition, a cycle for a multiplication, an address, a shift, lanes.
    (("ldr r0, [r1]", "add r2, r0, r3"), 2),
    (("ldr r0, [r1]", "smlad r2, r0, r3, r2"), 3),
    (("ldr r0, [r1]", "smlad r2, r3, r4, r0"), 2),
    (("ldr r0, [r1]", "sxtb16 r2, r0"), 3),
    (("ldr r1, [r1]",), 2),
    (("ldrsb r0, [r1]", "add r2, r0, r3"), 3),
    (("mul r0, r1, r2", "add r3, r0, r4"), 3),
    (("add r0, r1, r2, lsl #2", "eor r3, r4, r5, ror #8"), 2),
]


@pytest.mark.parametrize(("lines", "expected"), MEASURED, ids=lambda v: " | ".join(v) if isinstance(v, tuple) else "")
def test_two_a_cycle_as_measured(lines, expected):
    assert took("dual-measured", *lines) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("smlad r0, r4, r5, r0", "add r1, r2, r3"), 2),  # a multiplication in the older slot goes alone
        (("add r1, r2, r3", "smlad r0, r4, r5, r0"), 1),
        (("sxtb16 r1, r2", "smlad r0, r4, r5, r0"), 1),
        (("ldrd r0, r1, [r2]", "add r3, r0, r5"), 4),
    ],
)
def test_two_a_cycle_by_ports(lines, expected):
    assert took("dual-ports", *lines) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("add r0, r1, r2",), 1),
        (("ldr r0, [r1]", "add r2, r3, r4"), 3),
        (("ldr r0, [r1]", "ldr r2, [r1, #4]", "ldr r3, [r1, #8]", "add r4, r5, r6"), 5),  # 1 + N
        (("ldrd r0, r2, [r1]", "add r4, r5, r6"), 4),
        (("push {r0, r1, r2}",), 4),
        (("ldr r0, [r1], #4", "ldr r2, [r1], #4", "add r4, r5, r6"), 5),  # of one base they do not chain
        (("ldr r0, [r1], #4", "ldr r2, [r3], #4", "add r4, r5, r6"), 4),
        (("str r0, [r1, r2]",), 2),
        (("add r1, r2, r3", "ldr r0, [r1]"), 4),
        (("smlad r0, r4, r5, r0", "bne elsewhere"), 4),
        (("udiv r0, r1, r2",), 12),
    ],
)
def test_one_a_cycle_by_the_manual(lines, expected):
    assert took("single-manual", *lines) == expected


def test_long_multiplications_where_they_are_slow():
    assert took("single-slow-multiply", "smlal r0, r1, r2, r3") == 7
    assert took("single-manual", "smlal r0, r1, r2, r3") == 1


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("smlad r0, r4, r5, r0",), 1),
        (("smlad r0, r4, r5, r0", "add r1, r0, r2"), 3),
        (("ldr r0, [r1]", "add r2, r0, r3"), 3),
        (("ldr r0, [r1]", "smlad r2, r3, r4, r0"), 2),
        (("ldrd r0, r1, [r2]", "add r4, r5, r6"), 3),
        (("cmp r0, r1", "it ge", "movge r2, r3"), 2),  # the IT beside the comparison
        (("add r0, r1, r2", "add r3, r4, r5"), 2),
        (("subs r0, r0, #1", "bne elsewhere"), 3),
    ],
)
def test_one_a_cycle_with_late_results(lines, expected):
    assert took("single-forward", *lines) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("vmladava.s8 r0, q0, q1", "vmladava.s8 r2, q0, q1"), 4),
        (("vmladava.s8 r0, q0, q1", "vldrw.u32 q2, [r1]"), 2),  # two units overlap
        (("vldrw.u32 q2, [r1]", "vldrw.u32 q3, [r1, #16]"), 4),
        (("vldrh.u16 q2, [r3, q0]",), 8),
        (("vldrht.u16 q2, [r3, q0]",), 8),
        (("vldrb.u8 q2, [r3, q0]",), 16),
        (("vldrw.u32 q2, [r3, q0]",), 4),
        (("vld20.8 {q0, q1}, [r3]", "vld21.8 {q0, q1}, [r3]!"), 4),
        (("add r0, r1, r2", "le lr, elsewhere"), 2),
    ],
)
def test_beats(lines, expected):
    """A loop's end costs a cycle less where the core remembers it, which is not counted on."""
    assert took("beats", *lines) == pytest.approx(expected, abs=1 if "le" in lines[-1] else 0)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("adds r0, r1, r2",), 1),
        (("ldr r0, [r1, #4]", "ldr r2, [r1, #8]"), 4),
        (("strb r0, [r1, r2]",), 2),
        (("ldmia r0!, {r1, r2, r3}",), 4),
        (("pop {r4, pc}",), 5),
        (("muls r0, r1", "bne elsewhere"), 3),
        (("bl elsewhere",), 3),
    ],
)
def test_the_smallest_core_by_the_manual(lines, expected):
    assert took("single-short", *lines) == expected


@pytest.mark.parametrize(
    ("lines", "hazard3", "textbook"),
    [
        (("lw a0,4(a1)", "addi a2,a3,1"), 2, 2),
        (("lw a0,4(a1)", "addi a2,a0,1"), 3, 3),
        (("lb a0,0(a1)", "sb a0,0(a2)"), 2, 3),  # the data sheet: stored in the stage that it was loaded in
        (("lw a0,0(a1)", "lw a2,0(a0)"), 3, 3),
        (("mul a0,a1,a2", "add a3,a0,a3"), 2, 3),
        (("addi a0,a0,1", "bnez a0,80000010"), 3, 4),
        (("divu a0,a1,a2",), 19, 19),
        (("l8ui a2, a3, 0", "add.n a4, a2, a4"), 3, 3),
        (("addi.n a2, a2, -1", "bnez.n a2, 40000010"), 3, 4),
    ],
)
def test_cores_of_loads_and_stores(lines, hazard3, textbook):
    block = [risc.parse(line) for line in lines]
    assert cycles(RULES["single-hazard3"], block) == hazard3
    assert cycles(RULES["single-textbook"], block) == textbook


@pytest.mark.parametrize(
    ("line", "kind", "reads", "writes"),
    [
        ("lbu a5,-1(s10)", "load", {"s10"}, {"a5"}),
        ("sw zero,8(sp)", "store", {"sp"}, set()),
        ("li a5,160 # 0xa0", "alu", set(), {"a5"}),
        ("beq a0,zero,800000a0", "branch", {"a0"}, set()),
        ("jal ra,80001234", "call", {"ra"}, {"ra", "a0"}),
        ("ret", "branch", set(), set()),
        ("mulh t0,t1,s2", "multiply", {"t1", "s2"}, {"t0"}),
        ("s16i a2, a3, 4", "store", {"a2", "a3"}, set()),
        ("moveqz a2, a3, a4", "alu", {"a2", "a3", "a4"}, {"a2"}),
        ("ssl a3", "alu", {"a3"}, set()),
    ],
)
def test_what_one_of_riscv_or_xtensa_reads_and_writes(line, kind, reads, writes):
    found = risc.parse(line)
    assert (found.kind, found.reads, found.writes) == (kind, reads, writes)


@pytest.mark.parametrize(
    ("line", "kind", "reads", "writes"),
    [
        ("ldr r3, [r1], #4", "load", {"r1"}, {"r1", "r3"}),
        ("ldr r3, [sp, #0x60]", "load", {"sp"}, {"r3"}),
        ("ldrd r0, r1, [r2, #8]", "load_many", {"r2"}, {"r0", "r1"}),
        ("push {r4-r6, lr}", "store_many", {"sp", "r4", "r5", "r6", "lr"}, {"sp"}),
        ("smlal r0, r1, r2, r3", "multiply", {"r0", "r1", "r2", "r3"}, {"r0", "r1"}),
        ("smlalbb r0, r1, r2, r3", "multiply_half", {"r0", "r1", "r2", "r3"}, {"r0", "r1"}),
        ("smmulr r0, r1, r2", "multiply", {"r1", "r2"}, {"r0"}),
        ("muls r0, r1", "multiply", {"r0", "r1"}, {"r0", "flags"}),
        ("adds r0, #4", "alu", {"r0"}, {"r0", "flags"}),
        ("movge r1, r4", "alu", {"r1", "r4", "flags"}, {"r1"}),
        ("lslls r1, r1, #1", "alu", {"r1", "flags"}, {"r1"}),
        ("mov sl, r8", "alu", {"r8"}, {"sl"}),
        ("vmladav.s8 r0, q2, q0", "vector_sum", {"q2", "q0"}, {"r0"}),
        ("vmlava.s8 r0, q2, q0", "vector_sum", {"q2", "q0", "r0"}, {"r0"}),
        ("vqmovnt.s32 q0, q1", "vector_shift", {"q0", "q1"}, {"q0"}),
        ("vstrht.16 q1, [r1, q6]", "vector_store", {"q1", "r1", "q6"}, set()),
        ("vpush {d8, d9}", "store_many", {"sp", "d8", "d9"}, {"sp"}),
        ("tbb [pc, r0]", "branch", {"pc", "r0"}, set()),
    ],
)
def test_what_an_instruction_reads_and_writes(line, kind, reads, writes):
    found = parse(line)
    assert (found.kind, found.reads, found.writes) == (kind, reads, writes)
