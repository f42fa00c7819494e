"""What `train` and `distill` show at the end: what was tried, beside the linear baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from embbert_tvm.data.slots import TagFigures
from embbert_tvm.table import table
from embbert_tvm.training.candidates import BOARD, Candidate, smallest_near_best

if TYPE_CHECKING:
    from embbert_tvm.training.result import Result

_AS_GOOD = 0.002  # of accuracy: what few texts of dev decide
_HEIGHTS = "▁▂▃▄▅▆▇█"
_MOST_EPOCHS = 60  # that a line of curves has room for


def curves(series: Mapping[str, Sequence[float]]) -> str:
    """Curves by their name, a line each: their shape from the lowest to the highest value, the first and the last.

    What is not finite is drawn as a gap; of more epochs than a line has room for, evenly spread ones are.
    """
    width = max(map(len, series))
    return "\n".join(f"{name:{width}}  {_curve(v)}  {v[0]:.4f} to {v[-1]:.4f}" for name, v in series.items())


def _curve(values: Sequence[float]) -> str:
    if len(values) > _MOST_EPOCHS:
        values = [values[round(n * (len(values) - 1) / (_MOST_EPOCHS - 1))] for n in range(_MOST_EPOCHS)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(_HEIGHTS) - 1) / ((high - low) or 1)
    return "".join(_HEIGHTS[round((v - low) * scale)] if math.isfinite(v) else " " for v in values)


def curves_of(result: Result) -> dict[str, list[float]]:
    """Losses of each epoch by their name and, as the last, dev's metric."""
    history = result.history
    return {
        "loss on train": [x.train_loss for x in history],
        "loss on dev": [x.dev_loss for x in history],
        f"{result.metric} on dev": [x.dev_metric for x in history],
    }


def compared(result: Result) -> str:
    """Accuracy on dev, bytes of flash, instructions and milliseconds for a text of each model that was tried."""
    metric = "accuracy on dev" if result.baseline is not None else f"{result.metric} on dev"
    kept = result.kept
    rows = [("", "model", metric, "flash", "instructions", "ms")]
    for x in result.candidates:
        figure = f"{100 * x.accuracy:.2f} %" if result.baseline is not None else f"{x.accuracy:.4f}"
        rows.append(("*" * (x == kept), x.name, figure, *_costs(x)))
    lines = [table(rows, right=(2, 3, 4, 5)), "* is kept"]
    if any(x.cost is not None for x in result.candidates):
        lines[-1] += f"; in int8, for a text of median length, milliseconds on {BOARD} (estimated)"
    small = smallest_near_best(result.candidates) if result.baseline is not None else None
    if small is not None and small != kept:
        lines.append(f"The smallest within a point of the best is {small.name}.")
    return "\n".join(lines)


def recipes(result: Result) -> str:
    """The recipes of a search, with dev's metric of each."""
    rows = [("", "lr", "epochs", f"{result.metric} on dev")]
    rows += [("*" * (x == result.recipe), f"{x.lr:g}", f"{x.epochs}", f"{value:.4f}") for x, value in result.recipes]
    return table(rows, right=(1, 2, 3))


def tagging(figures: TagFigures) -> str:
    """How well words are tagged beside the label."""
    return f"F1 {figures.entity_f1:.4f}, label and all slots right of {100 * figures.both:.1f} % of the texts"


def advice(result: Result) -> str | None:
    """A sentence where the linear model is as good as the trained one, or better."""
    fit, accuracy = result.baseline, result.accuracy
    if fit is None or accuracy is None or not result.history or accuracy - fit.dev_accuracy > _AS_GOOD:
        return None
    relation = "better than" if fit.dev_accuracy > accuracy else "as good as"
    return (
        f"a linear model is {relation} this one on dev: --preset ngrams is smaller, and more epochs, "
        "--base embbert-base or `distill` may help"
    )


def _costs(candidate: Candidate) -> tuple[str, str, str]:
    cost = candidate.cost
    if cost is None:
        return "", "", ""
    count = "" if cost.instructions is None else f"{cost.instructions:,}"
    time = "" if cost.milliseconds is None else f"{cost.milliseconds:.2f}"
    return f"{cost.bytes:,}", count, time
