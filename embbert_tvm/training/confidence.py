"""Measures of confidence: how far it is from being right, and how it tells what is known from what is not."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from embbert_tvm.rejection import MAX_SOFTMAX, Rejection

BINS = 15
SMOOTHING = 0.05
_CELLS = 500  # of equal width, to which confidence is rounded before it is smoothed
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.5)
RECALL = 0.95


@dataclass(frozen=True)
class Confidence:
    """Confidence on texts that have a label. risk: the share that is wrong of the most confident share of the texts."""

    ece: float
    aurc: float  # the mean of the risk over all coverages
    risk: dict[str, float]  # by coverage, as "0.95"


@dataclass(frozen=True)
class Outside:
    """How the texts of a set that have none of the labels are told from those that have one."""

    examples: int
    auroc: float
    auprc: float  # of finding the known
    auprc_outside: float  # of finding the others
    fpr_at_95_recall: float  # the share of the others that is accepted where 95 % of the known are
    rejected_known: float | None = None  # the share of each that the model's threshold rejects, where it has one
    accepted: float | None = None


def confidence(probabilities: np.ndarray, expected: np.ndarray) -> Confidence:
    """Figures of probabilities (N, classes) and class numbers (N,)."""
    certain, right = probabilities.max(1), probabilities.argmax(1) == expected
    risks = risks_by_coverage(certain, right)
    shown = {f"{share:g}": float(risks[max(1, round(share * len(risks))) - 1]) for share in COVERAGES}
    return Confidence(calibration_error(certain, right), float(risks.mean()), shown)


def calibration_error(certain: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """The expected calibration error: by how much confidence (N,) differs from accuracy, in bins of equal width."""
    where = np.clip(np.ceil(certain * bins).astype(int) - 1, 0, bins - 1)
    difference = np.bincount(where, certain - right, bins)
    return float(np.abs(difference).sum() / len(certain))


def smooth_calibration_error(certain: np.ndarray, right: np.ndarray) -> float:
    """`calibration_error` without the edges of bins: the difference is smoothed by a Gaussian of deviation SMOOTHING,
    mirrored at 0 and 1 (smECE of Blasiok and Nakkiran, arXiv 2309.12236)."""
    cell = np.clip((certain * _CELLS).astype(int), 0, _CELLS - 1)
    difference = np.bincount(cell, certain - right, _CELLS) / len(certain)
    return float(np.abs(_kernel() @ difference).mean())


@functools.cache
def _kernel() -> np.ndarray:
    """What a difference in each cell adds to the density at each cell's middle."""
    at = (np.arange(_CELLS) + 0.5) / _CELLS
    images = (at[:, None] - mirrored[None] for mirrored in (at, -at, 2 - at))
    scale = SMOOTHING * np.sqrt(2 * np.pi)
    return np.add.reduce([np.exp(-((x / SMOOTHING) ** 2) / 2) for x in images]) / scale


def risks_by_coverage(certain: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The share that is wrong of the 1, 2, ... N most confident; of equals each counts with their mean."""
    order = np.argsort(-certain, kind="stable")
    _, where, counts = np.unique(-certain[order], return_inverse=True, return_counts=True)
    wrong = (np.bincount(where, ~right[order]) / counts)[where]
    found: np.ndarray = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
    return found


def outside(known: np.ndarray, others: np.ndarray) -> Outside:
    """Figures of how known the known texts and the others look."""
    accepted, _ = accepted_at(known, others, RECALL)
    return Outside(len(others), auroc(known, others), auprc(known, others), auprc(-others, -known), accepted)


def outside_of(rejection: Rejection | None, logits: np.ndarray, others: np.ndarray) -> Outside:
    """Figures by the logits of the known texts and the others; by the largest score where nothing was fitted."""
    by = rejection or Rejection(MAX_SOFTMAX, 1.0, 0.0)
    known, strange = by.known(logits), by.known(others)
    return outside(known, strange) if rejection is None else outside_by(rejection, known, strange)


def outside_by(rejection: Rejection, known: np.ndarray, strange: np.ndarray) -> Outside:
    """Figures of how known the known texts and the others look, with what a threshold makes of it."""
    found = outside(known, strange)
    rejected, accepted = np.mean(known < rejection.threshold), np.mean(strange >= rejection.threshold)
    return replace(found, rejected_known=float(rejected), accepted=float(accepted))


def auroc(known: np.ndarray, others: np.ndarray) -> float:
    """The chance that a known text looks more known than another; equals count half."""
    ordered = np.sort(others)
    below, upto = np.searchsorted(ordered, known, "left"), np.searchsorted(ordered, known, "right")
    return float((below + upto).sum() / (2 * len(known) * len(others)))


def auprc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The average precision of finding the positive by falling score; equals are found together."""
    scores = np.concatenate([positive, negative])
    values, where = np.unique(-scores, return_inverse=True)
    hits = np.bincount(where[: len(positive)], minlength=len(values))
    found = np.cumsum(np.bincount(where, minlength=len(values)))
    return float((hits * np.cumsum(hits) / found).sum() / len(positive))


def accepted_at(known: np.ndarray, others: np.ndarray, recall: float) -> tuple[float, float]:
    """The share of the others that is accepted where at least that share of the known is, and the threshold."""
    threshold = float(np.sort(known)[len(known) - int(np.ceil(recall * len(known) - 1e-9))])
    return float(np.mean(others >= threshold)), threshold
