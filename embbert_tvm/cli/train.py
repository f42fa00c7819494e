"""`embbert-tvm train`: a model of one's own labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from embbert_tvm.cli.training import command_line, job_options, limits_of, need_torch, run_and_report, training_options
from embbert_tvm.training.recipe import Recipe

OF_THE_JOB = (
    "dev",
    "held_out",
    "base",
    "tokenizer",
    "preset",
    "max_length",
    "pool_tokens",
    "pool_keys",
    "regression",
    "precision",
    "lora",
    "tag_layer",
    "also",
    "exchanged",
    "wide",
    "ngram_bytes",
    "budget",
)


@click.command()
@training_options
@click.option("--few", is_flag=True, help="Of 3 to 20 texts a label: fit a head on the encoder.")
@click.option(
    "--teacher",
    default="auto",
    metavar="NAME|FOLDER",
    help="Learn from it too where dev gains; none: alone. Default: minilm, if installed.",
)
@click.option(
    "--reject",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="RATE",
    help="Let the model answer none of these; this share of --dev is refused.",
)
def command(
    tsv: Path,
    output: Path,
    as_json: bool,
    measure: bool,
    plot: Path | None,
    teacher: str,
    reject: float | None,
    **options: Any,
) -> None:
    """Fine-tune a model on TSV: label<TAB>text[<TAB>text_pair], or label<TAB>text<TAB>tags, in BIO.

    A linear model is fitted first and compared. The same command resumes a run that was interrupted.
    """
    need_torch()
    from embbert_tvm.training.best import teaching_of
    from embbert_tvm.training.job import Job

    of_the_job = job_options(options, (*OF_THE_JOB, "few"))
    if reject is not None and (of_the_job["dev"] is None or of_the_job["regression"]):
        raise click.UsageError("--reject needs --dev, of texts that are not trained on, and a model of labels")
    limits = limits_of(options)
    job = Job(tsv, output, Recipe(**options), **of_the_job, limits=limits, command=command_line())
    run_and_report(job, as_json, measure, plot, teaching_of(teacher), None if reject is None else 1 - reject)
