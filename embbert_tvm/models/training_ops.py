"""RMSNorm and the causal depthwise convolution for training on a CPU: the same sums in fewer passes over memory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 32  # samples in time that one product makes


class RmsNorm(torch.autograd.Function):
    """x (..., d) / rms(x) * weight (d,), as torch.nn.RMSNorm."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = scale.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = x * scale
        ctx.save_for_backward(normed, scale, weight)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, scale, weight = ctx.saved_tensors
        by_weight = (gradient * normed).flatten(0, -2)
        along = (by_weight @ weight).view(scale.shape).div_(normed.shape[-1])
        by_x = (gradient * weight).addcmul_(normed, along, value=-1).mul_(scale)
        return by_x, by_weight.sum(0), None


class CausalDepthwise(torch.autograd.Function):
    """x (d, B, L) filtered along L by weight (d, k), of which position t sees t-k+1..t, plus bias (d,).

    Each channel is a product of windows of its samples with a Toeplitz matrix of its filter: oneDNN's depthwise
    convolution in one dimension takes two to three times as long, most of it in the weights' gradient.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        channels, batch, length = x.shape
        windows, columns = _windows(x, weight.shape[1])
        out = torch.baddbmm(bias[:, None, None], windows, _toeplitz(weight, windows.shape[2], columns))
        return out.view(channels, batch, -1)[:, :, :length]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, int]:
        """Texts that come one by one go together, as more of a batch."""
        at, *of_weights = in_dims
        assert at is not None
        assert of_weights == [None, None]
        together = x.movedim(at, 1)
        out = CausalDepthwise.apply(together.flatten(1, 2), weight, bias)
        return out.unflatten(1, together.shape[1:3]), 1

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        channels, batch, length = x.shape
        taps = weight.shape[1]
        windows, columns = _windows(x, taps)
        rows = windows.shape[2]
        matrix = _toeplitz(weight, rows, columns)
        by_bias = gradient.sum((1, 2))
        gradient = F.pad(gradient, (0, -length % columns)).reshape(channels, -1, columns)
        by_matrix = torch.bmm(windows.transpose(1, 2), gradient).view(channels, -1)
        by_weight = by_matrix.new_zeros(taps + 1, channels)
        taps_of = _taps(rows, columns, taps).to(gradient.device)
        by_weight.index_add_(0, taps_of, by_matrix.t().contiguous())
        by_windows = torch.bmm(gradient, matrix.transpose(1, 2)).view(channels, batch, -1, rows)
        before = rows - columns  # samples of earlier blocks in front of a window
        by_x = by_windows[..., before:]
        if before:
            by_x = by_x.contiguous()
            by_x[:, :, :-1, columns - before :] += by_windows[:, :, 1:, :before]
        return by_x.reshape(channels, batch, -1)[:, :, :length], by_weight[:taps].t(), by_bias


def _windows(x: Tensor, taps: int) -> tuple[Tensor, int]:
    """(d, B * blocks, rows) windows of x for `columns` outputs each: a text within a block needs nothing before it."""
    channels, batch, length = x.shape
    columns = max(_BLOCK, taps - 1)
    if length <= columns:
        return x.reshape(channels, batch, length), length
    rows = columns + taps - 1
    padded = F.pad(x, (taps - 1, -length % columns))
    return padded.unfold(2, rows, columns).reshape(channels, -1, rows), columns


@lru_cache(64)
def _taps(rows: int, columns: int, taps: int) -> Tensor:
    """(rows * columns,) which tap the sample at a row contributes to the output at a column; `taps`: none."""
    source = torch.arange(rows)[:, None] - (rows - columns)
    tap = source - torch.arange(columns)[None] + taps - 1
    return torch.where((tap >= 0) & (tap < taps), tap, taps).flatten()


def _toeplitz(weight: Tensor, rows: int, columns: int) -> Tensor:
    taps = _taps(rows, columns, weight.shape[1]).to(weight.device)
    return F.pad(weight, (0, 1))[:, taps].view(-1, rows, columns)
