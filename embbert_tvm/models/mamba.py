"""Mamba in PyTorch (arXiv 2312.00752), as the paper scales it down."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embbert_tvm.models.classifier import TextClassifier, root_mean_square
from embbert_tvm.models.config import MambaConfig
from embbert_tvm.models.selective_scan import selective_scan

# Step sizes that a state space starts from, drawn log-uniformly: arXiv 2312.00752, section 3.6.
_LEAST_STEP, _LARGEST_STEP = 1e-3, 1e-1


class Block(nn.Module):
    """x + out(scan(SiLU(conv(u))) * SiLU(gate)), u and gate linear maps of RMSNorm(x)."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        d, inner, rank, state = config.hidden_size, config.inner_size, config.step_rank, config.state_size
        self.left = config.kernel_size - 1
        self.parts = [rank, state, state]
        self.norm = nn.RMSNorm(d, eps=1e-5)
        # One matrix of the published model in two: what reads them differs.
        self.input, self.gate = (nn.Linear(d, inner, bias=False) for _ in range(2))
        self.conv = nn.Conv1d(inner, inner, config.kernel_size, groups=inner)
        self.select = nn.Linear(inner, sum(self.parts), bias=False)
        self.step = nn.Linear(rank, inner)
        self.decay_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.out = nn.Linear(inner, d, bias=False)
        with torch.no_grad():
            self.step.weight.uniform_(-(rank**-0.5), rank**-0.5)
            steps = torch.empty(inner).uniform_(math.log(_LEAST_STEP), math.log(_LARGEST_STEP)).exp()
            self.step.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus of it is `steps`

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        u = self.conv(F.pad(self.input(y).transpose(1, 2), (self.left, 0))).transpose(1, 2)
        u = F.silu(u)
        step, into, out_of = self.select(u).split(self.parts, -1)
        states = selective_scan(u, F.softplus(self.step(step)), -torch.exp(self.decay_log), into, out_of)
        return x + self.out((states + self.skip * u) * F.silu(self.gate(y)))


class Mamba(TextClassifier):
    """Mamba with a linear head on the RMS of its rows: it is causal, so that the first row knows one token."""

    pool = staticmethod(root_mean_square)

    def __init__(self, config: MambaConfig, classes: int, dropout: float = 0.1) -> None:
        """`dropout` is of attention weights, of which there are none."""
        super().__init__(config, classes)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = nn.Linear(config.hidden_size, classes)

    def states(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embedder(ids, mask)
        for block in self.blocks:
            x = block(x)
        return x

    def folded(self) -> dict[str, Tensor]:
        return {f"blocks.{i}.decay": -torch.exp(block.decay_log) for i, block in enumerate(self.blocks)}
