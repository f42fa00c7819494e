"""What every training of ours shares: AdamW, the learning rate's course, seeds, and memory that is kept."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

_MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's names
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's mallopt


def adamw(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and tables and leaves biases, norms and lambdas."""
    parameters = list(parameters)
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=lr,
        fused=True,
    )


def set_rate(
    optimizer: torch.optim.Optimizer, lr: float, step: int, warmup: int, total: int, schedule: str = "linear"
) -> None:
    """Linear up over `warmup` steps (at most a fifth of all), then down to 0 at `total`; or constant."""
    warmup = min(warmup, total // 5)
    factor = (step + 1) / warmup if step < warmup else (total - step) / max(1, total - warmup)
    if schedule == "constant":
        factor = 1.0
    for group in optimizer.param_groups:
        group["lr"] = lr * factor * group.get("times", 1.0)


def moments_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments by the names of the parameters, for a checkpoint."""
    return {
        f"{key}.{name}": optimizer.state[parameter][key].clone()
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for key in _MOMENTS
    }


def restore_moments(
    model: nn.Module, optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor], step: int
) -> None:
    """The inverse of `moments_of`, after `step` steps."""
    for name, parameter in model.named_parameters():
        if f"{_MOMENTS[0]}.{name}" in moments:
            kept = {key: moments[f"{key}.{name}"].clone().to(parameter.device) for key in _MOMENTS}
            optimizer.state[parameter] = {"step": torch.tensor(float(step), device=parameter.device), **kept}


def seed_of(text: str) -> int:
    """A seed for torch that a text fixes: of a step or an epoch, so that a resumed run draws the same numbers."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def one_thread() -> None:
    """One thread, which at these sizes is the fastest and adds in one order, and freed memory kept for the next step.

    glibc gives large blocks back to the system and zeroes them anew in each step: a tenth of the time.
    """
    torch.set_num_threads(1)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)
