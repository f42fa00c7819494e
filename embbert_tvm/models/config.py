"""The architectures' configurations, and the published sizes by name. No torch here."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from embbert_tvm.errors import InputError

_MOST = 2**20  # far past what a microcontroller holds: a number beyond is a mistake
_MOST_LAYERS = 1024
_SEGMENTS = 3  # padding, first text, second text


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model without its head. Raises InputError for a shape that cannot be.

    reduced_size is the width of the token and position tables, mapped up to hidden_size; 0 where the tables have the
    full width.
    """

    architecture: ClassVar[str]
    title: ClassVar[str]  # what people call it
    may_be_zero: ClassVar[frozenset[str]] = frozenset({"reduced_size"})
    may_be_missing: ClassVar[frozenset[str]] = frozenset()  # in files of earlier versions

    vocabulary_size: int = 8192
    max_length: int = 256
    hidden_size: int = 128
    reduced_size: int = 16

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            most = _MOST_LAYERS if field.name == "layers" else _MOST
            least = 0 if field.name in self.may_be_zero else 1
            if type(value) is not int or not least <= value <= most:
                raise InputError(f"the model's {field.name} must be a whole number of {least} to {most}, not {value!r}")
        if self.max_length < 2:
            raise InputError("a max_length of 1 has no room beside [CLS]")
        if self.vocabulary_size <= 5:
            raise InputError(f"a vocabulary of {self.vocabulary_size} has no room beside the 5 special tokens")

    @property
    def embedder_parameters(self) -> int:
        d, r, tables = self.hidden_size, self.reduced_size, self.vocabulary_size + self.max_length
        return (tables * r + 2 * r * d if r else tables * d) + _SEGMENTS * d

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer."""
        raise NotImplementedError

    @property
    def parameters(self) -> int:
        """How many weights the model has without its head."""
        return self.embedder_parameters + getattr(self, "layers", 1) * self.layer_parameters

    def to_dict(self) -> dict[str, int]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> ModelConfig:
        """The inverse of `to_dict`; raises InputError on a missing or unknown key."""
        if not isinstance(values, dict):
            raise InputError("the model's configuration must be a JSON object")
        known = {field.name for field in dataclasses.fields(cls)}
        missing, unknown = sorted(known - set(values) - cls.may_be_missing), sorted(set(values) - known)
        if missing or unknown:
            raise InputError(
                f"the model's configuration lacks {missing or 'nothing'}, does not know {unknown or 'none'}"
            )
        return cls(**values)


@dataclass(frozen=True)
class EmbBertConfig(ModelConfig):
    """EmbBERT (arXiv 2502.10001)."""

    architecture: ClassVar[str] = "embbert"
    title: ClassVar[str] = "EmbBERT"
    may_be_zero: ClassVar[frozenset[str]] = frozenset()
    may_be_missing: ClassVar[frozenset[str]] = frozenset({"pool_tokens", "pool_keys", "ids_per_token"})

    kernel_size: int = 32
    expansion: int = 1  # channels that the convolution makes of each
    layers: int = 4
    pool_tokens: int = 1  # rows of the first layer that the others read as one, their mean
    pool_keys: int = 1  # rows of which each key and value of an attention is the mean
    ids_per_token: int = 1  # rows of the token table whose mean a token is; max_length counts ids

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_length % self.ids_per_token:
            raise InputError(f"a max_length of {self.max_length} is not whole tokens of {self.ids_per_token} ids")

    @property
    def embedder_parameters(self) -> int:
        if self.ids_per_token == 1:
            return super().embedder_parameters
        return (self.vocabulary_size + self.hidden_size) * self.reduced_size

    @property
    def layer_parameters(self) -> int:
        d, channels = self.hidden_size, self.expansion * self.hidden_size
        attention = 2 * (d * d + d)
        convolution = channels * self.kernel_size + channels + channels * d + d
        return attention + convolution + d + 4 * d


@dataclass(frozen=True)
class EmbBertSumConfig(EmbBertConfig):
    """The ablation: a layer adds its branches instead of taking their weighted difference."""

    architecture: ClassVar[str] = "embbert-sum"
    title: ClassVar[str] = "EmbBERT with a plain sum"

    @property
    def layer_parameters(self) -> int:
        return super().layer_parameters - 4 * self.hidden_size


@dataclass(frozen=True)
class BertConfig(ModelConfig):
    """BERT: multi-head attention and a feed-forward block, each with a residual path and LayerNorm after it."""

    architecture: ClassVar[str] = "bert"
    title: ClassVar[str] = "BERT"

    feed_forward_size: int = 160
    heads: int = 2
    layers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.heads:
            raise InputError(f"a hidden_size of {self.hidden_size} cannot be cut in {self.heads} heads")

    @property
    def layer_parameters(self) -> int:
        d, inner = self.hidden_size, self.feed_forward_size
        return 4 * (d * d + d) + d * inner + inner + inner * d + d + 4 * d


@dataclass(frozen=True)
class BertEaConfig(ModelConfig):
    """BERT with efficient attention: one head whose keys and values are its input, RMSNorm before each block."""

    architecture: ClassVar[str] = "bert-ea"
    title: ClassVar[str] = "BERT with efficient attention"

    feed_forward_size: int = 168
    layers: int = 3

    @property
    def layer_parameters(self) -> int:
        d, inner = self.hidden_size, self.feed_forward_size
        return 2 * (d * d + d) + d * inner + inner + inner * d + d + 2 * d


@dataclass(frozen=True)
class MambaConfig(ModelConfig):
    """Mamba: RMSNorm, a gated selective state space, and a residual path."""

    architecture: ClassVar[str] = "mamba"
    title: ClassVar[str] = "Mamba"

    kernel_size: int = 4
    expansion: int = 1  # channels of the state space for each of the model's
    state_size: int = 6  # numbers that each of those channels remembers
    layers: int = 5

    @property
    def inner_size(self) -> int:
        return self.expansion * self.hidden_size

    @property
    def step_rank(self) -> int:
        """The width through which the step sizes are computed."""
        return math.ceil(self.hidden_size / 16)

    @property
    def layer_parameters(self) -> int:
        d, inner, rank, state = self.hidden_size, self.inner_size, self.step_rank, self.state_size
        maps = d * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner + inner * d
        return maps + inner * self.kernel_size + inner + inner * state + inner + d


@dataclass(frozen=True)
class EmbedderConfig(ModelConfig):
    """An embedder alone, with a causal depthwise convolution after it where kernel_size is not 0."""

    architecture: ClassVar[str] = "embedder"
    title: ClassVar[str] = "Embedder"
    may_be_zero: ClassVar[frozenset[str]] = frozenset({"reduced_size", "kernel_size"})

    kernel_size: int = 0

    @property
    def layer_parameters(self) -> int:
        return (self.kernel_size + 1) * self.hidden_size if self.kernel_size else 0


def ids_per_token(config: ModelConfig) -> int:
    """Ids that are a token of a model of that shape."""
    return config.ids_per_token if isinstance(config, EmbBertConfig) else 1


ARCHITECTURES: dict[str, type[ModelConfig]] = {
    config.architecture: config
    for config in (EmbBertConfig, EmbBertSumConfig, BertConfig, BertEaConfig, MambaConfig, EmbedderConfig)
}

PRESETS: dict[str, ModelConfig] = {
    "nano": EmbBertConfig(2048, 256, 64, 16, kernel_size=8, expansion=1, layers=2),
    "tiny": EmbBertConfig(2048, 256, 128, 16, kernel_size=16, expansion=1, layers=2),
    "base": EmbBertConfig(),
    "med": EmbBertConfig(8192, 512, 256, 16, kernel_size=32, expansion=2, layers=6),
    "big": EmbBertConfig(16384, 1024, 512, 32, kernel_size=64, expansion=2, layers=6),
    "base-sum": EmbBertSumConfig(),
    "base-pooled": EmbBertConfig(pool_tokens=4),
    "hash": EmbBertConfig(768, 2048, ids_per_token=8),
    "bert-2mb": BertConfig(2048, 256, 80, 0, feed_forward_size=160, heads=2, layers=2),
    "mamba-2mb": MambaConfig(2048, 256, 64, 0, kernel_size=4, expansion=1, state_size=6, layers=5),
    "embedder": EmbedderConfig(8192, 256, 320, 32),
    "embedder-conv": EmbedderConfig(8192, 256, 320, 32, kernel_size=16),
    "bert-ne": BertConfig(8192, 256, 90, 16, feed_forward_size=180, heads=2, layers=2),
    "bert-ea": BertEaConfig(2048, 256, 84, 0, feed_forward_size=168, layers=3),
    "bert-ne-ea": BertEaConfig(8192, 256, 128, 16, feed_forward_size=89, layers=4),
}
"""The paper's models by name: its family, the ablation, its baselines; and base-pooled and hash, of ours."""
