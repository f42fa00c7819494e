"""A training set with what teachers say of it, of those that are worth hearing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embbert_tvm.data import metrics
from embbert_tvm.data.dataset import Example
from embbert_tvm.data.tokenizer import Encoded
from embbert_tvm.errors import InputError
from embbert_tvm.training.batches import UNLABELLED, TokenizedSet
from embbert_tvm.training.finetune import TrainingCallbacks
from embbert_tvm.training.linear import LinearFit
from embbert_tvm.training.sets import JobSets
from embbert_tvm.training.task_teacher import Answers, TaskTeacher, cached_answers, open_teacher

if TYPE_CHECKING:
    from embbert_tvm.training.job import Job


def answers_of_teachers(
    job: Job, sets: JobSets, more: Sequence[Example], baseline: LinearFit | None, progress: TrainingCallbacks
) -> Answers | None:
    """What the job's teachers say together of the training set and of `more`, unlabelled texts after it.

    A teacher that dev says is worse than the linear model does not teach; None where none is better.
    """
    labels, train = sets.labels, sets.train
    teachers = {path: open_teacher(path) for path in job.teachers}
    for path, teacher in teachers.items():
        if (teacher.labels is None) != (labels is None) or set(teacher.labels or ()) != set(labels or ()):
            raise InputError(f"{path}: knows {teacher.labels}, the data {labels}: fine-tune it on the same data")
    if baseline is not None and labels is not None and not job.weak_teachers:
        teachers = _worth_hearing(teachers, sets.dev, baseline, progress)
        if not teachers:
            return None
    found = []
    for path, teacher in teachers.items():
        progress.on_note(f"{path} labels {len(train) + len(more)} texts")
        answers = cached_answers(teacher, [*train, *more], job.output.parent / ".teacher-answers")
        order = [0] if labels is None else [teacher.labels.index(label) for label in labels]
        found.append(Answers(answers.logits[:, order], answers.hidden))
    return Answers.together(found)


def with_answers(
    data: TokenizedSet, answers: Answers, encoded: Sequence[Encoded], hidden_size: int | None, regression: bool
) -> TokenizedSet:
    """The set with answers of teachers, and after it unlabelled texts, which have nothing else.

    hidden_size: of the model, where it is to learn the teachers' hidden states, too.
    """
    nothing = math.nan if regression else UNLABELLED
    return TokenizedSet(
        data.ids + [x.ids for x in encoded],
        [*data.targets, *[nothing] * len(encoded)],
        data.truncated + sum(x.truncated for x in encoded),
        answers.logits,
        None if hidden_size is None else answers.projected(hidden_size),
    )


def _worth_hearing(
    teachers: dict[Path, TaskTeacher], dev: Sequence[Example], baseline: LinearFit, progress: TrainingCallbacks
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
