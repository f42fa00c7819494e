"""The first row of a tensor: no kernel, its consumers read that row."""

from __future__ import annotations

from dataclasses import dataclass, replace

from embbert_tvm.graph.dataflow import Dataflow, Expr, constant, number, op_name, shape
from embbert_tvm.graph.quantize.quantizer import Quantizer, Rows


@dataclass(frozen=True)
class Match:
    tensor: Expr
    row: int


def match(graph: Dataflow, expr: Expr) -> Match | None:
    made = graph.producer(expr)
    name = op_name(made)
    if name == "take" and made.attrs.axis is not None and int(made.attrs.axis) == 1:
        row = constant(made.args[1])
        start = int(row) if row is not None and row.size == 1 else None
    elif name == "strided_slice" and [int(a) for a in made.args[1].fields] == [1] and shape(expr)[1] == 1:
        start = number(made.args[2].fields[0])
    else:
        return None
    tensor = made.args[0]
    # A text may be shorter than any other row's number.
    if start != 0 or constant(tensor) is not None or len(shape(tensor)) != 3:
        return None
    return Match(tensor, start)


def inputs(graph: Dataflow, found: Match) -> list[Expr]:
    """What the operator reads."""
    return [found.tensor]


def precision_source(found: Match) -> Expr:
    """A row is in the precision of its tensor."""
    return found.tensor


def quantized(q: Quantizer, expr: Expr, found: Match) -> Rows:
    whole = q.quantized(found.tensor)
    return replace(whole, row=found.row + (whole.row or 0))


def wide(q: Quantizer, expr: Expr, found: Match) -> Rows:
    whole = q.wide(found.tensor)
    return replace(whole, row=found.row + (whole.row or 0))


def dequantized(q: Quantizer, expr: Expr, found: Match) -> None:
    """The driver converts the int8 row."""
