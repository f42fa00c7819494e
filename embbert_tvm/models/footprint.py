"""What a model takes in memory by formula, as the paper's Table 1 counts it: weights, and the activations of the step
that holds most, every matrix whole. What `compile` plans is less: see measuring/footprint.py.

For EmbBERT the paper (arXiv 2502.10001) gives 4 (weights + l^2 + (1 + alpha) l d) bytes. The formulas of the baselines
are not quoted from it but follow by its rule, and come to the 2 MB that their names say: l tokens, d hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from embbert_tvm.errors import InputError
from embbert_tvm.models.config import BertConfig, BertEaConfig, EmbBertConfig, EmbedderConfig, MambaConfig, ModelConfig

_FLOAT32 = 4


@dataclass(frozen=True)
class Analytic:
    """Numbers, not bytes: the model's parameters without its head, and the activations alive at once."""

    weights: int
    activations: int

    @property
    def weights_bytes(self) -> int:
        """Bytes of the weights in float32."""
        return _FLOAT32 * self.weights

    @property
    def activations_bytes(self) -> int:
        """Bytes of the activations in float32."""
        return _FLOAT32 * self.activations

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.activations_bytes


def analytic(config: ModelConfig, length: int | None = None) -> Analytic:
    """The footprint at `length` tokens, max_length where not given. InputError for a length that the model lacks."""
    length = config.max_length if length is None else length
    if not 1 <= length <= config.max_length:
        raise InputError(f"a length of {length} is not in 1 to {config.max_length}, what the model takes")
    return Analytic(config.parameters, activations(config, length))


@singledispatch
def activations(config: ModelConfig, length: int) -> int:
    """How many numbers the largest step of a model holds at once."""
    raise NotImplementedError(type(config).__name__)


@activations.register
def _(config: EmbBertConfig, length: int) -> int:
    """l^2 + (1 + alpha) l d: the scores, the block's input and the filtered channels; as published, l the tokens that
    the ids are."""
    length //= config.ids_per_token
    return length * length + (1 + config.expansion) * length * config.hidden_size


@activations.register
def _(config: BertConfig, length: int) -> int:
    """The greater of heads l^2 + 4 l d (scores of every head, queries, keys, values, the residual path) and
    l (f + 2 d) (inside of the feed-forward block, its output, the residual path)."""
    rows = length * config.hidden_size
    attention = config.heads * length * length + 4 * rows
    return max(attention, length * config.feed_forward_size + 2 * rows)


@activations.register
def _(config: BertEaConfig, length: int) -> int:
    """The greater of l^2 + 2 l d (scores, queries, the input, which is key, value and residual path) and
    l (f + 2 d), as BERT's."""
    rows = length * config.hidden_size
    return max(length * length + 2 * rows, length * config.feed_forward_size + 2 * rows)


@activations.register
def _(config: MambaConfig, length: int) -> int:
    """l d + 3 l c + 2 l c n: the residual path; inputs, steps and gate of the c channels; what each channel keeps and
    takes in of its n numbers at every token, as the parallel scan has it."""
    channels = length * config.inner_size
    return length * config.hidden_size + 3 * channels + 2 * channels * config.state_size


@activations.register
def _(config: EmbedderConfig, length: int) -> int:
    """2 l d: two of the tables' rows that are added, or a convolution's input and output."""
    return 2 * length * config.hidden_size
