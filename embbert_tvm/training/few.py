"""A classifier of a few sentences a label: a logistic regression on what an encoder reads that labels do not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from embbert_tvm.data.dataset import Example
from embbert_tvm.data.leaks import example_key
from embbert_tvm.data.metrics import accuracy
from embbert_tvm.data.tokenizer import TextTokenizer
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.progress import task
from embbert_tvm.training.linear import KINDS, LinearFit, NgramChoice, fit_ngrams
from embbert_tvm.training.optimization import one_thread
from embbert_tvm.training.pretrain import PretrainingCallbacks, Sentences, pretrain, sentence_ids
from embbert_tvm.training.recipe import VECTORS
from embbert_tvm.training.teacher import embed_all, open_encoder
from embbert_tvm.training.whitening import features_of, main_directions
from embbert_tvm.training.wide import mean_loss

if TYPE_CHECKING:
    from embbert_tvm.training.job import Job
    from embbert_tvm.training.sets import JobSets

FOLDS = 5
_STRENGTHS = (3.0, 10.0, 30.0, 100.0)  # 1 / (L2 weight x texts)
_NGRAM_CHOICES = [NgramChoice(*one) for one in product(KINDS, (False, True), (1.0, 3.0, 10.0))]
_ROUNDS = 200  # of L-BFGS

_Choice = TypeVar("_Choice")


@dataclass(frozen=True)
class FewFit:
    """Logits (N, classes) on what chose the strength, and the n-grams on the same texts. The model has its head."""

    logits: np.ndarray
    baseline: LinearFit


def learn_vectors(
    model: TextClassifier, tokenizer: TextTokenizer, texts: Sequence[str], encoder: Path, output: Path
) -> None:
    """Let a model's encoder learn a sentence encoder's vectors of the texts, which tells it nothing of their labels.

    An interrupted run goes on after its last checkpoint, beside `output`. Raises InputError for a folder that holds no
    sentence encoder.
    """
    teacher = open_encoder(encoder)
    cache, checkpoint = (output.with_name(f".{output.name}.{x}") for x in ("vectors.npy", "vectors.safetensors"))
    with task("the teacher reads", "texts", len(texts)) as reach:
        vectors = embed_all(teacher, texts, cache, reach)
    data = Sentences(sentence_ids(model.config, tokenizer, texts), vectors)
    with task("learning the teacher's vectors", "steps") as reach:
        pretrain(model, data, VECTORS, checkpoint, PretrainingCallbacks(on_step=reach))
    for path in (checkpoint, cache, cache.with_suffix(".json")):
        path.unlink(missing_ok=True)


def fit_few_job(
    job: Job, sets: JobSets, more: Sequence[Example], model: TextClassifier, tokenizer: TextTokenizer,
    ids: Sequence[Sequence[int]],
) -> FewFit:  # fmt: skip
    """`fit_few` of a job, whose encoder first learns the teacher's vectors, if there is one, of train and of `more`."""
    assert sets.labels is not None
    texts = [x.text for x in (*sets.train, *more)]

    def learn(model: TextClassifier) -> None:
        for teacher in job.teachers:
            learn_vectors(model, tokenizer, texts, teacher, job.output)

    with task("fitting the head"):
        return fit_few(model, ids, sets.train, sets.dev, sets.labels, learn if job.teachers else None)


def encoder_accuracy(encoder: Path, train: Sequence[Example], dev: Sequence[Example], labels: Sequence[str]) -> float:
    """What a head on a sentence encoder's vectors has on dev; where dev is train, each text by a fit without it.

    Raises InputError for a folder that holds no sentence encoder.
    """
    vectors = open_encoder(encoder).embed([x.text for x in (*train, *dev)])
    truth = _Truth.of(train, dev, labels)
    _, logits = _chosen_head(_scaled(vectors.astype(np.float64), len(train)), truth)
    return accuracy(truth.expected, logits.argmax(1))


def fit_few(
    model: TextClassifier, ids: Sequence[Sequence[int]], train: Sequence[Example], dev: Sequence[Example],
    labels: Sequence[str], learn: Callable[[TextClassifier], None] | None = None,
) -> FewFit:  # fmt: skip
    """Fit the head of a model whose encoder stays, and hashed n-grams, on `train`; `dev` chooses the strengths.

    Where dev is train, each text is told by a fit without it and without its equals: five folds, the texts of a label
    spread over them. Nothing is held back then.

    Args:
        ids: of the texts of train, then of dev's.
        learn: what the encoder learns of train's texts before it has its head. Where dev is train, the encoder as it
            was chooses: afterwards it knows them better than it knows new ones.
    """
    one_thread()
    truth = _Truth.of(train, dev, labels)
    if learn is not None and not truth.crossed:
        learn(model)
    features = _features(model, ids, len(train))
    strength, logits = _chosen_head(features, truth)
    if learn is not None and truth.crossed:
        learn(model)
        features = _features(model, ids, len(train))
    _give_head(model, features, *_regression(features.rows[: len(train)], truth.targets, len(labels), strength))

    def of_ngrams(choice: NgramChoice, rows: np.ndarray, told: np.ndarray) -> np.ndarray:
        some = [train[i] for i in rows], [dev[i] for i in told]
        return fit_ngrams(*some, labels, choice=choice).dev_logits

    choice, told = _chosen(of_ngrams, _NGRAM_CHOICES, truth)
    baseline = fit_ngrams(train, dev, labels, choice=choice)
    share = accuracy(truth.expected, told.argmax(1))
    return FewFit(logits, replace(baseline, dev_accuracy=share, tried=[(choice.strength, share)], dev_logits=told))


