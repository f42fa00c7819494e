"""Fits what makes a model say "none of these": temperature, score and threshold, from logits of labelled texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.metrics import softmax
from embbert_tvm.errors import InputError
from embbert_tvm.models.folder import ModelFolder, write_config
from embbert_tvm.rejection import DISTANCE, KNOWN, LOGISTIC, MAHALANOBIS, MAX_SOFTMAX, OF_A_VECTOR, SCORES, Rejection
from embbert_tvm.training.confidence import (
    Confidence,
    Outside,
    accepted_at,
    auroc,
    confidence,
    outside_by,
    smooth_calibration_error,
)
from embbert_tvm.training.evaluate import Texts, float_runner, run_all
from embbert_tvm.training.logistic import Learned, Seen, fit_direction

if TYPE_CHECKING:
    from embbert_tvm.training.whitening import Distances

KEEP = 0.95
_LEAST_CLASSES = 3  # of which one can be left out: with one class left all look alike
MOST_MEANS = 64  # classes whose table of means, 16 kB, is worth its flash
_TEMPERATURES = (0.05, 20.0)
_AROUND, _STEPS = 0.3, 20  # how far from the likeliest another may be, in logarithms, and in how many steps
_ROUNDS = 60  # of the golden section, which end at a relative 1e-12


@dataclass(frozen=True)
class Fitted:
    """What was fitted on dev. compared: by score the AUROC by which the best was chosen, nothing
    where there is nothing to compare by; dev: after calibration."""

    rejection: Rejection
    compared: Mapping[str, float]
    before: Confidence
    dev: Confidence
    outside: Outside | None


@dataclass(frozen=True)
class RejectOptions:
    """How a model is to say that a text has none of its labels.

    Args:
        others: a TSV of texts that have none.
        keep: the share of dev that is accepted, KEEP where neither is given.
        accept: in its place, the share of the others.
        vector: whether the model gets the head of OF_A_VECTOR, a vector of the text, even where another score is kept.
    """

    others: Path | None = None
    keep: float | None = None
    accept: float | None = None
    vector: bool = False


DEFAULTS = RejectOptions()


def fit_folder(
    folder: ModelFolder,
    dev: Path,
    options: RejectOptions = DEFAULTS,
) -> Fitted:
    """Fit on a TSV of the model's labels, and where given one of texts that have none, and write config.json."""
    others, vector = options.others, options.vector
    if folder.labels is None:
        raise InputError(f"{folder.path}: is a regression: only a model of labels can say none of them")
    if options.accept is not None and others is None:
        raise InputError("a share of accepted texts needs texts that are none of the labels: give --outside TSV")
    texts = Texts.of(folder, read_examples(dev, list(folder.labels)))
    strange = None if others is None else Texts.of(folder, read_examples(others))
    ids = [*texts.ids, *(strange.ids if strange is not None else [])]
    count, classes = len(texts.ids), len(folder.labels)
    logits = run_all(float_runner(replace(folder, rejection=None)), ids)
    outside = None if strange is None else strange.together(logits[count:])
    whitened = _whitened(folder, ids, texts.expected, classes)
    if whitened is not None and strange is not None and texts.linear is not None and strange.linear is not None:
        whitened = replace(whitened, ngrams=(texts.linear.max(1), strange.linear.max(1)))
    found = fit(texts.together(logits[:count]), texts.expected, outside, options.keep, options.accept, whitened)
    if vector and whitened is None:
        raise InputError(f"{folder.path}: a vector needs torch, model.safetensors and not too many labels")
    if whitened is not None and (vector or found.rejection.score in OF_A_VECTOR):
        from embbert_tvm.training.whitening import add_known_head

        folder = add_known_head(folder, whitened.map, ids)
    write_config(replace(folder, rejection=found.rejection))
    return found


def _whitened(folder: ModelFolder, ids: Sequence[list[int]], expected: np.ndarray, classes: int) -> Distances | None:
    """Distances by what the head reads; None where that needs torch, the weights or a table that are not there."""
    if find_spec("torch") is None or not folder.weights.is_file():
        return None
    from embbert_tvm.training.whitening import MOST_BYTES, distances, load_features

    if classes * folder.config.hidden_size > MOST_BYTES or classes < 2:
        return None
    return distances(load_features(folder, ids), expected, classes)


def fit(
    logits: np.ndarray,
    expected: np.ndarray,
    others: np.ndarray | None = None,
    keep: float | None = None,
    accept: float | None = None,
    whitened: Distances | None = None,
) -> Fitted:
    """Fit on logits (N, classes) of texts with these class numbers, and (M, classes) of texts that have none.

    whitened: of the same texts, the distances by what the head reads.
    """
    logits = np.asarray(logits, np.float64)
    temperature, before, after = _calibrated(logits, expected)
    means = class_means(logits, expected)
    compared: dict[str, float] = {}
    if others is not None or logits.shape[1] >= _LEAST_CLASSES:
        compared = {
            score: _separation(score, logits, expected, others, temperature, means)
            for score in SCORES
            if score not in OF_A_VECTOR and (score != DISTANCE or logits.shape[1] <= MOST_MEANS)
        }
        if whitened is not None:
            compared[MAHALANOBIS] = _separation_by_distances(whitened, expected)
    learned = None if whitened is None else _learned(whitened)
    if learned is not None:
        compared[LOGISTIC] = auroc(learned.dev, learned.others)
    best = max(compared, key=lambda score: compared[score], default=MAX_SOFTMAX)
    if best in OF_A_VECTOR and whitened is not None:
        rows = np.round(whitened.map.means / whitened.step)
        without = Rejection(best, temperature, 0.0, tuple(map(tuple, rows.tolist())), whitened.step)
        known, strange = -whitened.dev.min(1), None if whitened.others is None else -whitened.others.min(1)
        if best == LOGISTIC and learned is not None:
            without = replace(without, direction=learned.direction)
            known, strange = learned.dev, learned.others
    else:
        kept = tuple(tuple(row) for row in means.tolist()) if best == DISTANCE else None
        without = Rejection(best, temperature, 0.0, kept)
        known, strange = without.known(logits), None if others is None else without.known(others)
    rejection = replace(without, threshold=_threshold(known, strange, keep, accept))
    figures = None if strange is None else outside_by(rejection, known, strange)
    return Fitted(rejection, compared, before, after, figures)


