"""A training set with what teachers say of it, of those that are worth hearing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from embbert_tvm.data import metrics
from embbert_tvm.data.dataset import Example
from embbert_tvm.data.tokenizer import tokenize
from embbert_tvm.errors import InputError
from embbert_tvm.models.config import ModelConfig
from embbert_tvm.training.batches import UNLABELLED, TokenizedSet
from embbert_tvm.training.finetune import Progress
from embbert_tvm.training.linear import LinearFit
from embbert_tvm.training.sets import JobSets
from embbert_tvm.training.task_teacher import Answers, TaskTeacher, cached_answers, open_teacher

if TYPE_CHECKING:
    from embbert_tvm.training.job import Job


def with_teachers(
    job: Job,
    sets: JobSets,
    more: Sequence[Example],
    data: TokenizedSet,
    tokenizer: Tokenizer,
    config: ModelConfig,
    baseline: LinearFit | None,
    progress: Progress,
) -> TokenizedSet:
    """The set with the teachers' logits, and after it `more`, unlabelled texts, which have nothing else.

    A teacher that dev says is worse than the linear model does not teach; where none is better the set stays as it is.
    """
    labels, train = sets.labels, sets.train
    teachers = {path: open_teacher(path) for path in job.teachers}
    for path, teacher in teachers.items():
        if (teacher.labels is None) != (labels is None) or set(teacher.labels or ()) != set(labels or ()):
            raise InputError(f"{path}: knows {teacher.labels}, the data {labels}: fine-tune it on the same data")
    if baseline is not None and labels is not None and not job.weak_teachers:
        teachers = _worth_hearing(teachers, sets.dev, baseline, progress)
        if not teachers:
            return data
    found = []
    for path, teacher in teachers.items():
        progress.on_note(f"{path} labels {len(train) + len(more)} texts")
        answers = cached_answers(teacher, [*train, *more], job.output.parent / ".teacher-answers")
        order = [0] if labels is None else [teacher.labels.index(label) for label in labels]
        found.append(Answers(answers.logits[:, order], answers.hidden))
    answers = Answers.together(found)
    encoded = [tokenize(tokenizer, x.text, None, config.max_length) for x in more]
    nothing = UNLABELLED if labels is not None else math.nan
    return TokenizedSet(
        data.ids + [x.ids for x in encoded],
        [*data.targets, *[nothing] * len(more)],
        data.truncated + sum(x.truncated for x in encoded),
        answers.logits,
        answers.projected(config.hidden_size) if job.recipe.hidden_weight else None,
    )


def _worth_hearing(
    teachers: dict[Path, TaskTeacher], dev: Sequence[Example], baseline: LinearFit, progress: Progress
) -> dict[Path, TaskTeacher]:
    """The teachers that are no worse on dev than the linear model, told with their accuracy."""
    kept = {}
    for path, teacher in teachers.items():
        accuracy = dev_figure(teacher, dev)
        said = f"{path} has {100 * accuracy:.2f} % on dev"
        if accuracy >= baseline.dev_accuracy:
            kept[path] = teacher
            progress.on_note(said)
        else:
            progress.on_note(f"{said}, less than the linear model, so it does not teach; try more --teacher-epochs")
    return kept


def dev_figure(teacher: TaskTeacher, dev: Sequence[Example]) -> float:
    """A teacher's accuracy on dev, or for regression Spearman's correlation."""
    answers = teacher.answers(dev)
    if teacher.labels is None:
        return metrics.spearman(np.array([float(x.label) for x in dev]), answers[:, 0])
    names = teacher.labels
    predicted = answers[:, : len(names)].argmax(1)
    return float(np.mean([names[i] == x.label for i, x in zip(predicted, dev, strict=True)]))
