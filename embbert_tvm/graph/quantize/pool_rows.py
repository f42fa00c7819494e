"""Pooling with a stride: the means of neighbouring rows, between two transpositions or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embbert_tvm.graph.dataflow import Dataflow, Expr, channels_first, rows_of, transposed_of
from embbert_tvm.graph.names import plain
from embbert_tvm.graph.quantize.quantizer import Kernel, Quantizer, Rows
from embbert_tvm.kernels.fixed_point import rescaled
from embbert_tvm.kernels.pool_rows import BITS, MOST, PoolRows, pool_rows


@dataclass(frozen=True)
class Match:
    """x (1, L, K) or (1, K, L); rows of a window, and from one to the next."""

    x: Expr
    size: int
    stride: int


def match(graph: Dataflow, expr: Expr) -> Match | None:
    made = expr if channels_first(expr) else transposed_of(graph, expr)
    if made is None or (not made.same_as(expr) and graph.uses(made) != 1):
        return None
    pool = graph.match(made, "nn.avg_pool1d")
    if pool is None or not channels_first(pool.args[0]):
        return None
    attrs, outer = pool.attrs, transposed_of(graph, pool.args[0])
    size, stride = int(attrs.pool_size[0]), int(attrs.strides[0])
    if any(int(p) for p in attrs.padding) or int(attrs.dilation[0]) != 1 or size > MOST:
        return graph.refuse(expr, f"{made.name} has padding, a dilation or windows of {size} rows")
    if attrs.ceil_mode and attrs.count_include_pad:
        return graph.refuse(expr, f"{made.name} divides by rows that are not there")
    return Match(pool.args[0] if outer is None else outer, size, stride)


def inputs(graph: Dataflow, found: Match) -> list[Expr]:
    """What the operator reads."""
    return [found.x]


def precision_source(found: Match) -> None:
    """The plan says how this is computed."""


def quantized(q: Quantizer, expr: Expr, found: Match) -> Rows:
    x = q.quantized(found.x)
    spec = PoolRows(found.size, found.stride, rows_of(found.x)[1])
    wanted = q.calibration.scale(expr.name)
    (factor,), scale = rescaled(x.scale / spec.size, wanted, BITS)
    fewer = [int(factor) * spec.size / n for n in range(1, spec.size + 1)]
    factors = np.minimum(np.rint(fewer), 2**31 - 1).astype(np.int32)
    out = ([rows_of(expr)[0], spec.width], "int8")
    reason = f"the mean of {spec.size} rows"
    made = q.kernel(Kernel(pool_rows(spec), spec), plain(expr.name), [x.expr, factors], out, reason, {1: "multiplier"})
    return Rows(made, scale)


def dequantized(q: Quantizer, expr: Expr, found: Match) -> None:
    """The driver converts the int8 rows."""
