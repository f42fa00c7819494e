"""Metrics of a model. Each takes arrays of equal length and gives a float."""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities (..., classes) in float64 of logits (..., classes)."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(-1, keepdims=True)
    return shares


def accuracy(expected: np.ndarray, predicted: np.ndarray) -> float:
    """The share of equal class numbers."""
    return float(np.mean(expected == predicted))


def mcc(expected: np.ndarray, predicted: np.ndarray) -> float:
    """Matthews' correlation coefficient of class numbers, of two or more; 0 where it is undefined."""
    size = int(max(expected.max(), predicted.max())) + 1
    table = np.zeros((size, size))
    np.add.at(table, (expected, predicted), 1)
    total, right = table.sum(), np.trace(table)
    actual, guessed = table.sum(1), table.sum(0)
    scale = np.sqrt((total**2 - (guessed**2).sum()) * (total**2 - (actual**2).sum()))
    return float((right * total - (actual * guessed).sum()) / scale) if scale > 0 else 0.0


def macro_f1(expected: np.ndarray, predicted: np.ndarray) -> float:
    """The mean over the classes that occur of their F1."""
    scores = []
    for label in np.union1d(expected, predicted):
        hit = np.sum((expected == label) & (predicted == label))
        scores.append(2 * hit / (np.sum(expected == label) + np.sum(predicted == label)))
    return float(np.mean(scores))


def positive_f1(expected: np.ndarray, predicted: np.ndarray) -> float:
    """F1 of class number 1, the positive one of two; 0 where it neither occurs nor is predicted."""
    hit = np.sum((expected == 1) & (predicted == 1))
    total = np.sum(expected == 1) + np.sum(predicted == 1)
    return float(2 * hit / total) if total else 0.0


def micro_f1(expected: np.ndarray, predicted: np.ndarray) -> float:
    """F1 over all labels of all texts, each (texts, classes) of booleans; 0 where there is no label at all."""
    hit = np.sum(expected & predicted)
    total = expected.sum() + predicted.sum()
    return float(2 * hit / total) if total else 0.0


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The mean over rows of the cosine of the angle between them."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(1) / np.maximum(lengths, 1e-12)))


def pearson(expected: np.ndarray, predicted: np.ndarray) -> float:
    """Pearson's correlation of numbers; 0 where one side is constant or not finite."""
    return _correlation(expected.astype(np.float64), predicted.astype(np.float64))


def spearman(expected: np.ndarray, predicted: np.ndarray) -> float:
    """Spearman's rank correlation of numbers, ties ranked by their mean; 0 where one side is constant."""
    return _correlation(_ranks(expected), _ranks(predicted))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if not all(np.isfinite(side).all() and side.min() < side.max() for side in (a, b)):
        return 0.0
    a, b = _direction(a), _direction(b)
    return float(np.clip((a * b).sum(), -1, 1))


def _direction(values: np.ndarray) -> np.ndarray:
    """The vector of length one along the values less their mean, however small or large they are."""
    values = np.ldexp(values, -int(np.frexp(np.abs(values).max())[1]))
    values = values - values.mean()
    values = np.ldexp(values, -int(np.frexp(np.abs(values).max())[1]))
    return values / np.sqrt((values**2).sum())


def _ranks(values: np.ndarray) -> np.ndarray:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[where.reshape(-1)]


CLASSIFICATION = {"accuracy": accuracy, "mcc": mcc, "f1": macro_f1, "f1_positive": positive_f1}
REGRESSION = {"spearman": spearman, "pearson": pearson}