def _learned(whitened: Distances) -> Learned | None:
    if whitened.others is None:
        return None
    ngrams = whitened.ngrams or (None, None)
    dev = Seen(whitened.dev_vectors, whitened.dev.min(1), ngrams[0])
    return fit_direction(dev, Seen(whitened.other_vectors, whitened.others.min(1), ngrams[1]))


def _separation_by_distances(found: Distances, expected: np.ndarray) -> float:
    """What `_separation` is of other scores: without the others, of each class, its mean is left out."""
    if found.others is not None:
        return auroc(-found.dev.min(1), -found.others.min(1))
    classes = found.dev.shape[1]
    rest = [(-np.delete(found.dev, c, 1).min(1), expected == c) for c in range(classes)]
    several = [auroc(known[~own], known[own]) for known, own in rest if 0 < own.sum() < len(own)]
    return float(np.mean(several)) if several else 0.0


def _calibrated(logits: np.ndarray, expected: np.ndarray) -> tuple[float, Confidence, Confidence]:
    """The temperature, and the figures without and with it. It stays 1 where no other has a lower error."""
    temperature = fit_temperature(logits, expected)
    before, after = (confidence(softmax(logits, t), expected) for t in (1.0, temperature))
    return temperature, before, after


def fit_temperature(logits: np.ndarray, expected: np.ndarray) -> float:
    """The temperature of the least smooth calibration error, near that of the least negative log-likelihood, or 1."""
    right = logits.argmax(1) == expected
    near = likeliest_temperature(logits, expected) * np.exp(np.linspace(-_AROUND, _AROUND, 2 * _STEPS + 1))
    candidates = [1.0, *near[np.argsort(np.abs(np.arange(len(near)) - _STEPS), kind="stable")].tolist()]
    errors = [smooth_calibration_error(softmax(logits, t).max(1), right) for t in candidates]
    return float(np.float32(candidates[int(np.argmin(errors))]))


def likeliest_temperature(logits: np.ndarray, expected: np.ndarray) -> float:
    """The temperature of the least negative log-likelihood: one minimum, as that is convex in its inverse."""
    own = logits[np.arange(len(logits)), expected]
    best = logits.max(1)

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        sums = np.log(np.exp((logits - best[:, None]) * inverse).sum(1))
        return float(np.mean(sums - (own - best) * inverse))

    low, high = np.log(_TEMPERATURES)
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(_ROUNDS):
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if loss(a) <= loss(b) else (a, high)
    return float(np.float32(np.exp((low + high) / 2)))


def class_means(logits: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The mean logits (classes, classes) of each class's texts, rounded to float32; of all where a class has none."""
    rows = [logits[expected == c] if (expected == c).any() else logits for c in range(logits.shape[1])]
    return np.stack([row.mean(0) for row in rows]).astype(np.float32).astype(np.float64)


def _separation(
    score: str, logits: np.ndarray, expected: np.ndarray, others: np.ndarray | None, temperature: float,
    means: np.ndarray,
) -> float:  # fmt: skip
    """AUROC against the others; without them, the mean over the classes of that of a class against the rest, where the
    model knows nothing of the class: its logit and its mean are left out."""
    known = KNOWN[score]
    if others is not None:
        return auroc(known(logits, temperature, means), known(np.asarray(others, np.float64), temperature, means))
    classes = logits.shape[1]
    found = []
    for c in range(classes):
        if 0 < (expected == c).sum() < len(expected):
            scores = known(np.delete(logits, c, 1), temperature, np.delete(np.delete(means, c, 0), c, 1))
            found.append(auroc(scores[expected != c], scores[expected == c]))
    return float(np.mean(found)) if found else float(score == MAX_SOFTMAX)


def _threshold(known: np.ndarray, others: np.ndarray | None, keep: float | None, accept: float | None) -> float:
    if accept is None:
        return _float32(accepted_at(known, known, KEEP if keep is None else keep)[1], above=False)
    assert others is not None
    ordered = np.sort(others)
    most = int(np.floor(accept * len(ordered) + 1e-9))  # of the others that may be accepted
    if most >= len(ordered):
        return _float32(float(ordered[0]), above=False)
    return _float32(float(ordered[-1 - most]), above=True)


def _float32(value: float, above: bool) -> float:
    """The next float32 above a value, or the last that is not above it."""
    near = np.float32(value)
    if above and float(near) <= value:
        return float(np.nextafter(near, np.float32(np.inf)))
    if not above and float(near) > value:
        return float(np.nextafter(near, np.float32(-np.inf)))
    return float(near)
