"""Figures as pictures, PNG or SVG, by matplotlib (the extra `plot`)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embbert_tvm.data.files import write_atomically
from embbert_tvm.data.predictions import Prediction, reliability
from embbert_tvm.device.profile import Profile
from embbert_tvm.errors import InputError
from embbert_tvm.training.confidence import risks_by_coverage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (".png", ".svg")
_BINS = 10
_MOST_NAMES = 40  # of classes that axes name


def check(path: Path) -> None:
    """InputError for a file that no picture goes into, or without matplotlib: before the work, not after it."""
    if path.suffix.lower() not in KINDS:
        raise InputError(f"--plot {path}: give a name that ends in {' or '.join(KINDS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f"--plot {path}: needs matplotlib: pip install 'embbert-tvm[plot]'") from error


def answers(path: Path, predictions: Sequence[Prediction]) -> None:
    """Draw which labels are taken for which, how often answers are right by their probability, and the share that is
    wrong of the most probable answers; values as dots."""
    if not predictions:
        raise InputError(f"--plot {path}: the model gives neither a label nor a value a text")
    figure = _figure(17, 5)
    if any(p.probability is None for p in predictions):
        axes = figure.subplots()
        axes.scatter([float(p.example.label) for p in predictions], [float(p.predicted) for p in predictions], s=8)
        axes.set(xlabel="expected", ylabel="predicted")
    else:
        left, middle, right = figure.subplots(1, 3)
        _confusion(left, predictions)
        _calibration(middle, predictions)
        _risk(right, predictions)
    _write(figure, path)


def profile(path: Path, found: Profile) -> None:
    """Draw what each layer of an inference takes, at each length."""
    figure = _figure(9, 5)
    axes = figure.subplots()
    cycles = found.lengths[0].total_instructions is None
    counts = [[(x.cycles if cycles else x.instructions) or 0 for x in one.layers] for one in found.lengths]
    most, bottoms = max(map(sum, counts)), [0.0] * len(counts)
    for number, layer in enumerate(found.lengths[-1].layers):
        heights = [of_length[number] / 1e6 for of_length in counts]
        if max(heights) >= most / 2e8:  # a two hundredth of the largest bar
            axes.bar([str(one.length) for one in found.lengths], heights, bottom=bottoms, label=layer.name)
        bottoms = [below + height for below, height in zip(bottoms, heights, strict=True)]
    axes.set(xlabel="tokens", ylabel=f"million {'cycles' if cycles else 'instructions'}", title=f"on {found.on}")
    axes.legend(fontsize="small")
    _write(figure, path)


def search(path: Path, costs: Sequence[tuple[int, float]], objective: str) -> None:
    """Draw the cost of an inference by the best schedules, after each number of trials."""
    figure = _figure(9, 5)
    axes = figure.subplots()
    axes.step([trials for trials, _ in costs], [cost / 1e6 for _, cost in costs], where="post")
    axes.set(xlabel="trials", ylabel=f"million {objective} of an inference")
    _write(figure, path)


def training(path: Path, curves: Mapping[str, Sequence[float]], kept: int) -> None:
    """Draw the losses of each epoch and, beside them, the last of the curves, dev's metric, with the epoch kept."""
    *losses, metric = curves
    values = curves[metric]
    if not values:
        raise InputError(f"--plot {path}: a linear model has no epochs to draw")
    figure, numbers = _figure(12, 5), range(1, len(values) + 1)
    left, right = figure.subplots(1, 2)
    for name in losses:
        left.plot(numbers, curves[name], label=name)
    left.set(xlabel="epoch", ylabel="loss")
    left.legend(fontsize="small")
    right.plot(numbers, values)
    right.plot([kept], [values[kept - 1]], "o", color="black")
    for axes in (left, right):
        axes.locator_params(axis="x", integer=True)
    right.set(xlabel="epoch", ylabel=metric, title=f"kept: epoch {kept}, {values[kept - 1]:.4f}")
    _write(figure, path)


def _confusion(axes: Any, predictions: Sequence[Prediction]) -> None:
    labels = sorted({p.example.label for p in predictions} | {p.predicted for p in predictions})
    places = {label: number for number, label in enumerate(labels)}
    counts = [[0] * len(labels) for _ in labels]
    for p in predictions:
        counts[places[p.example.label]][places[p.predicted]] += 1
    axes.imshow(counts, cmap="Blues")
    if len(labels) <= _MOST_NAMES:
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize="small")
        axes.set_yticks(range(len(labels)), labels, fontsize="small")
        for row, of_label in enumerate(counts):
            for column, count in enumerate(of_label):
                if count:
                    dark = count > max(map(max, counts)) / 2
                    axes.text(column, row, count, ha="center", va="center", color="white" if dark else "black")
    axes.set(xlabel="predicted", ylabel="label")


def _calibration(axes: Any, predictions: Sequence[Prediction]) -> None:
    shares = reliability([p.probability or 0.0 for p in predictions], [p.right for p in predictions], _BINS)
    axes.bar([(n + 0.5) / _BINS for n, _, _ in shares], [share for _, share, _ in shares], width=0.9 / _BINS)
    axes.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1)
    axes.set(xlabel="probability", ylabel="right", xlim=(0, 1), ylim=(0, 1))


def _risk(axes: Any, predictions: Sequence[Prediction]) -> None:
    certain = np.array([p.probability or 0.0 for p in predictions])
    risks = risks_by_coverage(certain, np.array([p.right for p in predictions]))
    axes.plot((np.arange(len(risks)) + 1) / len(risks), risks)
    axes.set(xlabel="share of the texts that is answered, the most probable first", ylabel="wrong", xlim=(0, 1))
    axes.set_ylim(bottom=0)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _write(figure: Figure, path: Path) -> None:
    """Put the picture in place; the same figures give the same bytes."""
    import matplotlib

    kind, buffer = path.suffix.lower().lstrip("."), io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "embbert-tvm"}):
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
    write_atomically(path, buffer.getvalue())
