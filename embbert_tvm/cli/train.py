"""`embbert-tvm train`: a model of one's own labels."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("tsv", type=_PATH)
@click.option(
    "--dev", type=_PATH, help="TSV that chooses the epoch; a tenth of TSV is cut off where not given."
)
@click.option("--base", type=_PATH, help="Model folder to start from; a new model where not given.")
@click.option("--tokenizer", type=_PATH, help="tokenizer.json; trained on TSV where not given.")
@click.option("--preset", help="Size of a new model: nano, tiny, base (default), med or big.")
@click.option("--max-length", type=click.IntRange(min=1), help="Tokens of the longest text.")
@click.option("--regression", is_flag=True, help="Labels are numbers.")
@click.option("--epochs", default=10, show_default=True)
@click.option("--lr", default=2e-3, show_default=True, help="Highest learning rate.")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--weight-decay", default=0.05, show_default=True)
@click.option("--warmup-steps", default=200, show_default=True)
@click.option("--label-smoothing", default=0.0, show_default=True)
@click.option("--dropout", default=0.1, show_default=True, help="Of the attention weights.")
@click.option("--token-dropout", default=0.0, show_default=True, help="Share of tokens replaced by [UNK].")
@click.option(
    "--average", default=0.0, show_default=True, help="Decay of a running mean of the weights, kept instead."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.option("-o", "--output", type=_PATH, required=True, help="Model folder to write.")
def command(
    tsv: Path,
    dev: Path | None,
    base: Path | None,
    tokenizer: Path | None,
    preset: str | None,
    max_length: int | None,
    regression: bool,
    as_json: bool,
    output: Path,
    **recipe: float,
) -> None:
    """Fine-tune a model on TSV, which has the header label<TAB>text[<TAB>text_pair].

    An interrupted run goes on after its last whole epoch when the same command is given again.
    """
    import json
    import shlex
    import sys

    from tqdm import tqdm

    from embbert_tvm.errors import InputError

    try:
        from embbert_tvm.training.finetune import Epoch, Progress, Recipe
        from embbert_tvm.training.job import Job, run_job
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError("training needs torch: pip install 'embbert-tvm[train]'") from error

    job = Job(
        tsv,
        output,
        Recipe(**recipe),
        dev=dev,
        base=base,
        tokenizer=tokenizer,
        preset=preset,
        max_length=max_length,
        regression=regression,
        command=shlex.join(["embbert-tvm", *sys.argv[1:]]),
    )
    with tqdm(unit="batch", file=sys.stderr, dynamic_ncols=True) as bar:

        def on_step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        def on_epoch(epoch: Epoch) -> None:
            tqdm.write(
                f"epoch {epoch.number}: loss {epoch.train_loss:.4f}, dev {epoch.dev_metric:.4f}"
                f" (loss {epoch.dev_loss:.4f}){', the best' if epoch.best else ''}",
                file=sys.stderr,
            )

        result = run_job(job, Progress(on_step, on_epoch, lambda note: tqdm.write(note, file=sys.stderr)))
    if as_json:
        document = {
            "model": str(output),
            "task": result.task,
            "metric": result.metric,
            "value": result.value,
            "examples": result.examples,
            "seed": job.recipe.seed,
            "best_epoch": result.best_epoch,
            "epochs": len(result.history),
            "truncated": result.truncated,
        }
        click.echo(json.dumps(document))
    else:
        click.echo(f"{output}: dev {result.metric} {result.value:.4f} in epoch {result.best_epoch}")
