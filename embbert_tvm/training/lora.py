"""Low-rank adaptation: every linear layer's weight W becomes W + B A, of which only A and B are trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class _LowRank(nn.Module):
    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        rank = min(rank, rows, columns)
        self.a = nn.Parameter(torch.randn(rank, columns) / math.sqrt(columns))
        self.b = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


def add_lora(model: nn.Module, rank: int) -> int:
    """Freeze a model and put a term of `rank`, zero at first, beside each linear weight; how many weights are trained.

    torch's generator decides what A starts from.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for layer in _linear(model):
        parametrize.register_parametrization(layer, "weight", _LowRank(layer.weight, rank))
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def merge_lora(model: nn.Module) -> None:
    """Add the terms into the weights: the model has the parameters again that it had before `add_lora`."""
    for layer in _linear(model):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _linear(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]
