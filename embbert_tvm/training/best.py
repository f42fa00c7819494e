"""The best that a set gives without being asked: trained alone, and by a teacher where dev says that this is better."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.data.files import folder_in_place
from embbert_tvm.training.candidates import Measure
from embbert_tvm.training.finetune import TrainingCallbacks
from embbert_tvm.training.job import Job, finetune_job_teachers, run_job
from embbert_tvm.training.recipe import TeacherRecipe
from embbert_tvm.training.result import Result
from embbert_tvm.training.selection import NGRAMS
from embbert_tvm.training.sets import read_sets
from embbert_tvm.training.task_teacher import is_encoder
from embbert_tvm.training.taught import teachers_figure
from embbert_tvm.training.teacher import NAMED_TEACHERS, find_teacher
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
    return all(importlib.util.find_spec(x) is not None for x in (module, "transformers"))


def run_best(
    job: Job,
    teaching: Teaching | None,
    progress: TrainingCallbacks | None = None,
    measure: Measure | None = None,
    teacher_progress: TeacherCallbacks | None = None,
) -> Result:
    """Train alone; where a teacher is better on dev than that, train with it too, and keep what dev says is better.

    What was trained alone lies in the output as soon as it is there. A fine-tuned encoder is kept as the folder
    OUTPUT-teacher; one that is there is used as it is. Raises as `run_job`.
    """
    progress = progress or TrainingCallbacks()
    untaught = run_job(job, progress, measure)
    if teaching is None or job.preset == NGRAMS or job.also or job.few:
        return untaught  # no teacher here knows the labels of several files, or leaves the encoder as it is
    if is_encoder(teaching.teacher):
        progress.on_note(f"fine-tuning the teacher {teaching.teacher.name} (--teacher none leaves it out)")
    kept = job.output.with_name(f"{job.output.name}-teacher")
    with_teacher = dataclasses.replace(job, teachers=(teaching.teacher,), weak_teachers=True)
    with_teacher = finetune_job_teachers(with_teacher, kept, teaching.recipe, progress=teacher_progress)
    found = teachers_figure(with_teacher.teachers, read_sets(job).dev)
    linear = -1.0 if untaught.baseline is None or untaught.tagging is not None else untaught.baseline.dev_accuracy
    needed = max(_figure(untaught), linear)
    said = f"on dev the teacher has {found:.4f}, the best without it {needed:.4f}"
    if found <= needed:
        progress.on_note(f"{said}: it does not teach")
        return untaught
    progress.on_note(f"{said}: it teaches")
    scratch = job.output.with_name(f".{job.output.name}.taught")
    scratch.mkdir(parents=True, exist_ok=True)
    taught = run_job(dataclasses.replace(with_teacher, output=scratch / job.output.name), progress, measure)
    try:
        return _better(job.output, untaught, taught)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _better(output: Path, untaught: Result, taught: Result) -> Result:
    """The result that is better on dev, with the candidates of both; its folder is `output`."""
    named = {x: dataclasses.replace(x, name=f"{x.name}, taught") for x in taught.candidates if x.name != NGRAMS}
    candidates = [*untaught.candidates, *named.values()]
    if taught.kept not in named or _figure(taught) <= _figure(untaught):
        return dataclasses.replace(untaught, candidates=candidates)
    with folder_in_place(output) as path:
        shutil.copytree(taught.folder.path, path, dirs_exist_ok=True)
    folder = dataclasses.replace(taught.folder, path=output)
    return dataclasses.replace(taught, folder=folder, candidates=candidates, kept=named[taught.kept])


def _figure(result: Result) -> float:
    """Dev's accuracy, for regression its correlation, or of a model of tags the share of texts with all right."""
    return result.value if result.accuracy is None or result.tagging is not None else result.accuracy
