"""The same rows in another shape: transposed, or one row with other dimensions of 1. No kernel."""

from __future__ import annotations

from dataclasses import dataclass

from embbert_tvm.graph.dataflow import Dataflow, Expr, channels_first, constant, op_name, rows_of
from embbert_tvm.graph.quantize.quantizer import Quantizer, Rows

_SHAPES = ("reshape", "squeeze", "expand_dims", "permute_dims")


@dataclass(frozen=True)
class Match:
    tensor: Expr


def match(graph: Dataflow, expr: Expr) -> Match | None:
    made = graph.producer(expr)
    if op_name(made) not in _SHAPES or constant(made.args[0]) is not None:
        return None
    x = made.args[0]
    before, after = rows_of(x), rows_of(expr)
    if before is None or after is None:
        return None
    one_row = before[0] == 1 and after[0] == 1
    transposed = op_name(made) == "permute_dims" and channels_first(x) != channels_first(expr)
    return Match(x) if one_row or transposed else None


def inputs(graph: Dataflow, found: Match) -> list[Expr]:
    """What the operator reads."""
    return [found.tensor]


def precision_source(found: Match) -> Expr:
    """The rows are in the precision of their tensor."""
    return found.tensor


def quantized(q: Quantizer, expr: Expr, found: Match) -> Rows:
    return q.quantized(found.tensor)


def dequantized(q: Quantizer, expr: Expr, found: Match) -> None:
    """The driver converts the int8 rows."""
