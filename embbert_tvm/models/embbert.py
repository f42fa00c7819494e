"""EmbBERT in PyTorch (arXiv 2502.10001)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from embbert_tvm.data.files import write_atomically
from embbert_tvm.data.tokenizer import PAD, SEP, save_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.models.config import EmbBertConfig
from embbert_tvm.models.folder import ModelFolder, read_folder, write_config
from embbert_tvm.models.training_ops import CausalDepthwise, RmsNorm

# Standard deviation that the tables start from: the vector of a token that training never meets keeps it, so
# it must be small against those that are learned. On Snips' dev set 0.1 gives 1.5 points more than 1.
_START = 0.1


class NanoEmbedder(nn.Module):
    """(B, L) -> (B, L, d): token and position tables of a reduced width, each mapped up, and segments."""

    def __init__(self, config: EmbBertConfig) -> None:
        super().__init__()
        d, r = config.hidden_size, config.reduced_size
        self.token = nn.Embedding(config.vocabulary_size, r, padding_idx=PAD)
        self.token_map = nn.Linear(r, d, bias=False)
        self.position = nn.Embedding(config.max_length, r)
        self.position_map = nn.Linear(r, d, bias=False)
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


class Block(nn.Module):
    """y = RMSNorm(x); l1 * attention(y) - l2 * convolution(y), with no residual path."""

    def __init__(self, config: EmbBertConfig, dropout: float) -> None:
        super().__init__()
        d, channels = config.hidden_size, config.expansion * config.hidden_size
        self.scale = 1 / math.sqrt(d)
        self.left = config.kernel_size - 1
        self.norm = nn.RMSNorm(d, eps=torch.finfo(torch.float32).eps)
        self.query = nn.Linear(d, d)
        self.attention_out = nn.Linear(d, d)
        self.conv = nn.Conv1d(d, channels, config.kernel_size, groups=d)
        self.conv_out = nn.Linear(channels, d)
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
            nn.Parameter(torch.randn(d) * 0.1) for _ in range(4)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.training and self.conv.out_channels == self.conv.in_channels:
            return self._forward_in_training(x, mask)
        y = self.norm(x)
        y_t = y.transpose(1, 2)
        scores = (self.query(y) @ y_t) * self.scale
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, :], -math.inf)
        attention = self.attention_out(self.dropout(scores.softmax(-1)) @ y)
        filtered = self.conv(F.pad(y_t, (self.left, 0))).transpose(1, 2)
        convolution = self.conv_out(F.silu(filtered))
        l1 = torch.exp((self.lambda_q1 * self.lambda_k1).sum())
        l2 = torch.exp((self.lambda_q2 * self.lambda_k2).sum())
        return l1 * attention - l2 * convolution

    def _forward_in_training(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`forward` with every factor folded into the weights, as `compile` does: half the time of a step."""
        batch, length, d = x.shape
        y = RmsNorm.apply(x, self.norm.weight, self.norm.eps)
        query = F.linear(y, self.query.weight * self.scale, self.query.bias * self.scale)
        if mask is None:
            scores = query @ y.transpose(1, 2)
        else:
            bias = y.new_zeros(batch, 1, length).masked_fill_(~mask[:, None, :], -math.inf)
            scores = torch.baddbmm(bias.expand(-1, length, -1), query, y.transpose(1, 2))
        attended = self.dropout(scores.softmax(-1)) @ y
        filtered = CausalDepthwise.apply(y.permute(2, 0, 1), self.conv.weight[:, 0], self.conv.bias)
        l1 = torch.exp((self.lambda_q1 * self.lambda_k1).sum())
        l2 = -torch.exp((self.lambda_q2 * self.lambda_k2).sum())
        bias = l1 * self.attention_out.bias + l2 * self.conv_out.bias
        attention = F.linear(attended.view(-1, d), l1 * self.attention_out.weight, bias)
        convolution = F.silu(filtered).reshape(d, -1).t()
        return torch.addmm(attention, convolution, (l2 * self.conv_out.weight).t()).view(batch, length, d)


class EmbBert(nn.Module):
    """EmbBERT with a linear head of `classes` outputs on token 0."""

    def __init__(self, config: EmbBertConfig, classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self.embedder = NanoEmbedder(config)
        self.blocks = nn.ModuleList(Block(config, dropout) for _ in range(config.layers))
        self.head = nn.Linear(config.hidden_size, classes)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, classes) of ids (B, L) int64; `mask` (B, L) bool is False on padding, at the end."""
        return self.head(self.states(ids, mask)[:, 0])

    def states(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """The last block's rows (B, L, d)."""
        x = self.embedder(ids, mask)
        for block in self.blocks:
            x = block(x, mask)
        return x

    def save_pretrained(
        self, path: Path, *, name: str, labels: Sequence[str] | None, tokenizer: Tokenizer
    ) -> ModelFolder:
        """Write config.json, model.safetensors and tokenizer.json, each whole or not at all.

        Raises InputError where the labels or the tokenizer do not fit the model.
        """
        folder = ModelFolder(Path(path), name, self.config, None if labels is None else tuple(labels))
        if folder.classes != self.classes:
            raise InputError(f"{folder.classes} labels do not fit a head of {self.classes} outputs")
        if tokenizer.get_vocab_size() != self.config.vocabulary_size:
            raise InputError(
                f"a tokenizer of {tokenizer.get_vocab_size()} tokens does not fit a model of "
                f"{self.config.vocabulary_size}"
            )
        tensors = {key: value.detach().contiguous() for key, value in self.state_dict().items()}
        write_atomically(folder.weights, safetensors.torch.save(tensors))
        save_tokenizer(tokenizer, folder.tokenizer_path)
        write_config(folder)
        return folder

    @classmethod
    def from_pretrained(cls, folder: ModelFolder | Path) -> EmbBert:
        """The model of a folder, in evaluation mode; InputError for a malformed checkpoint or another's."""
        if not isinstance(folder, ModelFolder):
            folder = read_folder(folder)
        tensors = load_weights(folder.weights)
        with torch.device("meta"):  # a config.json of absurd sizes costs no memory
            model = cls(folder.config, folder.classes)
        expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        for key in sorted(set(expected) | set(tensors)):
            if key not in tensors:
                raise InputError(f"{folder.weights}: has no tensor {key}")
            if key not in expected:
                raise InputError(f"{folder.weights}: holds {key}, which the model does not have")
            found = tuple(tensors[key].shape)
            if found != expected[key]:
                raise InputError(f"{folder.weights}: {key} has shape {found}, config.json asks for {expected[key]}")
        model.load_state_dict(tensors, assign=True)
        return model.eval()


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; InputError for a malformed one or what is not finite float32."""
    try:
        tensors = safetensors.torch.load_file(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # SafetensorError, which derives from Exception alone
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    for key, value in tensors.items():
        if value.dtype != torch.float32 or not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: {key} is not finite float32")
    return {key: value.clone() for key, value in tensors.items()}  # not a view of the file
