"""Multiplications with accumulation of a kernel, counted in its TIR.

What counts is `acc = acc + a * b` of two different tensors, and what the micro-kernels do of the kind: products,
scores, contexts and filters; not the squares of a norm, not scaling.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from tvm import s_tir, tirx
from tvm.ir import Call, TensorLoad, Var

from embbert_tvm.kernels.isa import MICRO_KERNELS
from embbert_tvm.kernels.row_block.kernel import ROWS_FOR_ONE

COST_OF_ELEMENT = 4  # of what a step makes, in multiplications
# Lengths at which kernels of any row block compute no row too many.
_LENGTHS = (32, 64, 96, 128)

_BINARY = {
    tirx.Add: operator.add,
    tirx.Sub: operator.sub,
    tirx.Mul: operator.mul,
    tirx.FloorDiv: operator.floordiv,
    tirx.FloorMod: operator.mod,
    tirx.Max: max,
    tirx.Min: min,
}


class _Unknown(Exception):
    """What cannot be counted."""


def macs(func: tirx.PrimFunc, where: Mapping[str, int]) -> int | None:
    """How many `func` does where its symbolic dimensions are these, by their names; None where it cannot be told."""
    rows = 1 if func.attrs is None else int(func.attrs.get(ROWS_FOR_ONE, 1))
    try:
        return _count(func.body, where) // rows
    except _Unknown:
        return None


def polynomial(count: Callable[[int], int | None]) -> tuple[int, int, int] | None:
    """(c0, c1, c2) with count(L) = c0 + c1 L + c2 L^2 at the lengths that fill every block; None if it is not so."""
    first, second, third, check = map(count, _LENGTHS)
    if None in (first, second, third, check):
        return None
    a, b, c, _ = map(Fraction, _LENGTHS)
    slope = (second - first) / (b - a)
    c2 = ((third - second) / (c - b) - slope) / (c - a)
    c1 = slope - c2 * (a + b)
    c0 = first - c1 * a - c2 * a * a
    found = (c0, c1, c2)
    if any(x.denominator != 1 for x in found) or at(found, _LENGTHS[-1]) != check:
        return None
    return int(c0), int(c1), int(c2)


def at(polynomial: tuple, length: int) -> int:
    """The polynomial's value."""
    c0, c1, c2 = polynomial
    return c0 + c1 * length + c2 * length * length


def _count(stmt, where: Mapping[str, int]) -> int:
    if isinstance(stmt, tirx.SeqStmt):
        return sum(_count(part, where) for part in stmt.seq)
    if isinstance(stmt, tirx.For):
        return _count_loop(stmt, where)
    if isinstance(stmt, s_tir.SBlockRealize):
        return _count(stmt.block.body, where)
    if isinstance(stmt, tirx.IfThenElse):
        other = _count(stmt.else_case, where) if stmt.else_case is not None else 0
        return max(_count(stmt.then_case, where), other)
    if isinstance(stmt, tirx.AttrStmt):
        return _count(stmt.body, where)
    if isinstance(stmt, tirx.BufferStore):
        return _products(stmt)
    if isinstance(stmt, tirx.Evaluate):
        return _micro(stmt.value, where)
    if isinstance(stmt, (tirx.AllocBuffer, tirx.DeclBuffer, tirx.Bind)):
        return 0
    raise _Unknown


def _count_loop(stmt: tirx.For, where: Mapping[str, int]) -> int:
    try:
        inside = _count(stmt.body, where)
    except _Unknown:
        # What is done may depend on which round it is.
        rounds = range(_value(stmt.extent, where))
        return sum(_count(stmt.body, {**where, stmt.loop_var.name: i}) for i in rounds)
    return inside * _value(stmt.extent, where) if inside else 0


def _micro(value, where: Mapping[str, int]) -> int:
    if not isinstance(value, Call) or not value.op.name.endswith("call_extern"):
        return 0
    name, *args = value.args
    numbers = [a for a in args if not isinstance(a, TensorLoad) and not _is_pointer(a)]
    kernel = MICRO_KERNELS.find(name.value)
    if kernel is None:
        raise _Unknown
    sizes = numbers[len(numbers) - kernel.sizes :]
    return kernel.macs(*(_value(size, where) for size in sizes))


def _is_pointer(expr) -> bool:
    return isinstance(expr, Call) and expr.op.name.endswith("address_of")


def _products(store: tirx.BufferStore) -> int:
    """1 where the store adds a product to what it overwrites."""
    value = store.value
    if not isinstance(value, tirx.Add):
        return 0
    for old, new in ((value.a, value.b), (value.b, value.a)):
        new = _bare(new)
        if _reads(old) == {store.buffer} and isinstance(new, tirx.Mul):
            left, right = _reads(new.a), _reads(new.b)
            return int(bool(left and right) and left != right)
    return 0


def _bare(expr):
    while isinstance(expr, tirx.Cast):
        expr = expr.value
    return expr


def _reads(expr) -> set[Var]:
    """The buffers whose elements an expression is made of, without those that only index."""
    if isinstance(expr, TensorLoad):
        return {expr.source}
    if isinstance(expr, tirx.Cast):
        return _reads(expr.value)
    if isinstance(expr, Call):  # if_then_else(condition, ...)
        return set().union(*(_reads(arg) for arg in list(expr.args)[1:]))
    if isinstance(expr, tirx.Select):
        return _reads(expr.true_value) | _reads(expr.false_value)
    if hasattr(expr, "a") and hasattr(expr, "b"):
        return _reads(expr.a) | _reads(expr.b)
    return set()


def _value(expr, where: Mapping[str, int]) -> int:
    if isinstance(expr, int):
        return expr
    if isinstance(expr, tirx.IntImm):
        return int(expr)
    if isinstance(expr, Var) and expr.name in where:
        return where[expr.name]
    if isinstance(expr, tirx.Cast):
        return _value(expr.value, where)
    if type(expr) in _BINARY:
        return _BINARY[type(expr)](_value(expr.a, where), _value(expr.b, where))
    raise _Unknown


def cost_text(macs: tuple[int, int, int] | None, counts: Sequence[str]) -> str:
    """A C expression in L: multiplications, and what elements cost that come of none. counts: of what is made."""
    c0, c1, c2 = macs or (0, 0, 0)
    terms = [str(c0)] * bool(c0) + [f"L * ({c1} + L * {c2})" if c2 else f"L * {c1}"] * bool(c1 or c2)
    alike = Counter(counts)
    return " + ".join([*terms, *(f"{count} * {times * COST_OF_ELEMENT}" for count, times in alike.items())])
