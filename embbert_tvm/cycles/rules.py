"""The rules of the pipelines that a CPU's file names under `pipelines`, each from a published source.

    dual-measured   two instructions a cycle, as measured by jnk0le (github.com/jnk0le/random, "pipeline cycle test",
                    cortex_m7.md, CC0); where a measurement is doubtful, the slower reading
    dual-ports      the same core as SLOTHY 0.2.2 models it (arm_v7m/cortex_m7.py), with what that model lacks:
                    multiplications only in the younger slot or alone, bit operations only in the older
    single-manual   one a cycle; loads and stores by Arm DDI 0439 (Cortex-M4), table of cycles: one takes two cycles, a
                    load that follows a load one, one of N words 1 + N, a taken branch three
    single-slow-multiply   the same where long multiplications take their time (Arm DDI 0337, Cortex-M3)
    single-short    the same of the Cortex-M0+ (Arm DDI 0484, table 3.1): loads and stores two cycles, a taken branch
                    two; an M0 (Arm DDI 0432) takes one more a taken branch
    single-forward  one a cycle and results two cycles later (jnk0le, cortex_m33.md)
    beats           MVE on a data path of 64 bits: two cycles an instruction of a unit, units overlap (SLOTHY's
                    arm_v81m/cortex_m55r1.py and Arm's optimization guide of the core); a gather an element a cycle

    single-hazard3  RISC-V on the RP2350 (its data sheet, 3.8.7): a load's result a cycle late, a taken branch two
                    cycles; without its predictor of one branch
    single-textbook an in-order pipeline of four or five stages: results of loads and multiplications a cycle late, a
                    taken branch three cycles. For cores whose makers publish no table: Espressif's RISC-V, Xtensa LX106

What none of them knows: caches and wait states (caches.py), mispredicted branches, alignment of code.
"""

from __future__ import annotations

from collections.abc import Mapping

from embbert_tvm.cycles.instruction import Instruction
from embbert_tvm.cycles.pipeline import USES, Rules

_VECTOR_CYCLES = 2


def _uses(plain: int, **others: int) -> dict[str, int]:
    return {use: others.get(use, plain) for use in USES}


def _half(count: int) -> int:
    return (count + 1) // 2


# ---- two a cycle

_LONG = {"divide": 8, "root": 14, "float_divide": 16}


def _dual_occupies(one: Instruction, _: Instruction | None) -> int:
    if one.kind in ("load_many", "store_many"):
        return max(1, _half(one.many))
    return _LONG.get(one.kind, 1)


def _is_float(one: Instruction) -> bool:
    return one.kind in ("float", "float_divide", "root", "float_move")


