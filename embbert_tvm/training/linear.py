"""Training of `ngrams`: logistic regression on hashed n-grams, its strength chosen on dev, rounded to int8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embbert_tvm.data.dataset import Example
from embbert_tvm.data.ngrams import Bags, NgramFeatures, hash_texts
from embbert_tvm.errors import InputError
from embbert_tvm.models.ngrams import NgramModel, outputs_of
from embbert_tvm.training.linear_problems import (
    FullRank,
    LowRank,
    Problem,
    SparseTexts,
    frequency_weights,
    minimize,
    ratio_weights,
)
from embbert_tvm.training.optimization import one_thread
from embbert_tvm.training.recipe import NGRAM_BYTES

STRENGTHS = (
    0.3,
    1.0,
    3.0,
    10.0,
    30.0,
    100.0,
)  # 1 / (L2 weight x texts): the greater, the less the weights are held down
LOW_RANK_STRENGTHS = (0.3, 1.0, 3.0)
FEW_STRENGTHS = (1.0, 10.0, 100.0)
# Words alone fill a table less: of long texts, films' reviews in 51 kB, dev says 90.6 for 89.8, of short ones less.
KINDS = (NgramFeatures(1), NgramFeatures(1, longest=0))
_MANY_FEATURES = 2e7  # of all training texts: more are fitted with few strengths, to be done within minutes
_MANY_OUTPUTS, _OUTPUTS_A_RANK = 32, 3  # of so many the table has a third as many columns, projected to them
_PATIENCE = 2  # strengths in a row that may be worse than the best


@dataclass(frozen=True)
class LinearFit:
    """The model, its accuracy and mean loss on dev, the strength that dev chose, (strength, accuracy on dev) of all
    tried, and the model's logits (N, classes) on dev."""

    model: NgramModel
    dev_accuracy: float
    dev_loss: float
    strength: float
    tried: list[tuple[float, float]]
    dev_logits: np.ndarray


@dataclass(frozen=True)
class NgramChoice:
    """What dev chooses: n-grams, of which the buckets are not read, whether weights grow by labels' ratios too, and the
    strength."""

    features: NgramFeatures
    by_ratios: bool
    strength: float


def fit_ngrams(
    train: Sequence[Example],
    dev: Sequence[Example],
    labels: Sequence[str],
    features: NgramFeatures | None = None,
    table_bytes: int = NGRAM_BYTES,
    choice: NgramChoice | None = None,
) -> LinearFit:
    """Fit a linear model whose table has at most `table_bytes`; dev chooses among the strengths, where no features are
    given among `KINDS`, and whether weights grow by labels' ratios too (`ratio_weights`), by accuracy, then loss.

    The strengths are `STRENGTHS`, or of long or very many texts `FEW_STRENGTHS`. With a `choice` dev chooses nothing:
    then it may be train itself.
    Raises InputError where so many bytes hold no bucket for each class.
    """
    one_thread()
    outputs = outputs_of(len(labels))
    buckets = _buckets(table_bytes, outputs, _rank(outputs))
    if choice is not None:
        sets = _Sets.of(train, dev, labels, with_buckets(choice.features, buckets))
        return _fit(sets, choice.by_ratios, (choice.strength,))
    kinds = [with_buckets(kind, buckets) for kind in (KINDS if features is None else (features,))]
    hashed = [_Sets.of(train, dev, labels, kind) for kind in kinds]
    fits = [(_fit(sets, by_ratios=False), sets) for sets in hashed]
    best, sets = max(fits, key=lambda found: _by_dev(found[0]))
    return max(best, _fit(sets, by_ratios=True), key=_by_dev)


@dataclass(frozen=True)
class _Sets:
    """A train and a dev set as hashed n-grams and numbers of labels, -1 of a label that is not the model's."""

    labels: tuple[str, ...]
    features: NgramFeatures
    bags: Bags
    targets: Tensor
    dev_bags: Bags
    expected: np.ndarray

    @classmethod
    def of(
        cls, train: Sequence[Example], dev: Sequence[Example], labels: Sequence[str], features: NgramFeatures
    ) -> _Sets:
        index = {label: i for i, label in enumerate(labels)}
        targets = torch.tensor([index[x.label] for x in train])
        expected = np.array([index.get(x.label, -1) for x in dev])
        return cls(tuple(labels), features, _hashed(features, train), targets, _hashed(features, dev), expected)


