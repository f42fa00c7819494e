"""Forward passes of what graph/quantize/product.py and depthwise_conv.py make: sums of linear maps, residual paths and
tables, convolutions, with what follows them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embbert_tvm.graph.dataflow import Expr, channels_first, constant, from_start, op_name, rows_of
from embbert_tvm.graph.quantize import depthwise_conv, product
from embbert_tvm.graph.quantize.sums import Sum, Window
from embbert_tvm.kernels import epilogues
from embbert_tvm.kernels.product import RESIDUAL_BITS
from embbert_tvm.models.training_ops import CausalDepthwise
from embbert_tvm.training.graph_integers import Forward, Run
from embbert_tvm.training.graph_operators import as_shape
from embbert_tvm.training.rounding import (
    Channels,
    ScaledIntegers,
    clamp_to,
    per_channel,
    per_tensor,
    round_even,
    round_up,
    saturated,
)

HEADROOM = 2.01  # a multiplier is below one half
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.silu": F.silu,
    "nn.relu": F.relu,
    "nn.gelu": F.gelu,
    "nn.gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "nn.softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class Accumulators:
    """value (L, n) in steps of its channels."""

    value: Tensor
    channels: Channels

    @property
    def scale(self) -> Tensor:
        return self.channels.scale

    def in_steps_of(self, scale: float) -> Tensor:
        return round_up(self.value * (self.scale / scale))

    def least(self, scale: float) -> float:
        """`scale`, or the next coarser one that the channels can be brought to."""
        return max(scale, HEADROOM * float(self.scale.max()))


def _table(run: Run, user: Expr, x: Expr) -> tuple[ScaledIntegers, bool] | None:
    """The rows of a constant table that a product reads, and whether it is stored in few bits; None where `x` is none
    such."""
    made = run.graph.producer(x)
    name = op_name(made)
    table = constant(made.args[0]) if name in ("take", "strided_slice") else None
    if table is None or table.ndim != 2 or (name == "take" and made.attrs.axis not in (0, None)):
        return None
    if name == "strided_slice" and not from_start(made):
        return None
    real = run.constant((x.name, 0), lambda: table, x.name)
    weight_format = run.q.table_format(user.name, x.name)

    def make() -> ScaledIntegers:
        if not weight_format.stored:
            return per_tensor(real)
        found = run.weights.fits.levels((x.name, "table"), real, weight_format, shared=True)
        return ScaledIntegers(found.value, float(found.scale[0]))

    steps = run.weights.once((x.name, "steps"), make)
    at = run.dequantized(made.args[1]).reshape(-1) if name == "take" else slice(0, run.length)
    return ScaledIntegers(steps.value[at], steps.scale), weight_format.stored


def _through(x: Tensor, window: Window) -> Tensor:
    """Rows (L, k) as each is read through a window: (L, taps * k)."""
    if window.taps == 1 and window.after == 0:
        return x
    length = len(x)
    padded = F.pad(x, (0, 0, window.reach - window.after, window.after))
    return torch.cat([padded[window.dilation * t : window.dilation * t + length] for t in range(window.taps)], 1)


def _accumulate(run: Run, user: Expr, found: Sum) -> Accumulators:
    """What the product that makes `user` adds up."""
    stored, operands, residuals = False, [], []
    for term in found.terms:
        table = _table(run, user, term.x)
        stored |= table is not None and table[1]
        wide = product.reads_wide(run.q.streams, found, term.x)
        rows = table[0] if table is not None else run.wide(term.x) if wide else run.quantized(term.x)
        operands.append(ScaledIntegers(_through(rows.value, term.window), rows.scale))
    for residual in found.residuals:
        table = _table(run, user, residual.x)
        wide = residual.x in run.q.streams
        residuals.append(table[0] if table is not None else run.wide(residual.x) if wide else run.quantized(residual.x))
    most = [product.MOST_STEPS["int16" if a.x in run.q.streams else "int8"] for a in found.residuals]
    sizes = [s.scale * np.abs(a.by).max() / m for s, a, m in zip(residuals, found.residuals, most, strict=True)]
    finest = len(residuals) * float(max(sizes, default=0.0))
    channels = _channels(run, user, found, operands, finest, stored)
    acc = channels.to_steps(run.of_match(user, "bias", found.bias)).expand(1, -1)
    for n, (table, ids) in enumerate(found.small_tables):
        steps = channels.to_steps(run.of_match(user, f"small table {n}", table))
        acc = acc + steps[run.dequantized(ids).reshape(-1)]
    count = min(len(x.value) for x in (*operands, *residuals))
    if residuals:
        factors = [round_even(s.scale * _by(run, user, n, a.by) / channels.scale * 2.0**RESIDUAL_BITS)
                   for n, (s, a) in enumerate(zip(residuals, found.residuals, strict=True))]  # fmt: skip
        added = sum(s.value[:count] * factor for s, factor in zip(residuals, factors, strict=True))
        acc = acc + round_up(added / 2.0**RESIDUAL_BITS)
    if operands:
        acc = acc[:count] + torch.cat([x.value[:count] for x in operands], 1) @ channels.value.t()
    if found.skipped:
        acc = acc[min(found.skipped, len(acc) - 1) :]
    return Accumulators(acc, channels)


def _by(run: Run, user: Expr, number: int, by: np.ndarray | float) -> Tensor | float:
    """What a residual is multiplied by."""
    return float(np.reshape(by, -1)[0]) if np.size(by) == 1 else run.of_match(user, f"by {number}", np.asarray(by))


def _channels(
    run: Run, user: Expr, found: Sum, operands: list[ScaledIntegers], finest: float, stored: bool
) -> Channels:
    def make() -> Channels:
        n = rows_of(user)[1]
        terms = [run.of_match(user, f"weight {i}", term.weight) for i, term in enumerate(found.terms)]
        if not terms:
            return per_channel(torch.zeros(n, 0), finest, stored)
        weight = torch.cat([term * x.scale for term, x in zip(terms, operands, strict=True)]).t()
        weight_format = run.weight_format(user)
        if weight_format.stored:
            return run.weights.fits.levels(
                (user.name, "weight"), weight, weight_format.within(weight.shape[1]), finest=finest
            )
        return per_channel(weight, finest, stored)

    return run.weights.once((user.name, "channels"), make)


def _requantized(acc: Accumulators, scale: float) -> ScaledIntegers:
    scale = acc.least(scale)
    return ScaledIntegers(clamp_to(acc.in_steps_of(scale), 128), scale)


def _finished(run: Run, expr: Expr, inner: Expr, acc: Accumulators) -> ScaledIntegers:
    """int8 `expr`: `inner` itself or a function of it."""
    if expr.same_as(inner):
        return _requantized(acc, run.scale(expr.name))
    inside = _requantized(acc, run.scale(inner.name))
    function, scale = FUNCTIONS[op_name(run.graph.producer(expr))], run.scale(expr.name)
    real = function(inside.value * inside.scale)
    return ScaledIntegers(torch.clamp(round_even(real / scale), -127, 127), scale)


def _normalized(run: Run, expr: Expr, found: product.Match, acc: Accumulators) -> ScaledIntegers:
    norm = found.norm
    gain = run.constant((expr.name, "gain"), lambda: constant(norm.args[1]), expr.name)
    n, centred = gain.numel(), op_name(norm) == "nn.layer_norm"
    bits = epilogues.NORM_BITS - (epilogues.SHIFT_BITS if centred else 0)
    finest = HEADROOM * float(gain.detach().abs().max()) * math.sqrt(n) / 2.0**bits
    scale = max(run.scale(expr.name), finest)
    step = acc.least(0.0)
    t = acc.in_steps_of(step)
    if centred:
        mean = t.mean(-1, keepdim=True)
        t = t - (mean + (torch.trunc(mean) - mean).detach())
    epsilon = max(round(n * float(norm.attrs.epsilon) / step**2), 1)
    unit = t * (t.square().sum(-1, keepdim=True) + epsilon).rsqrt()
    made = unit * (gain * (math.sqrt(n) / scale))
    if centred:
        made = made + run.constant((expr.name, "shift"), lambda: constant(norm.args[2]), expr.name) / scale
    return ScaledIntegers(saturated(made), scale)


def product_rows(run: Run, expr: Expr, found: product.Match) -> ScaledIntegers:
    acc = _accumulate(run, expr, found.sum)
    return _finished(run, expr, found.inner, acc) if found.norm is None else _normalized(run, expr, found, acc)


def product_wide(run: Run, expr: Expr, found: product.Match) -> ScaledIntegers:
    acc = _accumulate(run, expr, found.sum)
    scale = acc.least(run.wide_scale(expr.name))
    return ScaledIntegers(clamp_to(acc.in_steps_of(scale), 2**15), scale)


def product_real(run: Run, expr: Expr, found: product.Match) -> Tensor | None:
    if found.norm is not None or not expr.same_as(found.inner):
        return None
    acc = _accumulate(run, expr, found.sum)
    return as_shape(run.setting, acc.value * acc.scale, expr, channels_first(expr))


def conv_rows(run: Run, expr: Expr, found: depthwise_conv.Match) -> ScaledIntegers:
    x = run.quantized(found.x)

    def make() -> Channels:
        weight = run.of_match(expr, "weight", found.weight) * x.scale
        weight_format = run.weight_format(expr)
        if not weight_format.stored:
            return per_channel(weight)
        return run.weights.fits.levels((expr.name, "weight"), weight, weight_format.within(weight.shape[1]))

    channels = run.weights.once((expr.name, "channels"), make)
    bias = channels.to_steps(run.of_match(expr, "bias", found.bias))
    weight = channels.value
    if found.dilation == 1 and not found.after and len(weight) == x.value.shape[1]:
        acc = CausalDepthwise.apply(x.value.t()[:, None], weight, bias)[:, 0].t()
    else:
        before = found.dilation * (weight.shape[1] - 1) - found.after
        samples = F.pad(x.value.t()[None], (before, found.after))
        acc = F.conv1d(samples, weight[:, None], bias, dilation=found.dilation, groups=x.value.shape[1])[0].t()
    return _finished(run, expr, found.inner, Accumulators(acc, channels))


FORWARD = {
    "product": Forward(product_rows, product_wide, product_real),
    "depthwise_conv": Forward(conv_rows),
}
