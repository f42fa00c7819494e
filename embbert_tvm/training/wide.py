"""`wide`: the logits of hashed n-grams added to a model's, both by weights that dev fits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from embbert_tvm.data.metrics import accuracy
from embbert_tvm.models.ngrams import NgramModel

WEIGHTS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 3.0)
# Of the model's own logits: less where it is surer than it is right, or the n-grams, whose scale is that of their
# probabilities, would have to outweigh it and be far too sure together.
OWN_WEIGHTS = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1)


@dataclass(frozen=True)
class WideFit:
    """The n-grams with their weight in them, the weight, that of the model's own logits, and what both together give on
    dev."""

    model: NgramModel
    weight: float
    own_weight: float
    logits: np.ndarray
    accuracy: float


def fit_wide(model: NgramModel, of_ngrams: np.ndarray, of_base: np.ndarray, expected: np.ndarray) -> WideFit:
    """The weights of least loss on dev, which says more than its accuracy where few texts are wrong.

    Args:
        of_ngrams: logits (N, classes) that `model` gives on dev.
        of_base: those of the model that it is added to.
        expected: class numbers (N,).
    """

    def together(weights: tuple[float, float]) -> np.ndarray:
        return np.float32(weights[0]) * of_base + np.float32(weights[1]) * of_ngrams

    weights = min(product(OWN_WEIGHTS, WEIGHTS), key=lambda w: mean_loss(together(w), expected))
    own, weight = weights
    logits = together(weights)
    return WideFit(model.scaled(weight), weight, own, logits, accuracy(expected, logits.argmax(1)))


def mean_loss(logits: np.ndarray, expected: np.ndarray) -> float:
    """Mean cross-entropy of the class numbers."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(expected)), expected]).mean())
