"""The recurrence of a selective state space.

h[t, c, n] = exp(step[t, c] * decay[c, n]) * h[t-1, c, n] + step[t, c] * u[t, c] * into[t, n],  h[-1] = 0
out[t, c]  = sum_n h[t, c, n] * out_of[t, n]
"""

from __future__ import annotations

import torch
from torch import Tensor

ONNX_OPERATOR = "embbert::SelectiveScan"


def _recurrence(u: Tensor, step: Tensor, decay: Tensor, into: Tensor, out_of: Tensor) -> Tensor:
    kept = torch.exp(step[..., None] * decay)  # (B, L, C, N)
    added = (step * u)[..., None] * into[:, :, None]
    h, rows = torch.zeros_like(added[:, 0]), []
    for t in range(u.shape[1]):
        h = kept[:, t] * h + added[:, t]
        rows.append(h)
    return (torch.stack(rows, 1) @ out_of[..., None])[..., 0]


def selective_scan(u: Tensor, step: Tensor, decay: Tensor, into: Tensor, out_of: Tensor) -> Tensor:
    """u, step (B, L, C); decay (C, N); into, out_of (B, L, N); the result (B, L, C)."""
    if torch.compiler.is_exporting():  # the length is not known: one operator, whose body graph/ knows
        operands = (u, step, decay, into, out_of)
        return torch.onnx.ops.symbolic(ONNX_OPERATOR, operands, dtype=u.dtype, shape=u.shape, version=1)
    return _recurrence(u, step, decay, into, out_of)
