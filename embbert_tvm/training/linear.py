"""Training of `ngrams`: logistic regression on hashed n-grams, its strength chosen on dev, rounded to int8."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embbert_tvm.data.dataset import Example
from embbert_tvm.data.ngrams import Bags, NgramFeatures, hash_texts
from embbert_tvm.errors import InputError
from embbert_tvm.models.ngrams import NgramModel, columns_of
from embbert_tvm.training.optimization import one_thread

STRENGTHS = (
    0.3,
    1.0,
    3.0,
    10.0,
    30.0,
    100.0,
)  # 1 / (L2 weight x texts): the greater, the less the weights are held down
FEW_STRENGTHS = (1.0, 10.0, 100.0)
DEFAULT_BYTES = 60_000  # with the code and tables of firmware/tokenizer/embbert_ngrams.h 64 kB
_MANY_FEATURES = 2e7  # of all training texts: more are fitted with few strengths, to be done within minutes
_TEXTS = 2048  # whose features are counted together
_STEPS = 40  # of L-BFGS for each strength, from the weights of the one before
_PATIENCE = 2  # strengths in a row that may be worse than the best


@dataclass(frozen=True)
class LinearFit:
    """The model, its accuracy on dev, the strength that dev chose, and (strength, accuracy on dev) of all tried."""

    model: NgramModel
    dev_accuracy: float
    strength: float
    tried: list[tuple[float, float]]


def fit_ngrams(
    train: Sequence[Example],
    dev: Sequence[Example],
    labels: Sequence[str],
    features: NgramFeatures | None = None,
    table_bytes: int = DEFAULT_BYTES,
    strengths: Sequence[float] | None = None,
    on_strength: Callable[[float, float], None] = lambda strength, accuracy: None,
) -> LinearFit:
    """Fit a linear model whose table has at most `table_bytes`; dev chooses among the strengths by accuracy, then loss.

    Where no `strengths` are given they are `STRENGTHS`, or of long or very many texts `FEW_STRENGTHS`.
    Raises InputError where so many bytes hold no bucket for each class.
    """
    one_thread()
    labels = tuple(labels)
    columns = columns_of(len(labels))
    features = with_buckets(features or NgramFeatures(1), table_bytes // columns)
    index = {label: i for i, label in enumerate(labels)}
    bags = [_hashed(features, examples) for examples in (train, dev)]
    targets = torch.tensor([index[x.label] for x in train])
    expected = np.array([index.get(x.label, -1) for x in dev])
    weights = _frequency_weights(bags[0], features.buckets)
    problem = _Problem(_Sparse.of(bags[0], weights), targets, features.buckets, columns)
    if strengths is None:
        strengths = STRENGTHS if len(bags[0].buckets) < _MANY_FEATURES else FEW_STRENGTHS
    best, tried, worse = None, [], 0
    parameters = torch.zeros(features.buckets + 1, columns)
    for strength in strengths:
        parameters = problem.minimize(parameters, strength)
        model = _rounded(features, labels, parameters[:-1] * weights[:, None], parameters[-1])
        accuracy, loss = _judge(model.logits_of(bags[1]), expected)
        tried.append((strength, accuracy))
        on_strength(strength, accuracy)
        if best is None or (accuracy, -loss) > best[0]:
            best, worse = ((accuracy, -loss), model, strength), 0
        else:
            worse += 1
            if worse == _PATIENCE:
                break
    (accuracy, _), model, strength = best
    return LinearFit(model, accuracy, strength, tried)


def with_buckets(features: NgramFeatures, buckets: int) -> NgramFeatures:
    """The same n-grams in another number of buckets, at most 2**24 - 1."""
    if buckets < 1:
        raise InputError("the table has room for no bucket: give it more bytes")
    return NgramFeatures(min(buckets, 2**24 - 1), features.words, features.shortest, features.longest)


def _hashed(features: NgramFeatures, examples: Sequence[Example]) -> Bags:
    pairs = [x.text_pair for x in examples]
    return hash_texts(features, [x.text for x in examples], pairs if any(x is not None for x in pairs) else None)


def _frequency_weights(bags: Bags, buckets: int) -> Tensor:
    """ln((1 + texts) / (1 + texts with the bucket)) + 1, float32 (buckets,): how freely a bucket's weight may grow."""
    texts = np.zeros(buckets, np.int64)
    for _, column, _ in _counted(bags, buckets):
        texts += np.bincount(column, minlength=buckets)
    return torch.from_numpy((np.log((1 + len(bags)) / (1 + texts)) + 1).astype(np.float32))


