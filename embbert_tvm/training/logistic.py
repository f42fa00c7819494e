"""A direction in which texts of a model's labels differ from others, by logistic regression on few of the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embbert_tvm.rejection import MOST_STEPS, Direction
from embbert_tvm.training.confidence import auroc

FOLDS = 5
FEWEST = 4 * FOLDS  # of the others, from which a direction can be learned
_STRENGTHS = (1.0, 10.0, 100.0)  # of the penalty 1/2 s |w|^2, beside a loss that is summed over the texts
_ROUNDS = 25  # of Newton's method, which is done after about eight
_END = 1e-8
_LEAST_WEIGHT = 1e-3  # of the distance, by which the others are divided


@dataclass(frozen=True)
class Learned:
    """How known texts look by their distance to the nearest class and a direction, each by a fit without it.

    The direction itself is fitted on all of them.
    """

    direction: Direction
    dev: np.ndarray
    others: np.ndarray


@dataclass(frozen=True)
class Seen:
    """What tells known texts from others: vectors (N, width), the squared distances to the nearest class (N,), and of a
    model with n-grams the largest of their logits (N,)."""

    vectors: np.ndarray
    nearest: np.ndarray
    ngrams: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def at(self, rows: np.ndarray) -> Seen:
        return Seen(self.vectors[rows], self.nearest[rows], None if self.ngrams is None else self.ngrams[rows])

    def beside(self, others: Seen) -> Seen:
        """These texts and then the others."""
        both = None
        if self.ngrams is not None and others.ngrams is not None:
            both = np.concatenate([self.ngrams, others.ngrams])
        return Seen(
            np.concatenate([self.vectors, others.vectors]), np.concatenate([self.nearest, others.nearest]), both
        )


@dataclass(frozen=True)
class _Fit:
    """How known a text is: vectors @ weight - the squared distance, and where there are such n-grams * their factor."""

    weight: np.ndarray
    ngrams: float | None

    def known(self, seen: Seen) -> np.ndarray:
        found: np.ndarray = seen.vectors @ self.weight - seen.nearest
        return found if self.ngrams is None or seen.ngrams is None else found + self.ngrams * seen.ngrams


def logistic_regression(features: np.ndarray, positive: np.ndarray, strength: float) -> np.ndarray:
    """Weights (width + 1,), the last of them the bias, that tell rows of features (N, width) which are positive (N,).

    The two kinds weigh as much as each other. Newton's method on the log-likelihood less 1/2 strength |w|^2, the bias
    free.
    """
    rows = np.concatenate([features, np.ones((len(features), 1))], 1)
    share = np.where(positive, 1 / positive.sum(), 1 / (~positive).sum()) * len(rows) / 2
    penalty = np.full(rows.shape[1], strength)
    penalty[-1] = 0
    weight = np.zeros(rows.shape[1])
    for _ in range(_ROUNDS):
        likely = 1 / (1 + np.exp(-np.clip(rows @ weight, -30, 30)))
        slope = rows.T @ (share * (likely - positive)) + penalty * weight
        curvature = rows.T @ (rows * (share * likely * (1 - likely) + 1e-9)[:, None]) + np.diag(penalty + 1e-9)
        change = np.linalg.solve(curvature, slope)
        weight = weight - change
        if np.abs(change).max() < _END:
            break
    return weight


def fit_direction(dev: Seen, others: Seen) -> Learned | None:
    """The direction by dev's texts and others. None where one of the two are too few."""
    if min(len(dev), len(others)) < FEWEST:
        return None
    seen = dev.beside(others)
    is_dev = np.arange(len(seen)) < len(dev)
    fold = np.empty(len(seen), int)
    for kind in (is_dev, ~is_dev):
        fold[kind] = np.random.default_rng(0).permutation(kind.sum()) % FOLDS
    best: tuple[float, float, np.ndarray] | None = None
    for strength in _STRENGTHS:
        known = np.empty(len(seen))
        for number in range(FOLDS):
            rest = fold != number
            known[~rest] = _fit(seen.at(rest), is_dev[rest], strength).known(seen.at(~rest))
        told = auroc(known[is_dev], known[~is_dev])
        if best is None or told > best[0]:
            best = told, strength, known
    assert best is not None
    whole = _fit(seen, is_dev, best[1])
    step = float(np.float32(max(np.abs(whole.weight).max(), 1e-6) / MOST_STEPS))
    numbers = tuple(np.round(whole.weight / step).astype(int).tolist())
    return Learned(Direction(numbers, step, whole.ngrams), best[2][is_dev], best[2][~is_dev])


def _fit(seen: Seen, is_dev: np.ndarray, strength: float) -> _Fit:
    # The vectors' own scale stays: what hardly varies within a class is small in them, and lost in int8.
    spread = seen.nearest[is_dev].std() + 1e-6
    parts = [seen.vectors, seen.nearest[:, None] / spread]
    if seen.ngrams is not None:
        own_spread = seen.ngrams[is_dev].std() + 1e-6
        parts.append(seen.ngrams[:, None] / own_spread)
    features = np.concatenate(parts, 1)
    weight = logistic_regression(features - features[is_dev].mean(0), is_dev, strength)[:-1]
    width = seen.vectors.shape[1]
    factor = max(-weight[width], _LEAST_WEIGHT)  # of the distance
    ngrams = None if seen.ngrams is None else float(np.float32(weight[-1] / own_spread * spread / factor))
    return _Fit(weight[:width] * spread / factor, ngrams)