@dataclass(frozen=True)
class _Truth:
    """Class numbers of train and dev, -1 of a label that is not train's, and which rows of train are fitted on to tell
    which of dev. crossed: whether dev is train."""

    targets: np.ndarray
    expected: np.ndarray
    classes: int
    crossed: bool
    parts: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, train: Sequence[Example], dev: Sequence[Example], labels: Sequence[str]) -> _Truth:
        index = {label: number for number, label in enumerate(labels)}
        targets = np.array([index[x.label] for x in train])
        expected = np.array([index.get(x.label, -1) for x in dev])
        crossed = list(dev) == list(train)
        parts = list(_folds(train, targets)) if crossed else [(np.arange(len(train)), np.arange(len(dev)))]
        return cls(targets, expected, len(labels), crossed, parts)


def _features(model: TextClassifier, ids: Sequence[Sequence[int]], count: int) -> _Scaled:
    return _scaled(features_of(model, ids).astype(np.float64), count)


def _chosen_head(features: _Scaled, truth: _Truth) -> tuple[float, np.ndarray]:
    """The strength that tells dev best, and the logits that it gives. features: of train, then of dev."""
    head, of_dev = np.split(features.rows, [len(truth.targets)])

    def of_head(strength: float, rows: np.ndarray, told: np.ndarray) -> np.ndarray:
        weight, bias = _regression(head[rows], truth.targets[rows], truth.classes, strength)
        found: np.ndarray = of_dev[told] @ weight.T + bias
        return found

    return _chosen(of_head, _STRENGTHS, truth)


@dataclass(frozen=True)
class _Scaled:
    """Rows weight x + bias of features x: their main directions, of like spreads, about of length 1."""

    rows: np.ndarray
    weight: np.ndarray
    bias: np.ndarray


def _scaled(features: np.ndarray, count: int) -> _Scaled:
    """Fitted on the first `count` features."""
    weight, bias = main_directions(features[:count])
    return _Scaled(features @ weight.T + bias, weight, bias)


def _folds(examples: Sequence[Example], targets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(The rest, a fold) of row numbers: a label's texts are spread over the folds, equal ones stay together."""
    folds = np.zeros(len(examples), int)
    for label in np.unique(targets):
        rows = np.flatnonzero(targets == label)
        keys = list(dict.fromkeys(example_key(examples[i]) for i in rows))
        order = np.random.default_rng(int(label)).permutation(len(keys))
        fold = {key: (int(place) + int(label)) % FOLDS for key, place in zip(keys, order, strict=True)}
        folds[rows] = [fold[example_key(examples[i])] for i in rows]
    for number in np.unique(folds):
        rest, held = np.flatnonzero(folds != number), np.flatnonzero(folds == number)
        yield (rest if len(rest) else held), held


def _chosen(
    fit: Callable[[_Choice, np.ndarray, np.ndarray], np.ndarray],
    choices: Sequence[_Choice],
    truth: _Truth,
) -> tuple[_Choice, np.ndarray]:
    """The choice that tells most rightly, of equals that of the least loss, and the logits that it gives.

    fit: by a choice, on some rows of train, the logits of rows of dev.
    """
    found = []
    for choice in choices:
        pieces = [(told, fit(choice, rows, told)) for rows, told in truth.parts]
        logits = np.empty((len(truth.expected), pieces[0][1].shape[1]))
        for told, some in pieces:
            logits[told] = some
        known = truth.expected >= 0
        merit = (accuracy(truth.expected, logits.argmax(1)), -mean_loss(logits[known], truth.expected[known]))
        found.append((merit, choice, logits))
    _, choice, logits = max(found, key=lambda one: one[0])
    return choice, logits.astype(np.float32)


def _regression(rows: np.ndarray, targets: np.ndarray, classes: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (classes, width) and bias of a logistic regression with an L2 penalty, by L-BFGS."""
    given, wanted = torch.from_numpy(rows), torch.from_numpy(targets)
    weight = torch.zeros(classes, rows.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        found = F.cross_entropy(given @ weight.T + bias, wanted) + (weight**2).sum() / (2 * strength * len(rows))
        found.backward()
        return found

    optimizer.step(loss)
    return weight.detach().numpy(), bias.detach().numpy()


def _give_head(model: TextClassifier, features: _Scaled, weight: np.ndarray, bias: np.ndarray) -> None:
    """Make the regression on scaled features the head, which reads them as they are."""
    assert isinstance(model.head, nn.Linear)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weight @ features.weight))
        model.head.bias.copy_(torch.from_numpy(bias + weight @ features.bias))
    model.eval()
