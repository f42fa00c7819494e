"""A training set with what teachers say of it, of those that are worth hearing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embbert_tvm.data import metrics
from embbert_tvm.data.dataset import Example
from embbert_tvm.data.slots import entity_f1, tag_figures, words_of
from embbert_tvm.data.tokenizer import TextTokenizer, tokenize
from embbert_tvm.errors import InputError
from embbert_tvm.models.config import ModelConfig
from embbert_tvm.training.batches import UNLABELLED, TokenizedSet, WordTags
from embbert_tvm.training.finetune import TrainingCallbacks
from embbert_tvm.training.linear import LinearFit
from embbert_tvm.training.sets import JobSets
from embbert_tvm.training.tag_teacher import TagTeacher, is_token_classifier, open_tag_teacher, split_by_text, tags_told
from embbert_tvm.training.task_teacher import Answers, TaskTeacher, cached_answers, cached_rows, open_teacher

if TYPE_CHECKING:
    from embbert_tvm.training.job import Job

CACHE = ".teacher-answers"  # the folder, beside the output, where they are kept


@dataclass(frozen=True)
class Told:
    """What teachers say of texts: of their labels, and of their words the logits (words of all texts, tags); None where
    no teacher knows such."""

    texts: list[Example]
    answers: Answers | None
    tag_logits: np.ndarray | None


def told_by_teachers(
    job: Job, sets: JobSets, more: Sequence[Example], baseline: LinearFit | None, progress: TrainingCallbacks
) -> Told:
    """What the job's teachers say of the training set and of `more`, texts made of it.

    A teacher of labels that dev says is worse than the linear model does not teach. Raises InputError for one that
    knows other labels or tags.
    """
    texts = [*sets.train, *more]
    answers = answers_of_teachers(job, sets, texts, baseline, progress)
    return Told(texts, answers, _tag_logits(job, sets, texts, progress))


def answers_of_teachers(
    job: Job, sets: JobSets, texts: Sequence[Example], baseline: LinearFit | None, progress: TrainingCallbacks
) -> Answers | None:
    """What those of the teachers that know labels say together of the texts; None where none is worth hearing."""
    labels = sets.labels
    teachers = {path: open_teacher(path) for path in job.teachers if not is_token_classifier(path)}
    for path, teacher in teachers.items():
        if (teacher.labels is None) != (labels is None) or set(teacher.labels or ()) != set(labels or ()):
            raise InputError(f"{path}: knows {teacher.labels}, the data {labels}: fine-tune it on the same data")
    if baseline is not None and labels is not None and not job.weak_teachers:
        teachers = _worth_hearing(teachers, sets.dev, baseline, progress)
    found = []
    for path, teacher in teachers.items():
        progress.on_note(f"{path} labels {len(texts)} texts")
        answers = cached_answers(teacher, texts, job.output.parent / CACHE)
        order = [0] if labels is None else [(teacher.labels or ()).index(label) for label in labels]
        found.append(Answers(answers.logits[:, order], answers.hidden))
    return Answers.together(found) if found else None


def _tag_logits(job: Job, sets: JobSets, texts: Sequence[Example], progress: TrainingCallbacks) -> np.ndarray | None:
    """The mean logits (words of all texts, tags) of those of the teachers that know tags; None where none does."""
    teachers = {path: teacher for path in job.teachers if (teacher := open_tag_teacher(path)) is not None}
    found = []
    for path, teacher in teachers.items():
        lacking = [tag for tag in sets.tags or () if tag not in teacher.tags]
        if lacking:
            raise InputError(f"{path}: does not know the tag {lacking[0]}: fine-tune it on the same data")
        if sets.tags is None:
            if is_token_classifier(path):
                raise InputError(f"{path}: knows tags, {job.train} has none: name a classifier of texts")
            continue
        progress.on_note(
            f"{path}, entity F1 {100 * tag_figure(teacher, sets.dev):.2f} % on dev, tags {len(texts)} texts"
        )
        answers = cached_rows(teacher, texts, job.output.parent / CACHE)
        found.append(answers[:, [teacher.tags.index(tag) for tag in sets.tags]])
    return np.stack(found).mean(0, dtype=np.float32) if found else None


def with_answers(
    data: TokenizedSet, told: Told, tokenizer: TextTokenizer, config: ModelConfig, learns_hidden: bool
) -> TokenizedSet:
    """The set, which has the first of the texts that teachers were asked about, with what they say; behind it the
    others, which have no labels.

    learns_hidden: whether the model is to learn the teachers' last states, too.
    """
    if told.answers is None and told.tag_logits is None:
        return data
    unlabelled = told.texts[len(data) :]
    encoded = [tokenize(tokenizer, x.text, None, config.max_length) for x in unlabelled]
    nothing = math.nan if isinstance(data.targets[0], float) else UNLABELLED
    answers, tags = told.answers, data.tags
    if tags is not None:
        words = [words_of(x.text, one) for x, one in zip(unlabelled, encoded, strict=True)]
        soft = None if told.tag_logits is None else split_by_text(told.tag_logits, told.texts)
        expected = [*tags.expected, *[("",) * len(one) for one in words]]
        tags = WordTags(tags.names, expected, [*tags.words, *words], soft)
    return TokenizedSet(
        data.ids + [x.ids for x in encoded],
        [*data.targets, *[nothing] * len(encoded)],
        data.truncated + sum(x.truncated for x in encoded),
        None if answers is None else answers.logits,
        answers.projected(config.hidden_size) if answers is not None and learns_hidden else None,
        tags,
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
    if teacher.labels is None:
        return metrics.spearman(np.array([float(x.label) for x in dev]), teacher.answers(dev)[:, 0])
    return float(np.mean(_right(teacher, dev)))


def _right(teacher: TaskTeacher, dev: Sequence[Example]) -> np.ndarray:
    """Whether the teacher names the label of each text."""
    names = teacher.labels or ()
    predicted = teacher.answers(dev)[:, : len(names)].argmax(1)
    return np.array([names[i] == x.label for i, x in zip(predicted, dev, strict=True)])


def tag_figure(teacher: TagTeacher, dev: Sequence[Example]) -> float:
    """The F1 of the entities that a teacher finds in dev."""
    return entity_f1([x.tags or () for x in dev], tags_told(teacher.answers(dev), dev, teacher.tags))


def teachers_figure(teachers: Sequence[Path], dev: Sequence[Example]) -> float:
    """What the first of the teachers that knows labels has on dev, as `dev_figure`; where one knows tags, the share of
    texts whose label and tags are right."""
    teacher = next(open_teacher(path) for path in teachers if not is_token_classifier(path))
    tagger = next((found for path in teachers if (found := open_tag_teacher(path)) is not None), None)
    if dev[0].tags is None or tagger is None:
        return dev_figure(teacher, dev)
    tags = tags_told(tagger.answers(dev), dev, tagger.tags)
    return tag_figures(_right(teacher, dev), [x.tags or () for x in dev], tags).both
