"""Rounding that gradients pass, and weights in the formats of a precision, in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from embbert_tvm.graph.quantize.low_bits import fit_scales, spread
from embbert_tvm.kernels.low_bits import COMPRESSED, WeightFormat, rounded_to


@dataclass(frozen=True)
class ScaledIntegers:
    """Whole numbers worth `value * scale`."""

    value: Tensor
    scale: float


@dataclass(frozen=True)
class Channels:
    """Weights (n, k) in whole numbers, and scale[j], what one step of channel j's accumulator is worth.

    compressed: whether the constants beside them take fewer than 32 bits.
    """

    value: Tensor
    scale: Tensor
    compressed: bool = False

    def to_steps(self, real: Tensor) -> Tensor:
        """Real values (..., n) in steps of each channel's accumulator."""
        steps = round_even(real / self.scale)
        return _compressed(steps) if self.compressed else steps


@dataclass
class Fits:
    """The scales and multipliers of weights of fewer than 8 bits by name; they stay until `clear`."""

    _found: dict[object, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def clear(self) -> None:
        self._found.clear()

    def levels(
        self, key: object, weight: Tensor, weight_format: WeightFormat, shared: bool = False, finest: float = 0.0
    ) -> Channels:
        """Weights (n, k) rounded to the nearest of a format's levels. shared: one scale for all rows; finest: the least
        that a scale may be."""
        n, k = weight.shape
        if key not in self._found:
            scale, multipliers = fit_scales(
                weight.detach().double().cpu().numpy(), weight_format, shared=shared, finest=finest
            )
            factor = spread(multipliers, n, k, weight_format.block or k).astype(np.float32)
            self._found[key] = (torch.from_numpy(scale).to(weight), torch.from_numpy(factor).to(weight))
        scale, factor = self._found[key]
        code = torch.clamp(
            (weight / (scale[:, None] * factor) - weight_format.first) / weight_format.step, 0, weight_format.count - 1
        )
        return Channels((weight_format.first + weight_format.step * round_even(code)) * factor, scale, compressed=True)


def per_channel(weight: Tensor, finest: float = 0.0, compressed: bool = False) -> Channels:
    """weight (n, k) in int8 steps of each row's largest magnitude / 127, or of `finest` where that is more."""
    peak = weight.detach().abs().amax(1) if weight.shape[1] else weight.new_zeros(len(weight))
    scale = torch.where(peak > 0, peak, 127 * finest or 1.0).div(127).clamp(min=finest)
    return Channels(torch.clamp(round_even(weight / scale[:, None]), -127, 127), scale, compressed)


def per_tensor(table: Tensor) -> ScaledIntegers:
    """A table in int8 steps of its largest magnitude / 127."""
    peak = float(table.detach().abs().max())
    scale = (peak if peak > 0 else 1.0) / 127
    return ScaledIntegers(torch.clamp(round_even(table / scale), -127, 127), scale)


def passing(rounded: Tensor, x: Tensor) -> Tensor:
    """`rounded`, with the gradient of `x`."""
    return x + (rounded - x).detach()


def round_up(x: Tensor) -> Tensor:
    """Round to the nearest integer, ties upward as `multiply_high` has them; the gradient passes."""
    return passing(torch.floor(x + 0.5), x)


def round_even(x: Tensor) -> Tensor:
    """Round to the nearest integer, ties to even as constants are rounded; the gradient passes."""
    return passing(torch.round(x), x)


def clamp_to(x: Tensor, most: int) -> Tensor:
    """x in [-most, most - 1]."""
    return torch.clamp(x, -most, most - 1)


def saturated(x: Tensor) -> Tensor:
    """x rounded to what int8 holds."""
    return clamp_to(round_up(x), 128)


def _compressed(steps: Tensor) -> Tensor:
    """Whole numbers as int8 holds them with one shift for all; the gradient passes."""
    rounded = torch.from_numpy(rounded_to(steps.detach().cpu().numpy().astype(np.int32), COMPRESSED[0])).to(steps)
    return passing(rounded, steps)
