"""The best that a set gives without being asked: trained alone, and by a teacher where dev says that this is better."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.data.files import folder_in_place
from embbert_tvm.training.candidates import Measure
from embbert_tvm.training.few import encoder_accuracy
from embbert_tvm.training.finetune import TrainingCallbacks
from embbert_tvm.training.job import Job, finetune_job_teachers, run_job
from embbert_tvm.training.recipe import MIXED_FOR_VECTORS, TeacherRecipe
from embbert_tvm.training.result import Result
from embbert_tvm.training.selection import NGRAMS
from embbert_tvm.training.sets import read_sets
from embbert_tvm.training.task_teacher import is_encoder
from embbert_tvm.training.taught import teachers_figure
from embbert_tvm.training.teacher import NAMED_TEACHERS, find_teacher, teacher_name
from embbert_tvm.training.tune_teacher import TeacherCallbacks

AUTO, NONE = "auto", "none"
_AUTOMATIC = "minilm"  # of NAMED_TEACHERS


@dataclass(frozen=True)
class Teaching:
    """An encoder or a classifier, and how an encoder is fine-tuned."""

    teacher: Path
    recipe: TeacherRecipe = dataclasses.field(default_factory=TeacherRecipe)


def teaching_of(name: str) -> Teaching | None:
    """What `--teacher NAME` means: a folder, a named encoder, none, or for "auto" the encoder that is installed."""
    if name == NONE or (name == AUTO and not _is_installed()):
        return None
    return Teaching(find_teacher(Path(_AUTOMATIC if name == AUTO else name)))


def _is_installed() -> bool:
    _, module = NAMED_TEACHERS[_AUTOMATIC]
    return all(importlib.util.find_spec(x) is not None for x in (module, "sentence_transformers"))


def run_best(
    job: Job,
    teaching: Teaching | None,
    progress: TrainingCallbacks | None = None,
    measure: Measure | None = None,
    tuning: TeacherCallbacks | None = None,
) -> Result:
    """Train alone; where a teacher is better on dev than that, train with it too, and keep what dev says is better.

    What was trained alone lies in the output as soon as it is there. A fine-tuned encoder is kept as the folder
    OUTPUT-teacher; one that is there is used as it is. Of a few sentences a label the encoder is not fine-tuned: the
    model learns its vectors of them before it has a head. Raises as `run_job`.
    """
    progress = progress or TrainingCallbacks()
    untaught = run_job(job, progress, measure)
    if teaching is None or job.preset == NGRAMS or job.also:
        return untaught  # no teacher here knows the labels of several files
    if job.few:
        with_teacher = _of_few(job, teaching, untaught, progress)
    else:
        with_teacher = _of_many(job, teaching, untaught, progress, tuning)
    if with_teacher is None:
        return untaught
    scratch = job.output.with_name(f".{job.output.name}.taught")
    scratch.mkdir(parents=True, exist_ok=True)
    taught = run_job(dataclasses.replace(with_teacher, output=scratch / job.output.name), progress, measure)
    try:
        if job.crossed and taught.kept.name != NGRAMS:
            progress.on_note("what it taught is kept; the figures are those of the encoder before")
        return _better(job, untaught, taught)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _of_many(
    job: Job, teaching: Teaching, untaught: Result, progress: TrainingCallbacks, tuning: TeacherCallbacks | None
) -> Job | None:
    """The job with the teacher, fine-tuned on its data; None where that is no better on dev than what is there."""
    if is_encoder(teaching.teacher):
        progress.on_note(f"fine-tuning the teacher {teacher_name(teaching.teacher)} (--teacher none leaves it out)")
    kept = job.output.with_name(f"{job.output.name}-teacher")
    with_teacher = dataclasses.replace(job, teachers=(teaching.teacher,), weak_teachers=True)
    with_teacher = finetune_job_teachers(with_teacher, kept, teaching.recipe, progress=tuning)
    found = teachers_figure(with_teacher.teachers, read_sets(job).dev)
    return with_teacher if _teaches(found, untaught, progress) else None


def _of_few(job: Job, teaching: Teaching, untaught: Result, progress: TrainingCallbacks) -> Job | None:
    """The job with texts of which the encoder learns the teacher's vectors; None where a head on those is no better on
    dev than what is there, and for pairs, of which there are none."""
    sets = read_sets(job)
    if sets.labels is None or any(x.text_pair is not None for x in sets.train):
        return None
    found = encoder_accuracy(teaching.teacher, sets.train, sets.dev, sets.labels)
    if not _teaches(found, untaught, progress):
        return None
    progress.on_note(f"learning the vectors of {teacher_name(teaching.teacher)} (--teacher none leaves it out)")
    return dataclasses.replace(job, teachers=(teaching.teacher,), mixed=MIXED_FOR_VECTORS)


def _teaches(found: float, untaught: Result, progress: TrainingCallbacks) -> bool:
    """Whether a teacher that has so much on dev is better than what was trained without it."""
    linear = -1.0 if untaught.baseline is None or untaught.tagging is not None else untaught.baseline.dev_accuracy
    needed = max(_figure(untaught), linear)
    teaches = found > needed
    said = f"on dev the teacher has {found:.4f}, the best without it {needed:.4f}"
    progress.on_note(f"{said}: it {'teaches' if teaches else 'does not teach'}")
    return teaches


def _better(job: Job, untaught: Result, taught: Result) -> Result:
    """The result that is better on dev, with the candidates of both; its folder is the job's output.

    Without a dev set a few sentences cannot tell: their vectors have been learned. What was taught is kept then.
    """
    named = {x: dataclasses.replace(x, name=f"{x.name}, taught") for x in taught.candidates if x.name != NGRAMS}
    candidates = [*untaught.candidates, *named.values()]
    if taught.kept not in named or not (job.crossed or _figure(taught) > _figure(untaught)):
        return dataclasses.replace(untaught, candidates=candidates)
    with folder_in_place(job.output) as path:
        shutil.copytree(taught.folder.path, path, dirs_exist_ok=True)
    folder = dataclasses.replace(taught.folder, path=job.output)
    return dataclasses.replace(taught, folder=folder, candidates=candidates, kept=named[taught.kept])


def _figure(result: Result) -> float:
    """Dev's accuracy, for regression its correlation, or of a model of tags the share of texts with all right."""
    return result.value if result.accuracy is None or result.tagging is not None else result.accuracy