def _by_dev(fit: LinearFit) -> tuple[float, float]:
    return fit.dev_accuracy, -fit.dev_loss


def _fit(sets: _Sets, by_ratios: bool, strengths: Sequence[float] | None = None) -> LinearFit:
    """The best model of these features in so many buckets."""
    buckets, outputs = sets.features.buckets, outputs_of(len(sets.labels))
    rank = _rank(outputs)
    weights = frequency_weights(sets.bags, buckets)
    if by_ratios:
        weights *= ratio_weights(sets.bags, sets.targets.numpy(), buckets, len(sets.labels))
    matrix = SparseTexts.of(sets.bags, weights)
    problem: Problem
    if rank is None:
        problem = FullRank(matrix, sets.targets, buckets, outputs)
    else:
        problem = LowRank(matrix, sets.targets, buckets, outputs, rank)
    if strengths is None:
        many = len(sets.bags.buckets) >= _MANY_FEATURES
        strengths = FEW_STRENGTHS if many else STRENGTHS if rank is None else LOW_RANK_STRENGTHS
    best: LinearFit | None = None
    tried, worse = [], 0
    parameters = problem.start()
    for strength in strengths:
        parameters = minimize(problem, parameters, strength)
        table, bias, projection = problem.parts(parameters)
        model = _rounded(sets.features, sets.labels, table * weights[:, None], bias, projection)
        logits = model.logits_of(sets.dev_bags)
        accuracy, loss = _scores(logits, sets.expected)
        tried.append((strength, accuracy))
        fit = LinearFit(model, accuracy, loss, strength, tried, logits)
        if best is None or _by_dev(fit) > _by_dev(best):
            best, worse = fit, 0
        else:
            worse += 1
            if worse == _PATIENCE:
                break
    assert best is not None
    return best


def with_buckets(features: NgramFeatures, buckets: int) -> NgramFeatures:
    """The same n-grams in another number of buckets, at most 2**24 - 1."""
    if buckets < 1:
        raise InputError("the table has room for no bucket: give it more bytes")
    return NgramFeatures(min(buckets, 2**24 - 1), features.words, features.shortest, features.longest)


def _hashed(features: NgramFeatures, examples: Sequence[Example]) -> Bags:
    pairs = [x.text_pair for x in examples]
    return hash_texts(features, [x.text for x in examples], pairs if any(x is not None for x in pairs) else None)


def _rank(outputs: int) -> int | None:
    """Columns of a table that a second matrix takes to so many outputs; None where the table has a column for each."""
    return -(-outputs // _OUTPUTS_A_RANK) if outputs >= _MANY_OUTPUTS else None


def _buckets(table_bytes: int, outputs: int, rank: int | None) -> int:
    return table_bytes // outputs if rank is None else (table_bytes - rank * outputs) // rank


def _rounded(
    features: NgramFeatures, labels: tuple[str, ...], table: Tensor, bias: Tensor, projection: Tensor | None
) -> NgramModel:
    scale, rounded = _int8(table)
    if projection is None:
        return NgramModel(features, labels, rounded, scale, bias.numpy())
    scale_of_projection, rounded_projection = _int8(projection)
    return NgramModel(features, labels, rounded, scale * scale_of_projection, bias.numpy(), rounded_projection)


def _int8(values: Tensor) -> tuple[float, np.ndarray]:
    scale = max(float(values.abs().max()) / 127, 1e-12)
    return scale, torch.round(values / scale).to(torch.int8).numpy()


def _scores(logits: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Accuracy, in which a label that is not the model's is wrong, and mean loss over the others."""
    accuracy = float((logits.argmax(1) == expected).mean())
    known = expected >= 0
    loss = F.cross_entropy(torch.from_numpy(logits[known]), torch.from_numpy(expected[known]))
    return accuracy, float(loss)
