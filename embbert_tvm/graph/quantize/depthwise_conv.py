"""Causal depthwise convolution over time between two transpositions, with the activation after it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embbert_tvm.graph.dataflow import Dataflow, Expr, constant, shape
from embbert_tvm.graph.names import plain
from embbert_tvm.graph.quantize.quantizer import Quantizer, Rows
from embbert_tvm.graph.quantize.weights import finish, low_bit, per_channel, under_activation
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv, depthwise_conv


@dataclass(frozen=True)
class Match:
    """x (1, L, C / n); weight (C, taps) and bias (C,), real; inner: the value before the activation."""

    x: Expr
    weight: np.ndarray
    bias: np.ndarray
    inner: Expr


def _turned(graph: Dataflow, expr: Expr) -> Expr | None:
    call = graph.match(expr, "permute_dims")
    return call.args[0] if call is not None and [int(a) for a in call.attrs.axes] == [0, 2, 1] else None


def match(graph: Dataflow, expr: Expr) -> Match | None:
    inner = under_activation(graph, expr)
    channels_first = _turned(graph, inner)
    if channels_first is None or graph.uses(channels_first) != 1:
        return None
    bias = np.zeros(1)
    add = graph.match(channels_first, "add")
    if add is not None:
        bias, channels_first = constant(add.args[1]), add.args[0]
    conv = graph.match(channels_first, "nn.conv1d")
    if conv is None or bias is None or graph.uses(channels_first) != 1:
        return None
    weight, x = constant(conv.args[1]), _turned(graph, conv.args[0])
    if weight is None or x is None or weight.shape[1] != 1:
        return None
    channels, _, taps = weight.shape
    attrs = conv.attrs
    causal = [int(p) for p in attrs.padding] == [taps - 1, 0]
    groups = int(attrs.groups)
    plain_steps = [int(attrs.strides[0]), int(attrs.dilation[0])] == [1, 1]
    if not causal or not plain_steps or shape(x)[-1] != groups or channels % groups:
        return None
    return Match(x, weight[:, 0, :], np.broadcast_to(bias.reshape(-1), (channels,)), inner)


def inputs(graph: Dataflow, found: Match) -> list[Expr]:
    """What the operator reads."""
    return [found.x]


def follows(found: Match) -> None:
    """The plan says how this is computed."""


def rows(q: Quantizer, expr: Expr, found: Match) -> Rows:
    x = q.rows(found.x)
    weight, form = found.weight.astype(np.float64) * x.scale, q.weight_format(expr.name)
    channels = low_bit(weight, found.bias, form) if form.stored else per_channel(weight, found.bias)
    last = finish(q.graph, q.calibration, expr, found.inner, channels)
    count, taps = found.weight.shape
    args = [x.expr, np.ascontiguousarray(channels.weight.T), channels.bias, *last.constants]
    if channels.blocks is not None:
        q.keep_blocks(args[1], channels.blocks)
    names = dict(enumerate(("weight", "bias", *last.names), start=1))
    spec = DepthwiseConv(taps, count, last.kind, x.row, expansion=count // shape(found.x)[-1])
    made = q.kernel(
        depthwise_conv(spec),
        plain(expr.name),
        args,
        ([q.length if x.row is None else 1, count], "int8"),
        f"convolution and {last.kind.name} in one kernel",
        names,
        spec,
    )
    return Rows(made, last.scale)


def real(q: Quantizer, expr: Expr, found: Match) -> None:
    """The driver converts the int8 rows."""
