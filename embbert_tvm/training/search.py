"""Fine-tuning with one recipe, or within a time with several, of which dev chooses."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.training.batches import TokenizedSet
from embbert_tvm.training.finetune import Epoch, TrainingCallbacks, finetune, logits_in_order
from embbert_tvm.training.recipe import Recipe

# Of the first recipe's learning rate and epochs, the most useful first; each is tried from the best until then.
_STEPS = ((1.0, 2.0), (0.5, 1.0), (1.5, 1.0), (1.0, 0.5), (0.7, 1.5), (2.0, 0.5))


@dataclass(frozen=True)
class Found:
    """The model that is best on dev, with its recipe and history; `dev_logits` (N, outputs) in the order of dev."""

    model: TextClassifier
    recipe: Recipe
    history: list[Epoch]
    dev_logits: np.ndarray
    tried: list[tuple[Recipe, float]]
    checkpoints: tuple[Path, ...]

    def clean_up(self) -> None:
        """Delete what an interrupted training would have resumed from."""
        for path in self.checkpoints:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Training:
    """What is trained with each recipe.

    Args:
        start: a model to train, and what is trained in its place (through a rounding, or with low-rank terms).
        finish: what is done to the model after its training.
        checkpoint: of the first recipe; the others' have a number behind its stem.
    """

    start: Callable[[Recipe], tuple[TextClassifier, TextClassifier]]
    finish: Callable[[TextClassifier], None]
    train: TokenizedSet
    dev: TokenizedSet
    checkpoint: Path


def search(
    first: Recipe,
    budget: float | None,
    of: Training,
    progress: TrainingCallbacks,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Train with `first`; then, as long as the budget lasts, with other rates and epochs.

    A recipe that by the time of an epoch would not be done within the budget is not begun. budget: seconds, None for
    the first recipe alone.
    """
    began = clock()
    found: list[Found] = []
    paths: list[Path] = []

    def attempt(recipe: Recipe) -> float:
        """Train with a recipe; gives the seconds of an epoch."""
        number = len(paths)
        first_of_all = of.checkpoint
        numbered = first_of_all.with_name(f"{first_of_all.stem}-{number}{first_of_all.suffix}")
        paths.append(numbered if number else first_of_all)
        model, trained = of.start(recipe)
        before = clock()
        history = finetune(trained, of.train, of.dev, recipe, paths[-1], progress)
        seconds = (clock() - before) / recipe.epochs
        logits = logits_in_order(trained, of.dev)
        of.finish(model)
        found.append(Found(model, recipe, history, logits, [], ()))
        return seconds

    seconds = attempt(first)
    for rate, epochs in _STEPS if budget is not None else ():
        best = max(found, key=_merit).recipe
        recipe = dataclasses.replace(best, lr=best.lr * rate, epochs=max(1, round(best.epochs * epochs)))
        left = (budget or 0.0) - (clock() - began)
        if recipe.epochs * seconds > left or any(recipe == other.recipe for other in found):
            continue
        progress.on_note(f"recipe {len(found) + 1}: lr {recipe.lr:g}, {recipe.epochs} epochs")
        seconds = max(seconds, attempt(recipe))
    tried = [(other.recipe, _merit(other)[0]) for other in found]
    return dataclasses.replace(max(found, key=_merit), tried=tried, checkpoints=tuple(paths))


def _merit(found: Found) -> tuple[float, float]:
    best = [epoch for epoch in found.history if epoch.best][-1]
    return best.dev_metric, -best.dev_loss
