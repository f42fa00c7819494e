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
_LEAST_WEIGHT = 1e-3  # of the distance, by which the direction is divided


@dataclass(frozen=True)
class Learned:
    """How known texts look by their distance to the nearest class and a direction, each by a fit without it.

    The direction itself is fitted on all of them.
    """

    direction: Direction
    dev: np.ndarray
    others: np.ndarray


@dataclass(frozen=True)
class _Fit:
    """How known a text is: vectors @ weight - the squared distance."""

    weight: np.ndarray

    def known(self, vectors: np.ndarray, nearest: np.ndarray) -> np.ndarray:
        found: np.ndarray = vectors @ self.weight - nearest
        return found


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


def fit_direction(
    dev: np.ndarray, others: np.ndarray, dev_nearest: np.ndarray, others_nearest: np.ndarray
) -> Learned | None:
    """The direction by dev's vectors (N, width) and those of others (M, width), and their squared distances to the
    nearest class. None where the others are too few, or the distance tells nothing beside a direction."""
    if min(len(dev), len(others)) < FEWEST:
        return None
    vectors = np.concatenate([dev, others])
    nearest = np.concatenate([dev_nearest, others_nearest])
    is_dev = np.arange(len(vectors)) < len(dev)
    fold = np.empty(len(vectors), int)
    for kind in (is_dev, ~is_dev):
        fold[kind] = np.random.default_rng(0).permutation(kind.sum()) % FOLDS
    best: tuple[float, float, np.ndarray] | None = None
    for strength in _STRENGTHS:
        known = np.empty(len(vectors))
        for number in range(FOLDS):
            rest = fold != number
            found = _fit(vectors[rest], nearest[rest], is_dev[rest], strength)
            if found is None:
                break
            known[~rest] = found.known(vectors[~rest], nearest[~rest])
        else:
            told = auroc(known[is_dev], known[~is_dev])
            if best is None or told > best[0]:
                best = told, strength, known
    whole = None if best is None else _fit(vectors, nearest, is_dev, best[1])
    if best is None or whole is None:
        return None
    step = float(np.float32(max(np.abs(whole.weight).max(), 1e-6) / MOST_STEPS))
    direction = Direction(tuple(np.round(whole.weight / step).astype(int).tolist()), step)
    return Learned(direction, best[2][is_dev], best[2][~is_dev])


def _fit(vectors: np.ndarray, nearest: np.ndarray, is_dev: np.ndarray, strength: float) -> _Fit | None:
    # The vectors' own scale stays: what hardly varies within a class is small in them, and lost in int8.
    spread = nearest[is_dev].std() + 1e-6
    features = np.concatenate([vectors, nearest[:, None] / spread], 1)
    weight = logistic_regression(features - features[is_dev].mean(0), is_dev, strength)[:-1]
    return None if -weight[-1] < _LEAST_WEIGHT else _Fit(weight[:-1] * spread / -weight[-1])
