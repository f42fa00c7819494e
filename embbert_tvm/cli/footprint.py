"""`embbert-tvm footprint`."""

from __future__ import annotations

import click

from embbert_tvm import progress


@click.command()
@click.argument("model", required=False)
@click.option("--all", "every", is_flag=True, help="Show every preset: the paper's family, ablation and baselines.")
@click.option(
    "--length",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens of a text in the formula. Default: the longest text.",
)
@click.option("--planned", is_flag=True, help="Compile presets too. This needs torch, and seconds to minutes each.")
@click.option("--target", default="cortex-m7", show_default=True, metavar="CPU", help="The CPU that the plan is for.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(model: str | None, every: bool, length: int | None, planned: bool, target: str, as_json: bool) -> None:
    """Say what MODEL, a model folder or a preset, takes in memory.

    The paper's formula counts float32 weights and the activations that the largest step holds. For a model folder the
    plan in int8 stands beside it: constants in flash and the arena in RAM, at the longest text.
    """
    import json

    from embbert_tvm.errors import InputError
    from embbert_tvm.measuring.footprint import row
    from embbert_tvm.models.config import PRESETS
    from embbert_tvm.report.footprint import text
    from embbert_tvm.target import load_cpu

    if every == (model is not None):
        raise InputError("footprint takes one model folder or preset, or --all")
    load_cpu(target)
    names = list(PRESETS) if every else [model]
    rows = []
    for name in progress.over(names, "planning", "models"):
        rows.append(row(name, length, target, planned or name not in PRESETS))
    click.echo(json.dumps({"unit": "bytes", "models": rows}) if as_json else text(rows))
