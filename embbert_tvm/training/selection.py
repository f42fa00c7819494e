"""Which of a training's models a user is given: the n-grams alone, the model, or both together."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from embbert_tvm.data import metrics
from embbert_tvm.data.classes import class_figures, confusions
from embbert_tvm.data.dataset import Example
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.folder import WIDE
from embbert_tvm.models.ngrams import NgramFolder, NgramModel
from embbert_tvm.training.candidates import Candidate, Cost, Limits, Measure, best_within, measured
from embbert_tvm.training.linear import LinearFit
from embbert_tvm.training.result import Result
from embbert_tvm.training.wide import fit_wide

NGRAMS = "ngrams"


@dataclass(frozen=True)
class Variant:
    """A candidate with its logits on dev; the n-grams that it adds, or that it is where `tokens` is false."""

    candidate: Candidate
    logits: np.ndarray
    ngrams: NgramModel | None = None
    weight: float | None = None
    own_weight: float = 1.0  # of the logits of the model of tokens
    tokens: bool = True


def variants_of(
    title: str, logits: np.ndarray, expected: np.ndarray, baseline: LinearFit, wide: bool | None
) -> list[Variant]:
    """The n-grams, the model of tokens, and unless `wide` is False both together.

    Args:
        title: what the model of tokens is called.
        logits: what it gives on dev (N, classes).
        expected: class numbers (N,).
    """
    linear = Variant(Candidate(NGRAMS, baseline.dev_accuracy), baseline.dev_logits, baseline.model, tokens=False)
    base = Variant(Candidate(title, metrics.accuracy(expected, logits.argmax(1))), logits)
    if wide is False:
        return [linear, base]
    fit = fit_wide(baseline.model, baseline.dev_logits, logits, expected)
    both = Variant(Candidate(f"{title} + {NGRAMS}", fit.accuracy), fit.logits, fit.model, fit.weight, fit.own_weight)
    return [linear, base, both]


def weigh_head(model: TextClassifier, variants: Sequence[Variant], wide: bool | None) -> None:
    """Make the logits of the model's head what their sum with n-grams takes of them, where these are added."""
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter *= _preferred(variants, wide).own_weight


def _preferred(variants: Sequence[Variant], wide: bool | None) -> Variant:
    """The model of tokens, with n-grams where dev gains by them or `wide` says so; the n-grams where there is none."""
    chosen = next((v for v in variants if v.tokens and v.ngrams is None), variants[0])
    both = next((v for v in variants if v.tokens and v.ngrams is not None), None)
    better = both is not None and (wide or both.candidate.accuracy > chosen.candidate.accuracy)
    return both if both is not None and better else chosen


@dataclass(frozen=True)
class Criteria:
    """What decides which of several variants is chosen.

    Args:
        limits: on what it costs, as `measure` tells it of `example`.
        wide: whether n-grams are added to a model of tokens, None for as dev prefers.
    """

    limits: Limits
    measure: Measure | None
    example: Example
    wide: bool | None = None
    on_note: Callable[[str], None] = lambda note: None

    def cost(self, path: Path) -> Cost | None:
        """What the model in a folder costs."""
        return measured(self.measure, path, self.example, self.on_note)


def select(path: Path, name: str, variants: Sequence[Variant], criteria: Criteria) -> tuple[Variant, list[Candidate]]:
    """Make of the model folder `path`, which holds the model of tokens, the variant that is best on dev.

    Without limits the n-grams are added where dev gains by them, or where the criteria say so; the n-grams alone are
    never chosen: they are told beside. Gives the variant and what was measured of each.
    WorkError where nothing is within the limits.
    """
    costs = [_cost(path, name, variant, criteria) for variant in variants]
    figures = [dataclasses.replace(v.candidate, cost=cost) for v, cost in zip(variants, costs, strict=True)]
    if criteria.limits:
        chosen = variants[figures.index(best_within(figures, criteria.limits))]
    else:
        chosen = _preferred(variants, criteria.wide)
    if chosen.ngrams is not None and chosen.tokens:
        chosen.ngrams.save(path / WIDE, name)
    elif chosen.ngrams is not None:
        for entry in path.iterdir():
            entry.unlink()
        chosen.ngrams.save(path, name)
    return chosen, figures


def _cost(path: Path, name: str, variant: Variant, criteria: Criteria) -> Cost | None:
    if criteria.measure is None:
        return None
    if variant.ngrams is None:
        return criteria.cost(path)
    with tempfile.TemporaryDirectory(prefix="embbert-") as scratch:
        folder = Path(scratch) / name
        if variant.tokens:
            shutil.copytree(path, folder)
        variant.ngrams.save(folder / WIDE if variant.tokens else folder, name)
        return criteria.cost(folder)


def told(
    result: Result, chosen: Variant, candidates: list[Candidate], expected: np.ndarray, labels: list[str]
) -> Result:
    """The result with what dev says of the variant that was chosen."""
    predicted = chosen.logits.argmax(1)
    folder = result.folder
    if chosen.ngrams is not None and not chosen.tokens:
        folder = NgramFolder(folder.path, folder.name, chosen.ngrams)
    return dataclasses.replace(
        result,
        folder=folder,
        value=metrics.mcc(expected, predicted) if result.tagging is None else result.value,
        accuracy=metrics.accuracy(expected, predicted),
        classes=class_figures(expected, predicted, labels),
        confused=confusions(expected, predicted, labels),
        wide_weight=chosen.weight,
        candidates=candidates,
        kept=next(x for x in candidates if x.name == chosen.candidate.name),
    )
