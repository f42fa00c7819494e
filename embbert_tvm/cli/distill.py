"""`embbert-tvm distill`: a model of one's own labels that learns from a larger one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from embbert_tvm import progress
from embbert_tvm.cli import train
from embbert_tvm.cli.training import (
    PATH,
    command_line,
    job_options,
    limits_of,
    need_torch,
    recipe_option,
    run_and_report,
    teacher_progress,
    training_options,
)
from embbert_tvm.training.recipe import Recipe, TeacherRecipe

_OF_THE_JOB = (*train.OF_THE_JOB, "weak_teachers", "unlabelled", "most", "mixed", "noised", "replaced", "auxiliary")

# What options were called in the commands that model folders record.
_OLD_NAMES = {"--copies": "--mixed", "--corrupted": "--noised", "--grafted": "--replaced", "--donors": "--auxiliary"}


class _OldNames(click.Command):
    """Takes an option by its old name too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        pairs = (arg.partition("=") for arg in args)
        return super().parse_args(ctx, ["".join((_OLD_NAMES.get(name, name), *rest)) for name, *rest in pairs])


@click.command(cls=_OldNames)
@training_options
@click.option(
    "--teacher",
    "teachers",
    type=PATH,
    required=True,
    multiple=True,
    metavar="FOLDER",
    help="A classifier of the same labels or, of words, tags; or an encoder, as minilm, to fine-tune first.",
)
@click.option(
    "--teacher-output",
    type=PATH,
    hidden=True,
    help="Where the fine-tuned encoder is kept, further ones beside it with -1, -2, ...; one that is there is used "
    "as it is. [default: OUTPUT-teacher]",
)
@click.option("--unlabelled", type=PATH, multiple=True, metavar="FILE", help="More text for the teacher to label.")
@click.option("--most", type=click.IntRange(min=1), hidden=True, help="Texts taken of each file of unlabelled text.")
# Texts made up of others: the experiments of docs/training.md.
@click.option("--mixed", default=0, hidden=True, help="Texts mixed of two, for each of TSV's.")
@click.option("--noised", default=0, hidden=True, help="Texts with a few words changed, for each of TSV's.")
@click.option("--replaced", default=0, hidden=True, help="Texts with a few auxiliary words, for each of TSV's.")
@click.option("--auxiliary", type=PATH, multiple=True, hidden=True, help="Text that --replaced takes words of.")
@recipe_option("--teacher-weight", "Share of the teacher's logits in the loss.")
@recipe_option("--temperature", "That the logits are divided by.")
@recipe_option("--hidden-weight", "Of the distance to the teacher's last state.")
@click.option(
    "--teacher-seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    hidden=True,
    help="Fine-tunings of an encoder, of different seeds, that teach together.",
)
@click.option(
    "--weak-teachers",
    is_flag=True,
    hidden=True,
    help="Let those teach too that are worse on dev than the linear model of n-grams.",
)
@click.option(
    "--teacher-epochs",
    type=click.IntRange(min=1),
    hidden=True,
    help=f"[default: {TeacherRecipe().epochs}, of a small set as many as {TeacherRecipe().least_steps:,} steps take]",
)
@click.option("--teacher-lr", default=TeacherRecipe().lr, show_default=True, hidden=True)
@click.option(
    "--teacher-frozen",
    default=TeacherRecipe().frozen,
    show_default=True,
    hidden=True,
    help="Layers left as they are.",
)
def command(
    tsv: Path,
    output: Path,
    as_json: bool,
    measure: bool,
    plot: Path | None,
    teachers: tuple[Path, ...],
    teacher_output: Path | None,
    teacher_seeds: int,
    teacher_epochs: int | None,
    teacher_lr: float,
    teacher_frozen: int,
    **options: Any,
) -> None:
    """Fine-tune a model on TSV, as `train` reads it, and on a teacher's logits.

    The same command resumes a run that was interrupted.
    """
    need_torch()
    from embbert_tvm.training.job import Job, finetune_job_teachers
    from embbert_tvm.training.teacher import find_teacher

    of_the_job = job_options(options, _OF_THE_JOB)
    found = tuple(find_teacher(teacher) for teacher in teachers)
    limits = limits_of(options)
    job = Job(tsv, output, Recipe(**options), **of_the_job, teachers=found, limits=limits, command=command_line())
    kept = teacher_output or output.with_name(f"{output.name}-teacher")
    recipe = TeacherRecipe(lr=teacher_lr, frozen=teacher_frozen)
    if teacher_epochs is not None:
        recipe = dataclasses.replace(recipe, epochs=teacher_epochs, least_steps=0)
    with progress.task("training", "batches") as reach:
        job = finetune_job_teachers(job, kept, recipe, teacher_seeds, teacher_progress(reach))
    run_and_report(job, as_json, measure, plot)
