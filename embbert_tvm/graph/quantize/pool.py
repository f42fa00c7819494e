"""The mean, the largest, the root of the mean square or the last of all rows, one row of what is made of many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import sym
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Dataflow, Expr, channels_first, constant, number, op_name, rows_of, shape
from embbert_tvm.graph.names import plain
from embbert_tvm.graph.quantize.quantizer import Kernel, Quantizer, Rows
from embbert_tvm.kernels import pool as kernel
from embbert_tvm.kernels.fixed_point import rescaled

# The most that epsilon may be, in steps of the mean square: their sum stays below 2^31.
_MOST_EPSILON = 2**29


@dataclass(frozen=True)
class Match:
    """x (1, L, K) or (1, K, L); epsilon of a root mean square."""

    kind: str
    x: Expr
    epsilon: float = 0.0


def match(graph: Dataflow, expr: Expr) -> Match | None:
    made = graph.producer(expr)
    if op_name(made) in ("mean", "max"):
        x = _over_rows(graph, made)
        return None if x is None else Match(op_name(made), x)
    if op_name(made) == "strided_slice":
        one = len(shape(expr)) == 3 and shape(expr)[1] == 1
        return Match("last", made.args[0]) if one and _takes_last(made) else None
    if op_name(made) != "sqrt" or graph.uses(made.args[0]) != 1:
        return None
    inside, epsilon = made.args[0], 0.0
    if (total := graph.match(inside, "add")) is not None:
        value = constant(total.args[1])
        if value is None or value.size != 1 or graph.uses(total.args[0]) != 1:
            return None
        inside, epsilon = total.args[0], float(value.reshape(-1)[0])
    mean = graph.match(inside, "mean")
    x = _over_rows(graph, mean) if mean is not None else None
    square = graph.producer(x) if x is not None and graph.uses(x) == 1 else None
    if op_name(square) == "power":
        exponent = constant(square.args[1])
        squares = exponent is not None and exponent.size == 1 and float(exponent.reshape(-1)[0]) == 2.0
    else:
        squares = op_name(square) == "multiply" and square.args[0].same_as(square.args[1])
    rows = squares and rows_of(square.args[0]) is not None and epsilon >= 0
    return Match("rms", square.args[0], epsilon) if rows else None


def _takes_last(made: Call) -> bool:
    """Whether a strided_slice of (1, L, K) takes the last row."""
    dims = shape(made.args[0])
    if constant(made.args[0]) is not None or len(dims) != 3 or dims[0] != 1 or isinstance(dims[1], int):
        return False
    axes, begins, ends = (list(part.fields) for part in made.args[1:4])
    by_axis = {int(a) % 3: (begin, end) for a, begin, end in zip(axes, begins, ends, strict=True)}
    if 1 not in by_axis or 2 in by_axis or not isinstance(dims[2], int):
        return False
    begin, end = by_axis[1]
    prove = sym.Analyzer().can_prove_equal
    if len(made.args) > 4 and any(int(step) != 1 for step in made.args[4].fields):
        return False
    last = number(begin) == -1 or (number(begin) is None and prove(begin, dims[1] - 1))
    return last and (number(end) is not None or prove(end, dims[1]))


def _over_rows(graph: Dataflow, made: Expr) -> Expr | None:
    """x (1, L, K), where `made` goes over its rows, L being what is not known."""
    x, axes = made.args[0], [int(a) for a in made.attrs.axis or ()]
    dims = shape(x)
    if constant(x) is not None or len(dims) != 3 or dims[0] != 1 or len(axes) != 1:
        return None
    axis = axes[0] % 3
    if axis == 2 and channels_first(x) and graph.match(x, "permute_dims") is None:
        return x
    if axis == 2 and (transposed := graph.match(x, "permute_dims")) is not None:
        x, axis = (transposed.args[0], 1) if [int(a) for a in transposed.attrs.axes] == [0, 2, 1] else (x, 2)
        dims = shape(x)
    fits = axis == 1 and not isinstance(dims[1], int) and isinstance(dims[2], int)
    return x if fits else None


def inputs(graph: Dataflow, found: Match) -> list[Expr]:
    """What the operator reads."""
    return [found.x]


def precision_source(found: Match) -> None:
    """The plan says how this is computed."""


def quantized(q: Quantizer, expr: Expr, found: Match) -> Rows:
    return _pooled(q, expr, found, q.calibration.scale(expr.name), "int8")


def wide(q: Quantizer, expr: Expr, found: Match) -> Rows:
    return _pooled(q, expr, found, q.wide_scale(expr.name), "int16")


def _pooled(q: Quantizer, expr: Expr, found: Match, wanted: float, made_in: str) -> Rows:
    """The pooled row in steps of `wanted`, or of the next coarser that the kernel can make."""
    x = q.wide(found.x) if found.x in q.streams else q.quantized(found.x)
    spec = kernel.Pool(found.kind, rows_of(found.x)[1], x.dtype, made_in)
    factor, scale = rescaled(x.scale, wanted, kernel.BITS)
    args: list = [x.expr]
    names = {}
    if spec.kind == "rms":
        bits = kernel.SQUARE_BITS if spec.dtype == "int8" else 0
        epsilon = min(round(found.epsilon / x.scale**2 * 2**bits), _MOST_EPSILON)
        names[len(args)] = "epsilon"
        args.append(np.array([epsilon], np.int32))
    names[len(args)] = "multiplier"
    args.append(factor)
    reason = f"the {spec.kind} of all rows, as they come"
    made = q.kernel(Kernel(kernel.pool(spec), spec), plain(expr.name), args, ([1, spec.width], made_in), reason, names)
    return Rows(made, scale, dtype=made_in)


def dequantized(q: Quantizer, expr: Expr, found: Match) -> None:
    """The driver converts the int8 row."""
