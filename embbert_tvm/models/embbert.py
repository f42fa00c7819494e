"""EmbBERT in PyTorch (arXiv 2502.10001), and its ablation that adds the branches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embbert_tvm.models.attention import attend
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import EmbBertConfig, EmbBertSumConfig
from embbert_tvm.models.training_ops import CausalDepthwise, RmsNorm


class Block(nn.Module):
    """y = RMSNorm(x); l1 * attention(y) - l2 * convolution(y), or their plain sum, with no residual path."""

    def __init__(self, config: EmbBertConfig, dropout: float) -> None:
        super().__init__()
        d, channels = config.hidden_size, config.expansion * config.hidden_size
        self.weighted = not isinstance(config, EmbBertSumConfig)
        self.pool_keys = config.pool_keys
        self.left = config.kernel_size - 1
        self.norm = nn.RMSNorm(d, eps=torch.finfo(torch.float32).eps)
        self.query = nn.Linear(d, d)
        self.attention_out = nn.Linear(d, d)
        self.conv = nn.Conv1d(d, channels, config.kernel_size, groups=d)
        self.conv_out = nn.Linear(channels, d)
        if self.weighted:
            self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
                nn.Parameter(torch.randn(d) * 0.1) for _ in range(4)
            )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.training:
            return self._forward_in_training(x, mask)
        y = self.norm(x)
        keys, kept = self._keys(y, mask)
        attention = self.attention_out(attend(self.query(y), keys, keys, kept, self.dropout))
        filtered = self.conv(F.pad(y.transpose(1, 2), (self.left, 0))).transpose(1, 2)
        convolution = self.conv_out(F.silu(filtered))
        if not self.weighted:
            return attention + convolution
        l1, l2 = self._weights()
        return l1 * attention - l2 * convolution

    def _keys(self, y: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Keys, which are the values too, and their mask."""
        return (y, mask) if self.pool_keys == 1 else mean_of_neighbours(y, mask, self.pool_keys)

    def _weights(self) -> tuple[Tensor, Tensor]:
        l1 = torch.exp((self.lambda_q1 * self.lambda_k1).sum())
        l2 = torch.exp((self.lambda_q2 * self.lambda_k2).sum())
        return l1, l2

    def _forward_in_training(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`forward` with every factor folded into the weights, as `compile` does: half the time of a step."""
        batch, length, d = x.shape
        y = RmsNorm.apply(x, self.norm.weight, self.norm.eps)
        scale = 1 / math.sqrt(d)
        query = F.linear(y, self.query.weight * scale, self.query.bias * scale)
        keys, kept = self._keys(y, mask)
        if kept is None:
            scores = query @ keys.transpose(1, 2)
        else:
            hidden = y.new_zeros(batch, 1, keys.shape[1]).masked_fill_(~kept[:, None, :], -math.inf)
            scores = torch.baddbmm(hidden.expand(-1, length, -1), query, keys.transpose(1, 2))
        attended = self.dropout(scores.softmax(-1)) @ keys
        samples = y.permute(2, 0, 1).repeat_interleave(self.conv.out_channels // d, 0)
        filtered = F.silu(CausalDepthwise.apply(samples, self.conv.weight[:, 0], self.conv.bias))
        l1, l2 = self._weights() if self.weighted else (1, -1)
        bias = l1 * self.attention_out.bias - l2 * self.conv_out.bias
        attention = F.linear(attended.view(-1, d), l1 * self.attention_out.weight, bias)
        convolution = filtered.reshape(len(samples), -1).t()
        return torch.addmm(attention, convolution, (-l2 * self.conv_out.weight).t()).view(batch, length, d)


def mean_of_neighbours(x: Tensor, mask: Tensor | None, count: int) -> tuple[Tensor, Tensor | None]:
    """Each `count` neighbouring rows of x (B, L, d) as one, the mean of those that are no padding; their mask."""
    if mask is None:
        pooled = F.avg_pool1d(x.transpose(1, 2), count, ceil_mode=True, count_include_pad=False)
        return pooled.transpose(1, 2), None
    missing = -x.shape[1] % count
    kept = F.pad(mask, (0, missing)).unflatten(1, (-1, count))
    rows = F.pad(x, (0, 0, 0, missing)).unflatten(1, (-1, count))
    total = rows.masked_fill(~kept[..., None], 0.0).sum(2)
    return total / kept.sum(2).clamp(min=1)[..., None], kept.any(2)


class EmbBert(TextClassifier):
    """EmbBERT with a linear head of `classes` outputs on token 0."""

    def __init__(self, config: EmbBertConfig, classes: int, dropout: float = 0.1) -> None:
        super().__init__(config, classes)
        self.blocks = nn.ModuleList(Block(config, dropout) for _ in range(config.layers))
        self.head = nn.Linear(config.hidden_size, classes)

    def states(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.layers(ids, mask)[-1]

    def layers(self, ids: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        x = self.embedder(ids, mask)
        each = self.config.ids_per_token
        mask = None if mask is None else mask[:, each - 1 :: each]
        found = []
        for number, block in enumerate(self.blocks):
            if number == 1 and self.config.pool_tokens > 1:
                x, mask = mean_of_neighbours(x, mask, self.config.pool_tokens)
            x = block(x, mask)
            found.append(x)
        return found

    def folded(self) -> dict[str, Tensor]:
        return {
            f"blocks.{i}.l{n}": weight
            for i, block in enumerate(self.blocks)
            if block.weighted
            for n, weight in enumerate(block._weights(), start=1)
        }
