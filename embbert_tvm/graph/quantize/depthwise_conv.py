"""Depthwise convolution over time, between two transpositions or not, with the activation after it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from embbert_tvm.graph.dataflow import Dataflow, Expr, channels_first, constant, rows_of, shape, transposed_of
from embbert_tvm.graph.names import plain
from embbert_tvm.graph.quantize.quantizer import Kernel, Quantizer, Rows
from embbert_tvm.graph.quantize.weights import finish, low_bit, per_channel, under_activation
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv, depthwise_conv


@dataclass(frozen=True)
class Match:
    """x (1, L, C / n) or (1, C / n, L); weight (C, taps) and bias (C,), real; inner: the value before the activation;
    after: rows ahead that it reads; dilation: rows from one tap to the next."""

    x: Expr
    weight: np.ndarray
    bias: np.ndarray
    inner: Expr
    after: int
    dilation: int


def match(graph: Dataflow, expr: Expr) -> Match | None:
    inner = under_activation(graph, expr)
    made = inner if channels_first(inner) else transposed_of(graph, inner)
    if made is None or (not made.same_as(inner) and graph.uses(made) != 1):
        return None
    bias = np.zeros(1)
    add = graph.match(made, "add")
    if add is not None:
        bias, made = constant(add.args[1]), add.args[0]
        if graph.uses(made) != 1:
            return None
    conv = graph.match(made, "nn.conv1d")
    if conv is None or bias is None:
        return None
    weight, outer = constant(conv.args[1]), transposed_of(graph, conv.args[0])
    x = conv.args[0] if outer is None else outer
    if weight is None or weight.shape[1] != 1 or constant(x) is not None:
        return None
    channels, _, taps = weight.shape
    attrs = conv.attrs
    before, after = (int(p) for p in attrs.padding)
    groups, dilation = int(attrs.groups), int(attrs.dilation[0])
    # As many rows as it reads; the first of them where it was cut to one (passes/dead_rows.py).
    whole = before + after == dilation * (taps - 1)
    width = rows_of(x)
    if not whole or int(attrs.strides[0]) != 1 or width is None or width[1] != groups or channels % groups:
        if int(attrs.groups) == 1:
            return None  # of all channels, a product through a window
        what = f"{before} + {after} rows of padding around {taps} taps, a stride of {int(attrs.strides[0])}"
        return graph.refuse(expr, f"{made.name} has {what}, {groups} groups of {channels} channels")
    flat = np.broadcast_to(bias.reshape(-1), (channels,))
    return Match(x, weight[:, 0, :], flat, inner, after, dilation)


def inputs(graph: Dataflow, found: Match) -> list[Expr]:
    """What the operator reads."""
    return [found.x]


def precision_source(found: Match) -> None:
    """The plan says how this is computed."""


def quantized(q: Quantizer, expr: Expr, found: Match) -> Rows:
    x = q.quantized(found.x)
    weight, weight_format = found.weight.astype(np.float64) * x.scale, q.weight_format(expr.name)
    channels = low_bit(weight, found.bias, weight_format) if weight_format.stored else per_channel(weight, found.bias)
    last = finish(q.graph, q.calibration, expr, found.inner, channels)
    count, taps = found.weight.shape
    args = [x.expr, np.ascontiguousarray(channels.weight.T), channels.bias, *last.constants]
    if channels.blocks is not None:
        q.keep_blocks(args[1], channels.blocks)
    names = dict(enumerate(("weight", "bias", *last.names), start=1))
    spec = DepthwiseConv(taps, count, last.kind, x.row, expansion=count // rows_of(found.x)[1])
    spec = replace(spec, after=found.after, dilation=found.dilation)
    made = q.kernel(
        Kernel(depthwise_conv(spec), spec),
        plain(expr.name),
        args,
        ([shape(x.expr)[0] if x.row is None else 1, count], "int8"),
        f"convolution and {last.kind.name} in one kernel",
        names,
    )
    return Rows(made, last.scale)


def dequantized(q: Quantizer, expr: Expr, found: Match) -> None:
    """The driver converts the int8 rows."""
