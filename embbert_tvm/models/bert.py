"""BERT in PyTorch, as the paper scales it down: LayerNorm after each residual path, ReLU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from embbert_tvm.models.attention import attend
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import BertConfig


class Block(nn.Module):
    """x = LayerNorm(x + attention(x)); LayerNorm(x + feed-forward(x))."""

    def __init__(self, config: BertConfig, dropout: float) -> None:
        super().__init__()
        d = config.hidden_size
        self.heads = config.heads
        self.query, self.key, self.value, self.attention_out = (nn.Linear(d, d) for _ in range(4))
        self.attention_norm = nn.LayerNorm(d)
        self.inner = nn.Linear(d, config.feed_forward_size)
        self.outer = nn.Linear(config.feed_forward_size, d)
        self.norm = nn.LayerNorm(d)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (self._by_head(f(x)) for f in (self.query, self.key, self.value))
        context = attend(query, key, value, mask, self.dropout).transpose(1, 2).reshape(x.shape)
        x = self.attention_norm(x + self.attention_out(context))
        return self.norm(x + self.outer(F.relu(self.inner(x))))

    def _by_head(self, rows: Tensor) -> Tensor:
        """(B, L, d) -> (B, heads, L, d / heads)"""
        return rows.view(*rows.shape[:2], self.heads, -1).transpose(1, 2)


class Bert(TextClassifier):
    """BERT with a linear head of `classes` outputs on token 0."""

    def __init__(self, config: BertConfig, classes: int, dropout: float = 0.1) -> None:
        super().__init__(config, classes)
        self.blocks = nn.ModuleList(Block(config, dropout) for _ in range(config.layers))
        self.head = nn.Linear(config.hidden_size, classes)

    def states(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embedder(ids, mask)
        for block in self.blocks:
            x = block(x, mask)
        return x
