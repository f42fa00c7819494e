"""`embbert-tvm evaluate`: a float model's figures on a labelled set, or a suite's over models of several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from embbert_tvm.cli.options import plot_option

if TYPE_CHECKING:
    from embbert_tvm.training.evaluate import EvaluationOptions

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_PATH, required=False)
@click.option("--data", type=_PATH, required=True, help="TSV with the model's labels; for --suite a folder of tasks.")
@click.option(
    "--metric", metavar="NAME", help="accuracy (default), mcc, f1 or f1_positive; spearman or pearson for regression."
)
@click.option(
    "--outside", type=_PATH, help="TSV of texts that have none of the labels: also say how well the model tells them."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Take only N examples, drawn by --seed.")
@click.option("--seed", default=0, show_default=True, metavar="N", help="Of --limit.")
@click.option(
    "--suite", metavar="NAMES", help="Measure the models in --runs: tinynlp, glue or tasks such as emotion,limit."
)
@click.option("--runs", type=_PATH, help="Folder of models that benchmarks/suite.py trained.")
@click.option("--compiled", is_flag=True, hidden=True, help="For --suite: also their int8 packages, on this machine.")
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, hidden=True, help="For --suite.")
@click.option(
    "--download", is_flag=True, hidden=True, help="For --suite: fetch what --data lacks through the datasets library."
)
@click.option("-o", "--output", type=_PATH, help="TSV to write: label, answer, probability and text of each example.")
@plot_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    model: Path | None,
    data: Path,
    metric: str | None,
    outside: Path | None,
    limit: int | None,
    seed: int,
    suite: str | None,
    runs: Path | None,
    compiled: bool,
    processes: int,
    download: bool,
    output: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure the float MODEL on a labelled set, or the models of a suite on their tests.

    The model is its ONNX, run by onnxruntime.
    """
    if suite is not None and runs is not None and not any((model, metric, limit, output, outside, plot)):
        if download:
            _fetch(suite, data, runs)
        _suite(suite, data, runs, compiled, processes, as_json)
    elif model is not None and suite is None and runs is None and not (compiled or download):
        from embbert_tvm.training.evaluate import EvaluationOptions

        _one(model, data, EvaluationOptions(metric, limit, seed, outside), output, plot, as_json)
    else:
        raise click.UsageError("give either MODEL, or --suite with --runs, which take none of the other options")


def _one(
    model: Path, data: Path, options: EvaluationOptions, output: Path | None, plot: Path | None, as_json: bool
) -> None:
    import json
    from dataclasses import asdict

    from embbert_tvm.data.predictions import write_predictions
    from embbert_tvm.report import classes, plots
    from embbert_tvm.report.confidence import text as confidence_text
    from embbert_tvm.report.training import tagging as tagging_text
    from embbert_tvm.training.evaluate import evaluate, read_any_folder

    if plot is not None:
        plots.check(plot)
    found = evaluate(read_any_folder(model), data, options)
    if found.truncated:
        click.echo(f"{found.truncated} texts are longer than the model takes and were cut", err=True)
    if found.seen:
        click.echo(f"the model was trained on {found.seen} of these texts, of which it says too little", err=True)
    if found.unknown:
        click.echo(classes.unknown(found.unknown), err=True)
    if output is not None:
        write_predictions(output, found.predictions)
    if plot is not None:
        plots.answers(plot, found.predictions)
    if as_json:
        document = {
            "task": found.task,
            "metric": found.metric,
            "value": found.value,
            "examples": found.examples,
            "seed": found.seed,
            "truncated": found.truncated,
            "seen": found.seen,
            "unknown": found.unknown,
            "classes": [asdict(x) for x in found.classes],
            "confused": [asdict(x) for x in found.confused],
            "confidence": found.confidence and asdict(found.confidence),
            "outside": found.outside and asdict(found.outside),
            "tagging": found.tagging and asdict(found.tagging),
        }
        click.echo(json.dumps(document))
    else:
        if found.classes:
            click.echo(f"{classes.text(found.classes, found.confused)}\n")
        if found.confidence is not None:
            click.echo(f"{confidence_text(found.confidence, found.outside)}\n")
        if found.tagging is not None:
            click.echo(f"slots: {tagging_text(found.tagging)}")
        click.echo(f"{found.task}: {found.metric} {found.value:.4f} on {found.examples} examples")


def _fetch(names: str, data: Path, runs: Path) -> None:
    """Download what the runs are measured on, where it is not there."""
    from embbert_tvm.data.hub import fetch_missing
    from embbert_tvm.data.tasks import find_tasks
    from embbert_tvm.training import suite

    for task in {run.task.name: run.task for run in suite.find_runs(runs, find_tasks(names))}.values():
        fetch_missing(task, data)


def _suite(names: str, data: Path, runs: Path, compiled: bool, processes: int, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from embbert_tvm.data.tasks import find_tasks
    from embbert_tvm.report.suite import text
    from embbert_tvm.training import suite

    tasks = find_tasks(names)
    found = suite.find_runs(runs, tasks)
    figures = suite.measure(found, data, compiled, processes)
    summaries = suite.summarize(figures)
    means = suite.suite_means(summaries, tasks)
    if as_json:
        document = {
            "suite": names,
            "figures": [asdict(x) for x in figures],
            "summary": [asdict(x) for x in summaries],
            "means": {key: {"value": value, "tasks": of} for key, (value, of) in means.items()},
        }
        click.echo(json.dumps(document))
    else:
        click.echo(text(summaries, means, tasks))
