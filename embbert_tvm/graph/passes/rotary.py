"""Queries and keys as ModernBERT makes them: one of several parts of a linear map's columns, rotated by positions.

RoPE (arXiv 2104.09864) in the form of transformers' `rotate_half`: x * cos + (-x[width/2:], x[:width/2]) * sin.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.ir import TupleGetItem, Var

from embbert_tvm.graph.dataflow import Expr, Rebuilder, constant, number, op_name, shape


@dataclass(frozen=True)
class Rotated:
    """rows (1, heads, L, width), and the tables (L, width) of cosines and sines that rotate them."""

    rows: Var
    cosines: Expr
    sines: Expr


@dataclass(frozen=True)
class OneOfSeveral:
    """The number-th of `count` equal parts of the columns of `rows` (1, L, count * heads * width)."""

    rows: Expr
    number: int
    count: int


def find_rotated(expr: Expr, graph: Rebuilder) -> Rotated | None:
    """What `expr` is a rotation of, where nothing else reads that."""
    total = graph.match(expr, "add")
    if total is None or not graph.single_use(expr):
        return None
    for straight, crossed in (total.args, reversed(total.args)):
        rows, cosines = _by_table(straight, graph) or (None, None)
        halves, sines = _by_table(crossed, graph) or (None, None)
        if rows is None or halves is None or not _is_half_rotated(halves, rows, graph):
            continue
        # It reads them once, and their halves once each.
        if graph.source.uses(graph.origin(rows)) == 3:
            return Rotated(rows, cosines, sines)
    return None


def _by_table(expr: Expr, graph: Rebuilder) -> tuple[Var, Expr] | None:
    """(x, rows of a constant table), whose product `expr` is."""
    made = graph.match(expr, "multiply")
    if made is None or not graph.single_use(expr):
        return None
    for x, table in (made.args, reversed(made.args)):
        cut = graph.match(table, "strided_slice")
        if cut is not None and constant(cut.args[0]) is not None and len(shape(table)) == 2 and isinstance(x, Var):
            return x, table
    return None


def _is_half_rotated(expr: Expr, rows: Expr, graph: Rebuilder) -> bool:
    """Whether `expr` is (-second half, first half) of the rows' columns."""
    made, width = graph.match(expr, "concat"), shape(rows)[-1]
    if made is None or int(made.attrs.axis) not in (-1, 3) or len(made.args[0].fields) != 2 or width % 2:
        return False
    minus, first = made.args[0].fields
    negative = graph.match(minus, "negative")
    if negative is None:
        return False
    half = width // 2
    return _columns(negative.args[0], rows, graph) == (half, width) and _columns(first, rows, graph) == (0, half)


def _columns(expr: Expr, rows: Expr, graph: Rebuilder) -> tuple[int, int] | None:
    """The columns (first, end) of `rows` that `expr` is."""
    cut = graph.match(expr, "strided_slice")
    if cut is None or not cut.args[0].same_as(rows) or [number(v) for v in cut.args[1].fields] not in ([3], [-1]):
        return None
    if len(cut.args) > 4 and number(cut.args[4].fields[0]) != 1:
        return None
    begin, end = (number(cut.args[i].fields[0]) for i in (2, 3))
    return None if begin is None or end is None else (begin, min(end, shape(rows)[-1]))


def find_one_of_several(expr: Expr, graph: Rebuilder) -> OneOfSeveral | None:
    """The part of a linear map's columns, laid out as (1, L, count, heads, width), that `expr`, one of `count`, is."""
    flat = graph.match(expr, "squeeze")
    if flat is None or len(shape(flat.args[0])) != 5:
        return None
    made = graph.producer(flat.args[0])
    if isinstance(made, TupleGetItem):
        split, at = graph.producer(made.tuple_value), made.index
        fits = op_name(split) == "split" and int(split.attrs.axis) % 5 == 2
        laid = split.args[0] if fits else None
    elif op_name(made) == "strided_slice" and [number(v) for v in made.args[1].fields] in ([2], [-3]):
        laid, at = made.args[0], number(made.args[2].fields[0])
    else:
        return None
    reshaped = graph.match(laid, "reshape") if laid is not None else None
    if reshaped is None or shape(expr)[0] != 1 or shape(flat.args[0])[2] != 1 or at is None:
        return None
    return OneOfSeveral(reshaped.args[0], at, shape(laid)[2])
