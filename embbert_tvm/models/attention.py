"""Attention as the architectures share it."""

from __future__ import annotations

import math

from torch import Tensor, nn


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: nn.Module) -> Tensor:
    """softmax(query key^T / sqrt(width)) value, all (..., L, width); `mask` (B, L) is False on padding."""
    scores = (query @ key.transpose(-2, -1)) * (1 / math.sqrt(query.shape[-1]))
    if mask is not None:
        shape = (mask.shape[0], *[1] * (scores.ndim - 2), mask.shape[1])
        scores = scores.masked_fill(~mask.view(shape), -math.inf)
    return dropout(scores.softmax(-1)) @ value
