"""Symmetric weights and what goes with them: int8 of one scale a channel, or of fewer bits (low_bits.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from embbert_tvm.graph.calibrate import Calibration
from embbert_tvm.graph.dataflow import Dataflow, Expr, op_name
from embbert_tvm.graph.quantize import activations
from embbert_tvm.graph.quantize.low_bits import Blocks, gptq, nearest
from embbert_tvm.graph.quantize.refit import Samples, refit
from embbert_tvm.kernels import epilogues
from embbert_tvm.kernels.fixed_point import multiplier
from embbert_tvm.kernels.low_bits import COMPRESSED, FORMATS, WeightFormat, rounded_to

_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class Channels:
    """weight int8 (n, k) and the real value scale[j] of one step of channel j's accumulator, bias int32 in it.

    blocks: the weight, where it has fewer than 8 bits. compressed: whether the constants beside it take fewer than 32.
    """

    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    blocks: Blocks | None = None
    compressed: bool = False

    def to_steps(self, real: np.ndarray) -> np.ndarray:
        """Real values (..., n) in steps of each channel's accumulator, int32."""
        steps = np.clip(np.rint(real / self.scale), _INT32.min, _INT32.max).astype(np.int32)
        return rounded_to(steps, COMPRESSED[0]) if self.compressed else steps

    def factor(self, real: np.ndarray) -> np.ndarray:
        """The int32 multipliers of real factors (n,)."""
        found = multiplier(real)
        return rounded_to(found, COMPRESSED[1]) if self.compressed else found


def low_bit(
    weight: np.ndarray,
    bias: np.ndarray,
    weight_format: WeightFormat,
    hessian: np.ndarray | None = None,
    finest: float = 0.0,
    samples: Samples | None = None,
) -> Channels:
    """Quantize real weights (n, k), whose inputs' scales are folded in, to a format of fewer than 8 bits, in steps of
    `finest` or more: refitted to samples; by GPTQ where the second moments of the inputs in steps are given alone; or
    to the nearest levels."""
    weight_format = weight_format.within(weight.shape[1])
    if samples is not None:
        blocks, bias = refit(weight, bias, weight_format, samples, finest)
    elif hessian is not None:
        blocks = gptq(weight, weight_format, hessian, finest=finest)
    else:
        blocks = nearest(weight, weight_format, finest=finest)
    channels = Channels(blocks.weight, blocks.scale, np.zeros(len(weight), np.int32), blocks, True)
    return replace(channels, bias=channels.to_steps(bias.astype(np.float64)))


def per_channel(
    weight: np.ndarray,
    bias: np.ndarray,
    finest: float = 0.0,
    compressed: bool = False,
    hessian: np.ndarray | None = None,
) -> Channels:
    """Quantize real weights (n, k), whose inputs' scales are folded in, in steps of `finest` or more: by their largest
    magnitude a channel, or by GPTQ where the second moments of the inputs in steps are given."""
    if hessian is not None:
        blocks = gptq(weight, FORMATS["int8"], hessian, finest=finest)
        channels = Channels(blocks.weight, blocks.scale, np.zeros(len(weight), np.int32), None, compressed)
        return replace(channels, bias=channels.to_steps(bias.astype(np.float64)))
    peak = np.abs(weight.astype(np.float64)).max(axis=1, initial=0.0)
    scale = np.maximum(np.where(peak > 0, peak, 127 * finest or 1.0) / 127, finest)
    steps = np.clip(np.rint(weight / scale[:, None]), -127, 127).astype(np.int8)
    channels = Channels(steps, scale, np.zeros(len(scale), np.int32), None, compressed)
    return replace(channels, bias=channels.to_steps(bias.astype(np.float64)))


def low_bit_table(table: np.ndarray, weight_format: WeightFormat, hessian: np.ndarray | None = None) -> Blocks:
    """A real table in a format of fewer than 8 bits. hessian: of the columns of the matrix that its rows are multiplied
    by, so that their products change little."""
    weight_format = weight_format.within(table.shape[1]) if len(table) == 1 else weight_format
    return (
        nearest(table, weight_format, shared=True)
        if hessian is None
        else gptq(table, weight_format, hessian, shared=True)
    )


def per_tensor(table: np.ndarray) -> tuple[np.ndarray, float]:
    """A real table as int8 of its shape, and the real value of one step."""
    peak = float(np.abs(table).max())
    scale = (peak if peak > 0 else 1.0) / 127
    return np.clip(np.rint(table / scale), -127, 127).astype(np.int8), scale


@dataclass(frozen=True)
class Epilogue:
    """An epilogue with its constants (and their names), and the scale of the int8 that it makes."""

    kind: object
    constants: list[np.ndarray]
    names: tuple[str, ...]
    scale: float = 0.0


def requantize(channels: Channels, scale: float) -> Epilogue:
    # A multiplier is below one half; a channel coarser than that is met by a coarser output.
    scale = max(scale, 2.01 * float(channels.scale.max()))
    return Epilogue(epilogues.Requantize(), [channels.factor(channels.scale / scale)], ("multiplier",), scale)


def requantize_wide(channels: Channels, scale: float) -> Epilogue:
    scale = max(scale, 2.01 * float(channels.scale.max()))
    factor = channels.factor(channels.scale / scale)
    return Epilogue(epilogues.RequantizeWide(), [factor], ("multiplier",), scale)


def activate(channels: Channels, function: str, scale_in: float, scale_out: float) -> Epilogue:
    inside = requantize(channels, scale_in)
    table = activations.table(function, inside.scale, scale_out)
    return Epilogue(epilogues.Activate(), [*inside.constants, table], ("multiplier", "table"), scale_out)


def finish(graph: Dataflow, calibration: Calibration, expr: Expr, inner: Expr, channels: Channels) -> Epilogue:
    """The epilogue that brings the accumulators of `inner` to int8 `expr`: `inner` itself or a function of it."""
    if expr.same_as(inner):
        return requantize(channels, calibration.scale(expr.name))
    function = op_name(graph.producer(expr))
    return activate(channels, function, calibration.scale(inner.name), calibration.scale(expr.name))


def under_activation(graph: Dataflow, expr: Expr) -> Expr:
    """What `expr` is a tabulated function of, if it is its only use; otherwise `expr`."""
    made = graph.producer(expr)
    if op_name(made) in activations.FUNCTIONS and graph.uses(made.args[0]) == 1:
        return made.args[0]
    return expr
