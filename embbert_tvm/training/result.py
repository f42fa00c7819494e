"""What came of a training, and the model's card."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from embbert_tvm.data.classes import ClassFigures, Confusion
from embbert_tvm.data.slots import TagFigures
from embbert_tvm.models.folder import ModelFolder
from embbert_tvm.models.ngrams import NgramFolder
from embbert_tvm.training.candidates import Candidate
from embbert_tvm.training.finetune import Epoch
from embbert_tvm.training.linear import LinearFit
from embbert_tvm.training.recipe import Recipe
from embbert_tvm.training.record import TrainingRecord
from embbert_tvm.version import __version__


@dataclass(frozen=True)
class Result:
    """The trained model and how it came to be; `value` is dev's metric, of a model of tokens in its best epoch.

    Of a classifier dev's accuracy, per-class figures and most confused pairs; `baseline` is what hashed n-grams with a
    linear classifier give (training/linear.py), None for regression. `wide_weight` is that of the n-grams which are
    added to the model, None without. `candidates` are the models that were tried, `kept` the one in the folder;
    `recipes` are those of a search with dev's metric of each, `recipe` the one of the model that is kept. `tagging` are
    dev's figures of label and tags by rule, None where words have no tags; `further` the accuracy of each further head.
    """

    folder: ModelFolder | NgramFolder
    task: str
    metric: str
    value: float
    examples: int
    recipe: Recipe
    best_epoch: int = 0
    truncated: int = 0
    history: list[Epoch] = field(default_factory=list)
    baseline: LinearFit | None = None
    accuracy: float | None = None
    classes: list[ClassFigures] = field(default_factory=list)
    confused: list[Confusion] = field(default_factory=list)
    wide_weight: float | None = None
    candidates: list[Candidate] = field(default_factory=list)
    kept: Candidate | None = None
    recipes: list[tuple[Recipe, float]] = field(default_factory=list)
    tagging: dict[str, TagFigures] | None = None
    further: dict[str, float] = field(default_factory=dict)


def card(result: Result, record: TrainingRecord, dev_is: str | None) -> str:
    """The model's README.md. dev_is: what dev is where it has no file."""
    folder, labels = result.folder, result.folder.labels
    dev = dev_is or record.dev.path
    kind = "regression" if labels is None else f"{len(labels)} classes: {', '.join(labels)}"
    if isinstance(folder, NgramFolder):
        what = f"Hashed n-grams with a linear classifier, {folder.model.bytes / 1000:.0f} kB"
        by = f"Trained by embbert-tvm {__version__}"
    else:
        what = f"{folder.config.title}, {folder.config.parameters:,} parameters without its head"
        by = f"Trained by embbert-tvm {__version__}, torch {torch.__version__}, seed {record.seed}"
    lines = [
        f"# {folder.name}",
        "",
        f"{what}; {kind}.",
        f"{by}.",
        "",
        "    " + (record.command or "embbert-tvm train"),
        "",
        "| set | examples | SHA-256 of the examples, as in training.json |",
        "|---|---|---|",
        f"| train: {record.train.path} | {record.train.examples:,} | {record.train.sha256} |",
        f"| dev: {dev} | {record.dev.examples:,} | {record.dev.sha256} |",
        "",
    ]
    if result.history:
        epoch = f" in epoch {result.best_epoch}, the best of {len(result.history)}"
        lines += [f"On dev, {result.metric} {result.value:.4f}{epoch}."]
    for name, share in result.further.items():
        lines += [f"Its head `{name}`: accuracy {100 * share:.2f} % on a tenth of its texts, which it has not read."]
    if result.wide_weight is not None:
        lines += [f"The logits of hashed n-grams of the whole text are added to its own, {result.wide_weight:g} times."]
    if result.baseline is not None and result.accuracy is not None:
        fit = result.baseline
        lines += [
            f"Accuracy on dev {100 * result.accuracy:.2f} %; of a linear model on hashed n-grams, "
            f"{fit.model.bytes / 1000:.0f} kB, {100 * fit.dev_accuracy:.2f} %."
        ]
    return "\n".join(lines) + "\n"
