"""Token ids to rows: tables of tokens, positions and segments, or of hashes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embbert_tvm.data.tokenizer import PAD, SEP
from embbert_tvm.models.config import EmbBertConfig, ModelConfig

# Standard deviation that the tables start from: the vector of a token that training never meets keeps it, so
# it must be small against those that are learned. On Snips' dev set 0.1 gives 1.5 points more than 1.
_START = 0.1


class Embedder(nn.Module):
    """(B, L) -> (B, L, d). Token and position tables, mapped up where they have a reduced width, and segments."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, r = config.hidden_size, config.reduced_size
        self.token = nn.Embedding(config.vocabulary_size, r or d, padding_idx=PAD)
        self.token_map = nn.Linear(r, d, bias=False) if r else nn.Identity()
        self.position = nn.Embedding(config.max_length, r or d)
        self.position_map = nn.Linear(r, d, bias=False) if r else nn.Identity()
        self.segment = nn.Embedding(3, d, padding_idx=0)
        with torch.no_grad():
            for table in (self.token, self.position, self.segment):
                table.weight.mul_(_START)

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        # 1 until the first [SEP], 2 from it on, 0 on padding.
        segments = 1 + ((ids == SEP).to(torch.int64).cumsum(1) > 0).to(torch.int64)
        if mask is not None:
            segments = segments * mask
        positions = self.position_map(self.position.weight[: ids.shape[1]])
        return self.token_map(self.token(ids)) + positions + self.segment(segments)


def embedder_of(config: ModelConfig) -> Embedder | HashEmbedder:
    """What makes the rows of a model of that shape."""
    return HashEmbedder(config) if isinstance(config, EmbBertConfig) and config.ids_per_token > 1 else Embedder(config)


class HashEmbedder(nn.Module):
    """(B, n * L) -> (B, L, d). Each n neighbouring ids are a token, the mean of their rows, mapped up.

    There are neither positions, which the causal convolutions tell apart, nor segments.
    """

    def __init__(self, config: EmbBertConfig) -> None:
        super().__init__()
        self.ids_per_token = config.ids_per_token
        self.token = nn.Embedding(config.vocabulary_size, config.reduced_size, padding_idx=PAD)
        self.token_map = nn.Linear(config.reduced_size, config.hidden_size, bias=False)
        with torch.no_grad():
            self.token.weight.mul_(_START)

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        rows = F.avg_pool1d(self.token(ids).transpose(1, 2), self.ids_per_token).transpose(1, 2)
        return self.token_map(rows)
