"""`wide`: the logits of hashed n-grams added to a model's, by a weight that dev fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embbert_tvm.data.metrics import accuracy
from embbert_tvm.models.ngrams import NgramModel

WEIGHTS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 3.0)


@dataclass(frozen=True)
class WideFit:
    """The n-grams with their weight in them, the weight, and what both models together give on dev."""

    model: NgramModel
    weight: float
    logits: np.ndarray
    accuracy: float


def fit_wide(model: NgramModel, of_ngrams: np.ndarray, of_base: np.ndarray, expected: np.ndarray) -> WideFit:
    """The weight of least loss on dev, which says more than its accuracy where few texts are wrong.

    Args:
        of_ngrams: logits (N, classes) that `model` gives on dev.
        of_base: those of the model that it is added to.
        expected: class numbers (N,).
    """
    weight = min(WEIGHTS, key=lambda w: mean_loss(of_base + np.float32(w) * of_ngrams, expected))
    together = of_base + np.float32(weight) * of_ngrams
    return WideFit(model.scaled(weight), weight, together, accuracy(expected, together.argmax(1)))


def mean_loss(logits: np.ndarray, expected: np.ndarray) -> float:
    """Mean cross-entropy of the class numbers."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(expected)), expected]).mean())
