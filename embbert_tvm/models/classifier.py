"""What every architecture shares: an embedder, a linear head, a folder on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from embbert_tvm.data.files import check_is_here, write_atomically
from embbert_tvm.data.tokenizer import TextTokenizer, save_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.heads import FurtherHead
from embbert_tvm.models.config import ModelConfig
from embbert_tvm.models.embeddings import embedder_of
from embbert_tvm.models.folder import ModelFolder, write_config

_POOL_EPSILON = 1e-12  # keeps the root's gradient finite


def first_row(rows: Tensor, mask: Tensor | None) -> Tensor:
    """(B, L, d) -> (B, d)."""
    return rows[:, 0]


def mean_row(rows: Tensor, mask: Tensor | None) -> Tensor:
    """(B, L, d) -> (B, d): the mean over the rows that are no padding."""
    if mask is None:
        return rows.mean(1)
    kept = mask[:, :, None]
    return rows.masked_fill(~kept, 0.0).sum(1) / kept.sum(1)


def root_mean_square(x: Tensor, mask: Tensor | None) -> Tensor:
    """(B, L, d) -> (B, d): the root of the mean square over the rows that are no padding."""
    if mask is None:
        return x.pow(2).mean(1).add(_POOL_EPSILON).sqrt()
    kept = mask[:, :, None]
    return (x.pow(2).masked_fill(~kept, 0.0).sum(1) / kept.sum(1)).add(_POOL_EPSILON).sqrt()


class TextClassifier(nn.Module):
    """A text classifier: `states` makes rows, and the head reads what `pool` makes of them."""

    pool = staticmethod(first_row)
    on_any_device = True  # whether all that it computes with moves with `to`

    def __init__(self, config: ModelConfig, classes: int) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self.embedder = embedder_of(config)
        self.more: tuple[FurtherHead, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def add_heads(self, more: Sequence[FurtherHead]) -> None:
        """Give the model new heads beside those it has."""
        if not self.more:
            self.heads = nn.ModuleDict()
        self.more = (*self.more, *more)
        self.heads.update({head.name: nn.Linear(self.config.hidden_size, head.values) for head in more})

    def states(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Rows (B, L, d) of ids (B, L) int64; `mask` (B, L) bool is False on padding, at the end."""
        raise NotImplementedError

    def layers(self, ids: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """The rows behind each layer, those of `states` last; of an architecture that tells no others, these alone."""
        return [self.states(ids, mask)]

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Logits (B, classes) of ids (B, L) int64; `mask` (B, L) bool is False on padding, at the end.

        With further heads, the logits of each head, as `answers` has them.
        """
        found = self.answers(self.read_by_heads(ids, mask))
        return found if self.more else found[0]

    def read_by_heads(self, ids: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """What each head reads, the first of them first: (B, d), or (B, L, d) of tokens."""
        if not self.more:
            return [self.features(ids, mask)]
        rows = self.layers(ids, mask)
        found = [self.pool(rows[-1], mask)]
        for head in self.more:
            read = rows[-1] if head.layer is None or len(rows) == 1 else rows[head.layer - 1]
            found.append(read if head.of_tokens else self.pool(read, mask))
        return found

    def answers(self, read: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The logits of each head by what it reads: (B, classes), or (B, L, classes) of tokens."""
        more = zip(self.more, read[1:], strict=True)
        return (self.classify(read[0]), *(self.heads[head.name](x) for head, x in more))

    def features(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the head reads, (B, d)."""
        return self.pool(self.states(ids, mask), mask)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B, classes) of what the head reads."""
        return self.head(features)

    def folded(self) -> dict[str, Tensor]:
        """What an export computes of parameters alone, by names of its own: numbers that weights are multiplied by, and
        tensors in a parameter's place."""
        return {}

    def save_pretrained(
        self, path: Path, *, name: str, labels: Sequence[str] | None, tokenizer: TextTokenizer
    ) -> ModelFolder:
        """Write config.json, model.safetensors and tokenizer.json, each whole or not at all.

        Raises InputError where the labels or the tokenizer do not fit the model.
        """
        folder = ModelFolder(Path(path), name, self.config, None if labels is None else tuple(labels), more=self.more)
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


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; InputError for a malformed one or what is not finite float32."""
    check_is_here(path)
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
