"""`embbert-tvm train`: a model of one's own labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from embbert_tvm.training.recipe import Recipe

_PATH = click.Path(path_type=Path)


def _recipe_option(name: str, help: str | None = None) -> Callable[[Callable], Callable]:
    default = getattr(Recipe(), name.removeprefix("--").replace("-", "_"))
    return click.option(name, default=default, show_default=True, help=help)


@click.command()
@click.argument("tsv", type=_PATH)
@click.option("--dev", type=_PATH, help="TSV that chooses the epoch; a tenth of TSV is cut off where not given.")
@click.option("--base", type=_PATH, help="Model folder to start from; a new model where not given.")
@click.option("--tokenizer", type=_PATH, help="tokenizer.json; trained on TSV where not given.")
@click.option(
    "--preset",
    "--architecture",
    help="A new model's architecture and size: nano, tiny, base (default), med, big, or one of the paper's baselines: "
    "bert-2mb, mamba-2mb, embedder, embedder-conv, bert-ne, bert-ea, bert-ne-ea, base-sum.",
)
@click.option("--max-length", type=click.IntRange(min=1), help="Tokens of the longest text.")
@click.option("--regression", is_flag=True, help="Labels are numbers.")
@_recipe_option("--epochs")
@_recipe_option("--lr", "Highest learning rate.")
@_recipe_option("--batch-size")
@_recipe_option("--seed")
@_recipe_option("--weight-decay")
@_recipe_option("--warmup-steps")
@_recipe_option("--label-smoothing")
@_recipe_option("--dropout", "Of the attention weights.")
@_recipe_option("--token-dropout", "Share of the tokens replaced by [UNK].")
@_recipe_option("--average", "Decay of the running mean of the weights that is kept; 0: the last weights.")
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
        from embbert_tvm.training.finetune import Epoch, Progress
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
    with tqdm(unit="batch", file=sys.stderr, dynamic_ncols=True, disable=None) as bar:

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
