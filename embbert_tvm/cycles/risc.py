"""RISC-V and Xtensa instructions as a pipeline's rules see them: loads and stores apart, three operands at most."""

from __future__ import annotations

import functools
import re

from embbert_tvm.cycles.instruction import Instruction, Kinds

_REGISTER = re.compile(r"\b(?:zero|ra|[sgtf]p|[ast]\d{1,2})\b")
# `.n` of Xtensa's short forms is left out, what else is an operation.
_KINDS = Kinds(
    (r"l[bh]u?|lw|l8ui|l16[su]i|l32[ir]", "load"),
    (r"s[bhw]|s8i|s16i|s32i", "store"),
    (r"mul\w*", "multiply"),
    (r"(?:div|rem|quo)\w*", "divide"),
    (r"jal|jalr|call|tail|callx?0", "call"),
    (r"b\w+|j[rx]?|ret", "branch"),
    (r"nop\w*|unimp|ill", "nop"),
)
# Xtensa's shifts take their amount from a register that these set.
_SETS_SHIFT = re.compile(r"ss[lra]\w*|ssai")
# What writes its first operand only under a condition, so that it reads it too.
_CONDITIONAL_MOVE = re.compile(r"mov(?:eqz|nez|ltz|gez)")


@functools.lru_cache(maxsize=65536)
def parse(text: str, size: int = 4) -> Instruction:
    """An instruction as GNU objdump prints it; size: of its encoding in bytes."""
    head, _, rest = re.sub(r"\s*#.*", "", text).strip().partition(" ")
    name = head.lower().removesuffix(".n")
    kind = _KINDS.of(name) or "alu"
    registers = _REGISTER.findall(rest)
    if kind in ("branch", "store", "nop") or _SETS_SHIFT.fullmatch(name):
        writes: set[str] = set()
        reads = set(registers)
    elif kind == "call":
        writes, reads = {"ra", "a0"}, set(registers)
    else:
        writes, reads = set(registers[:1]), set(registers[1:])
        if _CONDITIONAL_MOVE.fullmatch(name):
            reads |= writes
    # The address of a load or a store: its last register, in brackets on RISC-V.
    early = set(registers[-1:]) if kind in ("load", "store") and len(registers) > 1 else set()
    gone = {"zero"}  # always nought, and never waited for
    return Instruction(text, name, kind, size, frozenset(reads - gone), frozenset(writes - gone), frozenset(early))
