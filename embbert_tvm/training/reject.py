"""Fits what makes a model say "none of these": temperature, score and threshold, from logits of labelled texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.errors import InputError
from embbert_tvm.models.folder import ModelFolder, write_config
from embbert_tvm.rejection import DISTANCE, KNOWN, MAX_SOFTMAX, SCORES, Rejection, softmax
from embbert_tvm.training.confidence import Confidence, Outside, accepted_at, auroc, confidence, outside_of
from embbert_tvm.training.evaluate import OnStep, Texts, float_runner, run_all

KEEP = 0.95
MOST_MEANS = 64  # classes whose table of means, 16 kB, is worth its flash
_TEMPERATURES = (0.05, 20.0)
_ROUNDS = 60  # of the golden section, which end at a relative 1e-12


@dataclass(frozen=True)
class Fitted:
    """What was fitted on dev. compared: by score the AUROC by which the best was chosen; dev: after calibration."""

    rejection: Rejection
    compared: Mapping[str, float]
    before: Confidence
    dev: Confidence
    outside: Outside | None


def fit_folder(
    folder: ModelFolder,
    dev: Path,
    others: Path | None = None,
    keep: float | None = None,
    accept: float | None = None,
    on_step: OnStep = lambda done, total: None,
) -> Fitted:
    """Fit on a TSV of the model's labels, and where given one of texts that have none, and write config.json.

    keep: the share of dev that is accepted, KEEP where neither is given; accept: in its place, the share of the others.
    """
    if folder.labels is None:
        raise InputError(f"{folder.path}: is a regression: only a model of labels can say none of them")
    if accept is not None and others is None:
        raise InputError("a share of accepted texts needs texts that are none of the labels: give --outside TSV")
    examples = read_examples(dev, list(folder.labels))
    texts = Texts.of(folder, examples)
    strangers = [] if others is None else Texts.of(folder, read_examples(others)).ids
    logits = run_all(float_runner(folder), [*texts.ids, *strangers], on_step=on_step)
    count = len(texts.ids)
    found = fit(logits[:count], texts.expected, logits[count:] if others is not None else None, keep, accept)
    write_config(replace(folder, rejection=found.rejection))
    return found


def fit(
    logits: np.ndarray,
    expected: np.ndarray,
    others: np.ndarray | None = None,
    keep: float | None = None,
    accept: float | None = None,
) -> Fitted:
    """Fit on logits (N, classes) of texts with these class numbers, and (M, classes) of texts that have none."""
    logits = np.asarray(logits, np.float64)
    temperature, before, after = _calibrated(logits, expected)
    means = class_means(logits, expected)
    compared = {
        score: _separation(score, logits, expected, others, temperature, means)
        for score in SCORES
        if score != DISTANCE or logits.shape[1] <= MOST_MEANS
    }
    best = max(compared, key=lambda score: compared[score])
    kept = tuple(tuple(row) for row in means.tolist()) if best == DISTANCE else None
    without = Rejection(best, temperature, 0.0, kept)
    known = without.known(logits)
    threshold = _threshold(known, None if others is None else without.known(others), keep, accept)
    rejection = replace(without, threshold=threshold)
    figures = None if others is None else outside_of(rejection, logits, others)
    return Fitted(rejection, compared, before, after, figures)


def _calibrated(logits: np.ndarray, expected: np.ndarray) -> tuple[float, Confidence, Confidence]:
    """The temperature, and the figures without and with it. It stays 1 where another would not lower the error."""
    temperature = fit_temperature(logits, expected)
    before, after = (confidence(softmax(logits, t), expected) for t in (1.0, temperature))
    return (temperature, before, after) if after.ece < before.ece else (1.0, before, before)


def fit_temperature(logits: np.ndarray, expected: np.ndarray) -> float:
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
    if classes < 3:  # with one class left all look alike
        return float(score == MAX_SOFTMAX)
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