def _same_bank(first: Instruction, second: Instruction) -> bool:
    """Whether two loads may want one bank: surely not an even and an odd word from one base."""
    known = first.base == second.base and first.offset is not None and second.offset is not None
    return not known or first.moves_base or (first.offset // 4) % 2 == (second.offset // 4) % 2


def _loads(one: Instruction) -> bool:
    return one.kind in ("load", "load_part")


def _multiplies(one: Instruction) -> bool:
    return one.kind in ("multiply", "multiply_half")


def _never_pairs(first: Instruction, second: Instruction) -> bool:
    """Under both sets of rules."""
    many = ("load_many", "store_many", "divide", "root", "float_divide", "call")
    return (
        first.kind in many
        or second.kind in many
        or first.branch
        or (first.kind == "store" and second.kind == "store")
        or (_multiplies(first) and _multiplies(second))
        or (_is_float(first) and _is_float(second))
        or (_loads(first) and _loads(second) and _same_bank(first, second))
        or (first.kind == "nop" and first.name != "nop")
    )


def _pairs_measured(first: Instruction, second: Instruction) -> bool:
    if _never_pairs(first, second) or second.kind == "bits":
        return False
    if (first.kind == "store" and _multiplies(second)) or (_multiplies(first) and second.kind == "store"):
        return False
    if (first.shifted or first.kind == "bits") and second.shifted:
        return False
    return not (first.kind == "bits" and second.kind == "multiply")


def _pairs_ports(first: Instruction, second: Instruction) -> bool:
    if _never_pairs(first, second) or second.kind == "bits" or _multiplies(first):
        return False
    if first.kind == "store" and _multiplies(second):
        return False
    return not (first.shifted and second.shifted)


DUAL_MEASURED = Rules(
    "dual-measured",
    {
        "": _uses(1),
        "bits": _uses(1, early=2),
        "load": _uses(1, early=2, bits=2, multiply=2, stored=0),
        "load_part": _uses(2, early=3, bits=3, added=1, stored=0),
        "load_many": _uses(2, early=3),
        "multiply": _uses(2, early=3, added=1, stored=1),
        "multiply_half": _uses(2, early=3, added=1, stored=1),
        "divide": _uses(8, early=9),
        "float": _uses(3, added=3),
        "float_move": _uses(3),
        "root": _uses(14),
        "float_divide": _uses(16),
    },
    _dual_occupies,
    _pairs_measured,
)
DUAL_PORTS = Rules(
    "dual-ports",
    {
        "": _uses(1, early=2),
        "load": _uses(1, early=2, bits=2, multiply=2),
        "load_part": _uses(2),
        "load_many": _uses(3),
        "multiply": _uses(2, early=3, added=1),
        "multiply_half": _uses(2, early=3, added=1),
        "divide": _uses(8),
        "float": _uses(3),
        "float_move": _uses(3),
        "root": _uses(14),
        "float_divide": _uses(16),
    },
    _dual_occupies,
    _pairs_ports,
)


# ---- one a cycle


def _manual(one: Instruction, before: Instruction | None) -> int:
    """Cycles of the manual's table; a load after a load, or a store after a load, runs in its shadow."""
    if one.kind in ("load", "load_part"):
        chained = before is not None and _loads(before)
        same = chained and one.moves_base and before is not None and before.moves_base and one.base == before.base
        return 1 if chained and not same else 2
    if one.kind == "store":
        register_offset = one.base is None
        return 2 if register_offset else 1
    if one.kind in ("load_many", "store_many"):
        return 1 + one.many
    if one.kind in ("root", "float_divide"):
        return 14
    if one.kind == "divide":
        return 12
    return 3 if one.name.startswith(("vfma", "vfms", "vmla", "vmls", "vnmla", "vfnma")) else 1


def _slow(one: Instruction, before: Instruction | None) -> int:
    if one.name in ("mla", "mls"):
        return 2
    if one.name in ("umull", "smull"):
        return 5
    return 7 if one.name in ("umlal", "smlal") else _manual(one, before)


_AT_ONCE: Mapping[str, Mapping[str, int]] = {"": _uses(1, early=2), "float": _uses(2, stored=1)}
SINGLE_MANUAL = Rules("single-manual", _AT_ONCE, _manual, branch=2)
SINGLE_SLOW_MULTIPLY = Rules("single-slow-multiply", _AT_ONCE, _slow, branch=2)


def _short(one: Instruction, _: Instruction | None) -> int:
    if one.kind in ("load_many", "store_many"):
        return 1 + one.many + (2 if "pc" in one.writes else 0)
    return 2 if one.memory or one.kind == "call" else 1


SINGLE_SHORT = Rules("single-short", _AT_ONCE, _short, branch=1)


def _forward_occupies(one: Instruction, _: Instruction | None) -> int:
    if one.kind in ("load_many", "store_many"):
        return one.many
    if one.kind == "divide":
        return 11
    return 2 if one.name == "muls" else 1


def _float_unit(one: Instruction) -> tuple[str, int] | None:
    if one.kind in ("root", "float_divide"):
        return ("float", 14)
    return ("float", 3 if one.name.startswith(("vfm", "vml")) else 1) if one.kind == "float" else None


def _pairs_free(first: Instruction, second: Instruction) -> bool:
    """Whether the second of two short instructions is free: IT or NOP."""
    return second.kind == "nop" and second.bytes == 2 and not first.branch


_FORWARDED = {
    "": _uses(1),
    "load": _uses(2, added=1, stored=1),
    "load_part": _uses(2, added=1, stored=1),
    "load_many": _uses(2, added=1, stored=1),
    "multiply": _uses(2, added=1, stored=1),
    "multiply_half": _uses(2, added=1, stored=1),
    "float": _uses(3),
    "root": _uses(14),
    "float_divide": _uses(14),
}
SINGLE_FORWARD = Rules("single-forward", _FORWARDED, _forward_occupies, _pairs_free, _float_unit, branch=1)

# ---- RISC-V and Xtensa


def _division(one: Instruction, _: Instruction | None) -> int:
    return 19 if one.kind == "divide" else 1


SINGLE_HAZARD3 = Rules("single-hazard3", {"": _uses(1), "load": _uses(2, stored=1)}, _division, branch=1)
SINGLE_TEXTBOOK = Rules("single-textbook", {"": _uses(1), "load": _uses(2), "multiply": _uses(2)}, _division, branch=2)

# ---- beats


def _beat_unit(one: Instruction) -> tuple[str, int] | None:
    """Loads and stores share the port to memory; a gather or a scatter goes an element at a time."""
    if one.gathers:
        return ("memory", 16 // max(1, one.element))
    if one.kind in ("vector_load", "vector_store", "vector_load_apart", "vector_store_apart"):
        return ("memory", _VECTOR_CYCLES)
    if one.memory:
        return ("memory", max(1, one.many))
    if one.kind in ("vector_sum", "vector_multiply"):
        return ("multiply", _VECTOR_CYCLES)
    if one.vector:
        return ("add", _VECTOR_CYCLES)
    return _float_unit(one)


BEATS = Rules(
    "beats",
    {
        **_FORWARDED,
        "vector_load": _uses(1, early=2),
        "vector_load_apart": _uses(2),
        "vector_alu": _uses(1, early=2),
        "vector_add": _uses(1, early=2),
        "vector_move": _uses(1, early=2),
        "vector_shift": _uses(2),
        "vector_multiply": _uses(2, stored=1),
        # To a register of the core; as what the next adds to it comes in time.
        "vector_sum": _uses(3, added=2),
    },
    _forward_occupies,
    _pairs_free,
    _beat_unit,
)

_ALL = (
    DUAL_MEASURED, DUAL_PORTS, SINGLE_MANUAL, SINGLE_SLOW_MULTIPLY, SINGLE_SHORT, SINGLE_FORWARD, SINGLE_HAZARD3,
    SINGLE_TEXTBOOK, BEATS,
)  # fmt: skip
RULES = {rules.name: rules for rules in _ALL}
