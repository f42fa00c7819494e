"""How far a text is from the classes by what a model's head reads, in steps of its spread within a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from embbert_tvm.data.dataset import calibration_sample
from embbert_tvm.graph.float_tensors import calibrate_folder
from embbert_tvm.graph.onnx_export import export_folder
from embbert_tvm.heads import VECTOR, FurtherHead
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.folder import ModelFolder, read_folder
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.rejection import KNOWN_HEAD
from embbert_tvm.training.optimization import one_thread

FOLDS = 5
MOST_BYTES = 2**15  # of the table of means
_RIDGE = 1.0  # of the mean variance, added to each: less lets the rounding of int8 be seen in what hardly varies
_LEVELS = 127
_LEAST = 1e-12  # by which what does not vary is divided


@dataclass(frozen=True)
class Whitening:
    """The map weight x + bias that makes the spread in a class 1 in each direction, and the classes' means there."""

    weight: np.ndarray
    bias: np.ndarray
    means: np.ndarray

    def vectors(self, features: np.ndarray) -> np.ndarray:
        found: np.ndarray = features @ self.weight.T + self.bias
        return found

    def distances(self, features: np.ndarray) -> np.ndarray:
        """The squared distance of each text to each class's mean, (N, classes)."""
        found = self.vectors(features)
        squares: np.ndarray = (found**2).sum(1)[:, None] - 2 * found @ self.means.T + (self.means**2).sum(1)
        return squares


@dataclass(frozen=True)
class Distances:
    """Squared distances to the classes' means: of dev (N, classes), each text by a map that was fitted without it; of
    the others (M, classes), None without. map: fitted on all of dev, its means whole numbers of `step`. The vectors of
    dev (N, width) and of the others are by that map. ngrams: of a model with n-grams the largest of their logits, of
    each text of dev (N,) and of the others."""

    dev: np.ndarray
    others: np.ndarray | None
    map: Whitening
    step: float
    dev_vectors: np.ndarray
    other_vectors: np.ndarray
    ngrams: tuple[np.ndarray, np.ndarray] | None = None


def fit_map(features: np.ndarray, expected: np.ndarray, classes: int) -> Whitening:
    """Fit on what the head reads of texts (N, width) and their class numbers (N,)."""
    present = [features[expected == c] if (expected == c).any() else features for c in range(classes)]
    means = np.stack([rows.mean(0) for rows in present])
    spread = features - means[expected]
    values, vectors = np.linalg.eigh(spread.T @ spread / len(spread))
    weight = (vectors / np.sqrt(values + _RIDGE * values.mean())).T
    bias = -weight @ features.mean(0)
    return Whitening(weight, bias, means @ weight.T + bias)


def distances(features: np.ndarray, expected: np.ndarray, classes: int) -> Distances:
    """features: of dev's texts, then of the others."""
    count = len(expected)
    known = features[:count].astype(np.float64)
    folds = np.random.default_rng(0).permutation(count) % FOLDS
    dev = np.empty((count, classes))
    for fold in range(FOLDS):
        rest = folds != fold
        dev[~rest] = fit_map(known[rest], expected[rest], classes).distances(known[~rest])
    found = fit_map(known, expected, classes)
    step = float(np.float32(np.abs(found.means).max() / _LEVELS))
    rounded = Whitening(found.weight, found.bias, np.round(found.means / step) * step)
    others = features[count:].astype(np.float64)
    others_distances = rounded.distances(others) if len(others) else None
    return Distances(dev, others_distances, rounded, step, rounded.vectors(known), rounded.vectors(others))


def main_directions(features: np.ndarray, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The map weight x + bias of features (N, width) to `count` of their main directions, all where not given.

    A direction is divided by sqrt(its variance + the mean variance), all of them by the mean length that this gives.
    """
    mean = features.mean(0)
    variances, vectors = np.linalg.eigh((features - mean).T @ (features - mean) / len(features))
    weight = np.ascontiguousarray((vectors / np.sqrt(np.maximum(variances + variances.mean(), _LEAST))).T[::-1][:count])
    weight /= max(float(np.linalg.norm((features - mean) @ weight.T, axis=1).mean()), _LEAST)
    return weight, -weight @ mean


def load_features(folder: ModelFolder, ids: Sequence[Sequence[int]]) -> np.ndarray:
    """What the first head of a folder's model reads of each text, (N, width)."""
    return features_of(load_classifier(folder), ids)


def features_of(model: TextClassifier, ids: Sequence[Sequence[int]]) -> np.ndarray:
    """What the first head of a model reads of each text, (N, width)."""
    one_thread()
    with torch.no_grad():
        return np.concatenate([model.features(torch.tensor([one])).numpy() for one in ids])


def add_known_head(folder: ModelFolder, found: Whitening, ids: Sequence[Sequence[int]]) -> ModelFolder:
    """Give a folder's model the map as a further head, export it, and calibrate it on token ids."""
    model = load_classifier(folder)
    if KNOWN_HEAD not in (head.name for head in model.more):
        model.add_heads([FurtherHead(KNOWN_HEAD, VECTOR, (), width=len(found.bias))])
    head = model.heads[KNOWN_HEAD]
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(found.weight))
        head.bias.copy_(torch.from_numpy(found.bias))
    written = model.save_pretrained(folder.path, name=folder.name, labels=folder.labels, tokenizer=folder.tokenizer)
    export_folder(written)
    few = calibration_sample([list(one) for one in ids])
    calibrate_folder(folder.path, few, with_second_moments=folder.trained_precision is None)
    return read_folder(folder.path)
