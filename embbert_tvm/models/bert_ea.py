"""BERT with EmbBERT's efficient attention, in PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embbert_tvm.models.attention import attend
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import BertEaConfig


class Block(nn.Module):
    """y = RMSNorm(x); y = RMSNorm(y + attention(y)); y + feed-forward(y). The residual paths carry the normed rows."""

    def __init__(self, config: BertEaConfig, dropout: float) -> None:
        super().__init__()
        d = config.hidden_size
        self.attention_norm, self.norm = (nn.RMSNorm(d, eps=torch.finfo(torch.float32).eps) for _ in range(2))
        self.query, self.attention_out = (nn.Linear(d, d) for _ in range(2))
        self.inner = nn.Linear(d, config.feed_forward_size)
        self.outer = nn.Linear(config.feed_forward_size, d)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.attention_norm(x)
        y = self.norm(self.attention_out(attend(self.query(y), y, y, mask, self.dropout)) + y)
        return self.outer(F.silu(self.inner(y))) + y


class BertEa(TextClassifier):
    """BERT with efficient attention and a linear head of `classes` outputs on token 0."""

    def __init__(self, config: BertEaConfig, classes: int, dropout: float = 0.1) -> None:
        super().__init__(config, classes)
        self.blocks = nn.ModuleList(Block(config, dropout) for _ in range(config.layers))
        self.head = nn.Linear(config.hidden_size, classes)

    def states(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embedder(ids, mask)
        for block in self.blocks:
            x = block(x, mask)
        return x
