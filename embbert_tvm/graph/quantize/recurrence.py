"""An LSTM or GRU: what a token brings to its gates is int16, its state int8 where weights meet it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from embbert_tvm.graph.dataflow import Dataflow, Expr, callee, constant, op_name, shape
from embbert_tvm.graph.names import plain
from embbert_tvm.graph.quantize.quantizer import Kernel, Quantizer, Rows
from embbert_tvm.graph.quantize.weights import per_channel
from embbert_tvm.kernels import integer_recurrence as kernel
from embbert_tvm.kernels.fixed_point import multiplier

_NAME = re.compile(r"(lstm|gru)_(\d+)(_backward)?(_reset_before)?(_\d+)?$")


@dataclass(frozen=True)
class Match:
    """given (1, L, gates * width); weight (gates * width, width), bias (gates * width,), of the state."""

    given: Expr
    weight: np.ndarray
    bias: np.ndarray
    kind: str
    width: int
    backward: bool
    reset_after: bool


def match(graph: Dataflow, expr: Expr) -> Match | None:
    made = graph.producer(expr)
    name = _NAME.match(str(callee(made))) if op_name(made) == "call_tir" else None
    if name is None:
        return None
    given, weight, bias = made.args[1].fields
    weight, bias = constant(weight), constant(bias)
    if weight is None or bias is None:
        return graph.refuse(expr, "its weights are not constants")
    kind, width = name.group(1), weight.shape[1]
    # Sums of as many products are shifted by what `_bits` leaves.
    if _bits(width, np.zeros(1)) < 0:
        return graph.refuse(expr, f"a state of {width} is too wide")
    return Match(given, weight, bias, kind, width, bool(name.group(3)), kind == "lstm" or not name.group(4))


def inputs(graph: Dataflow, found: Match) -> list[Expr]:
    """What the operator reads."""
    return [found.given]


def precision_source(found: Match) -> None:
    """The plan says how this is computed."""


def _bits(width: int, bias: np.ndarray) -> int:
    """How far accumulators can be shifted within 31 bits."""
    most = 128.0 * 127 * width + float(np.abs(bias.astype(np.float64)).max())
    return int(np.floor(np.log2((2.0**31 - 1) / most)))


def quantized(q: Quantizer, expr: Expr, found: Match) -> Rows:
    given = q.wide(found.given)
    # A state is never larger than 1.
    scale = min(q.calibration.scale(expr.name), 1 / 127)
    channels = per_channel(found.weight.astype(np.float64) * scale, found.bias)
    bits = min(_bits(found.width, channels.bias), 14)
    spec = kernel.IntegerRecurrence(found.kind, found.width, bits, found.backward, found.reset_after)
    matrices = [np.ascontiguousarray(channels.weight[a * found.width : b * found.width]) for a, b in spec.matrices]
    args = [
        given.expr,
        *matrices,
        channels.bias,
        multiplier(channels.scale * 2.0**kernel.BEFORE_BITS / 2.0**bits),
        multiplier(np.array([given.scale * 2.0**kernel.BEFORE_BITS / 2.0**kernel.GIVEN_BITS])),
        *kernel.tables(),
        multiplier(np.array([2.0**-30 / scale])),
    ]
    suffixes = [*(f"recurrence{m}" for m in range(len(matrices))), "bias", "multiplier", "given_multiplier"]
    names = dict(enumerate([*suffixes, "sigmoid", "tanh", "state_multiplier"], start=1))
    out = ([shape(given.expr)[0], found.width], "int8")
    reason = "gates and state of a token in one kernel"
    made = q.kernel(Kernel(kernel.integer_recurrence(spec), spec), plain(expr.name), args, out, reason, names)
    return Rows(made, scale)


def dequantized(q: Quantizer, expr: Expr, found: Match) -> None:
    """The driver converts the int8 rows."""
