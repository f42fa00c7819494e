"""`embbert-tvm evaluate`: a float model's figures on a labelled set."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_PATH)
@click.option("--data", type=_PATH, required=True, help="TSV with the model's labels.")
@click.option("--metric", help="accuracy (default), mcc or f1; spearman for regression.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many examples, drawn by --seed.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(model: Path, data: Path, metric: str | None, limit: int | None, seed: int, as_json: bool) -> None:
    """Measure the float MODEL (its ONNX in onnxruntime) on a labelled set."""
    import json
    import sys

    from tqdm import tqdm

    from embbert_tvm.models.folder import read_folder
    from embbert_tvm.training.evaluate import evaluate

    with tqdm(unit="text", file=sys.stderr, leave=False, dynamic_ncols=True, disable=None) as bar:

        def on_step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = evaluate(read_folder(model), data, metric, limit, seed, on_step)
    if found.truncated:
        click.echo(f"{found.truncated} texts are longer than the model takes and were cut", err=True)
    if as_json:
        document = {
            "task": found.task,
            "metric": found.metric,
            "value": found.value,
            "examples": found.examples,
            "seed": found.seed,
            "truncated": found.truncated,
        }
        click.echo(json.dumps(document))
    else:
        click.echo(f"{found.task}: {found.metric} {found.value:.4f} on {found.examples} examples")
