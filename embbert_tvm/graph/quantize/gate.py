"""The product of two values, element by element."""

from __future__ import annotations

from dataclasses import dataclass

from embbert_tvm.graph.dataflow import Dataflow, Expr, constant, op_name, shape
from embbert_tvm.graph.names import plain
from embbert_tvm.graph.quantize.quantizer import Kernel, Quantizer, Rows
from embbert_tvm.kernels import gate as kernel
from embbert_tvm.kernels.fixed_point import rescaled


@dataclass(frozen=True)
class Match:
    """a and b, of one shape: (1, L, K) or one row; one may be (L, K)."""

    a: Expr
    b: Expr


def match(graph: Dataflow, expr: Expr) -> Match | None:
    made = graph.producer(expr)
    if op_name(made) != "multiply" or any(constant(a) is not None for a in made.args):
        return None
    a, b = made.args
    dims = shape(expr)
    # Rows of a table have no batch.
    same = all(str(shape(x)) in (str(dims), str(dims[1:])) for x in (a, b)) and isinstance(dims[-1], int)
    fits = same and (len(dims) == 2 or (len(dims) == 3 and dims[0] == 1))
    return Match(a, b) if fits else graph.refuse(expr, f"{a.name} and {b.name} are not rows of one shape")


def inputs(graph: Dataflow, found: Match) -> list[Expr]:
    """What the operator reads."""
    return [found.a, found.b]


def precision_source(found: Match) -> None:
    """The plan says how this is computed."""


def weightless(graph: Dataflow, found: Match) -> bool:
    """It multiplies two values that are made elsewhere."""
    return True


def quantized(q: Quantizer, expr: Expr, found: Match) -> Rows:
    parts = [q.quantized(x) for x in (found.a, found.b)]
    one_row = isinstance(shape(expr)[-2], int)
    read = tuple((part.row or 0) if one_row else None for part in parts)
    spec = kernel.Gate(shape(expr)[-1], read, one_row)
    wanted = q.calibration.scale(expr.name)
    factor, scale = rescaled(parts[0].scale * parts[1].scale, wanted, kernel.GATE_BITS)
    args = [parts[0].expr, parts[1].expr, factor]
    out = ([1 if one_row else shape(parts[0].expr)[0], spec.width], "int8")
    reason = "two values, element by element"
    made = q.kernel(Kernel(kernel.gate(spec), spec), plain(expr.name), args, out, reason, {2: "multiplier"})
    return Rows(made, scale)


def dequantized(q: Quantizer, expr: Expr, found: Match) -> None:
    """The driver converts the int8 rows."""