def _counted(bags: Bags, buckets: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Text (int32), bucket (int32) and how often the text has it (float32), text after text, some texts at a time."""
    for first in range(0, len(bags), _TEXTS):
        starts = bags.starts[first : first + _TEXTS + 1]
        owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        keys = owners * np.int64(buckets) + bags.buckets[starts[0] : starts[-1]]
        keys, times = np.unique(keys, return_counts=True)
        row, column = np.divmod(keys, buckets)
        yield (row + first).astype(np.int32), column.astype(np.int32), times.astype(np.float32)


@dataclass(frozen=True)
class _Sparse:
    """A sparse matrix (texts, buckets) by its rows, and by its columns: products with either are sums of rows."""

    rows: tuple[Tensor, Tensor, Tensor]  # column of each value, where each row starts, values
    columns: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, bags: Bags, weights: Tensor) -> _Sparse:
        """count * weight / sqrt(features of the text)."""
        buckets, counts = len(weights), np.diff(bags.starts)
        row, column, times = (np.concatenate(x) for x in zip(*_counted(bags, buckets), strict=True))
        values = times / np.sqrt(np.maximum(counts, 1).astype(np.float32))[row] * weights.numpy()[column]
        order = np.argsort(column, kind="stable")
        return cls(
            _by_rows(row, column, values, len(bags)), _by_rows(column[order], row[order], values[order], buckets)
        )

    def times(self, x: Tensor) -> Tensor:
        return _sums(self.rows, x)

    def transposed_times(self, x: Tensor) -> Tensor:
        return _sums(self.columns, x)


def _by_rows(row: np.ndarray, column: np.ndarray, values: np.ndarray, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))[:-1]]).astype(np.int32)
    return torch.from_numpy(column), torch.from_numpy(starts), torch.from_numpy(values.astype(np.float32))


def _sums(matrix: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    index, starts, values = matrix
    return F.embedding_bag(index, x, starts, mode="sum", per_sample_weights=values)


class _Problem:
    """Mean cross-entropy of texts plus half the L2 weight times the squares; parameters (buckets + 1, columns)."""

    def __init__(self, matrix: _Sparse, targets: Tensor, buckets: int, columns: int) -> None:
        self._matrix, self._targets, self._buckets = matrix, targets, buckets
        self._wanted = F.one_hot(targets, columns).float() if columns > 1 else (targets == 1).float()[:, None]

    def minimize(self, start: Tensor, strength: float) -> Tensor:
        """The parameters after at most `_STEPS` steps of L-BFGS."""
        held = 1 / (strength * len(self._targets))
        parameters = start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [parameters], max_iter=_STEPS, history_size=8, tolerance_change=1e-7, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            with torch.no_grad():
                loss, parameters.grad = self._loss_and_gradient(parameters.detach(), held)
            return loss

        optimizer.step(closure)
        return parameters.detach()

    def _loss_and_gradient(self, parameters: Tensor, held: float) -> tuple[Tensor, Tensor]:
        weights, bias = parameters[:-1], parameters[-1]
        z = self._matrix.times(weights) + bias
        if self._wanted.shape[1] > 1:
            loss, found = F.cross_entropy(z, self._targets), z.softmax(1)
        else:
            loss, found = F.binary_cross_entropy_with_logits(z, self._wanted), z.sigmoid()
        error = (found - self._wanted) / len(self._targets)
        by_weights = self._matrix.transposed_times(error) + held * weights
        return loss + held / 2 * (weights * weights).sum(), torch.cat([by_weights, error.sum(0, keepdim=True)])


def _rounded(features: NgramFeatures, labels: tuple[str, ...], table: Tensor, bias: Tensor) -> NgramModel:
    scale = max(float(table.abs().max()) / 127, 1e-12)
    return NgramModel(features, labels, torch.round(table / scale).to(torch.int8).numpy(), scale, bias.numpy())


def _judge(logits: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Accuracy, in which a label that is not the model's is wrong, and mean loss over the others."""
    accuracy = float((logits.argmax(1) == expected).mean())
    known = expected >= 0
    loss = F.cross_entropy(torch.from_numpy(logits[known]), torch.from_numpy(expected[known]))
    return accuracy, float(loss)
