"""`embbert-tvm tune`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from embbert_tvm import progress
from embbert_tvm.cli.options import plot_option

if TYPE_CHECKING:
    from embbert_tvm.tuning.logs import Manifest
    from embbert_tvm.tuning.search import SearchStatus

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_PATH)
@click.option("--target", required=True, metavar="CPU|BOARD|FILE.yaml", help="What to tune for.")
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    metavar="N",
    help="Trials in the log at the end, earlier ones included.",
)
@click.option("--precision", default="int8", show_default=True, metavar="int8|fp32", help="What is tuned.")
@click.option(
    "--length",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    metavar="N",
    help="Tokens of the text that is run.",
)
@click.option(
    "--objective",
    type=click.Choice(["instructions", "cycles", "mca"]),
    metavar="NAME",
    help="instructions, cycles or mca. Default: what the place can count.",
)
@click.option(
    "--on", "place", default="qemu", show_default=True, metavar="qemu|serial:PORT", help="Where trials are measured."
)
@click.option("--flash", metavar="COMMAND", hidden=True, help="Puts {image} on the board behind a serial port.")
@click.option("--tracker", metavar="HOST:PORT", help="Measure on the boards of a farm instead.")
@click.option("--key", hidden=True, help="Of the farm's boards. Default: the board's name.")
@click.option("--calibration", type=_PATH, help="Labelled TSV to calibrate on instead of the model's statistics.")
@click.option("--prune", is_flag=True, hidden=True, help="Keep the best record of each kernel alone.")
@click.option(
    "-o",
    "--output",
    type=_PATH,
    metavar="LOG",
    help="The log to write. Default: schedules/<target>/<model>-<precision>.",
)
@plot_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    model: Path,
    target: str,
    trials: int,
    precision: str,
    length: int,
    objective: str | None,
    place: str,
    flash: str | None,
    tracker: str | None,
    key: str | None,
    calibration: Path | None,
    prune: bool,
    output: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Search faster schedules for MODEL, a model folder or an ONNX file.

    The same command resumes a search that was interrupted.
    """
    from embbert_tvm.api import load_model
    from embbert_tvm.errors import InputError
    from embbert_tvm.ngram_compiler import NgramSource
    from embbert_tvm.report import plots
    from embbert_tvm.tuning.places import find_places
    from embbert_tvm.tuning.session import TuneOptions, find_target, tune

    if plot is not None:
        plots.check(plot)
    found, source = find_target(target), load_model(model)
    if isinstance(source, NgramSource):
        raise InputError(f"{model}: a model of n-grams has no kernels to tune")
    objective = objective or ("cycles" if place.startswith("serial") else "instructions")
    places, runner = find_places(found, place, flash, tracker, key, objective)
    path = output or Path("schedules") / found[2] / f"{source.name}-{precision}"

    costs: list[tuple[int, float]] = []

    with progress.task("tuning", "trials", trials) as reach:

        def show(now: SearchStatus) -> None:
            costs.append((now.trials, now.cost))
            failed = f", {now.failures} failed" if now.failures else ""
            best = f"best {now.cost / 1e6:.3f} M of {now.before / 1e6:.3f} M {objective}{failed}"
            reach(now.trials, now.asked, best)

        options = TuneOptions(trials, runner, objective, precision, length, calibration)
        manifest = tune(source, found, places, path, options, show)
    if plot is not None:
        plots.search(plot, costs, objective)
    if prune:
        from embbert_tvm.tuning.logs import Log

        Log(path, manifest).prune()
    before = sum(k.before * k.calls for k in manifest.kernels.values())
    after = sum(k.after * k.calls for k in manifest.kernels.values())
    if as_json:
        document = asdict(manifest) | {"log": str(path), "before": before, "after": after}
        click.echo(json.dumps(document))
        return
    click.echo(_text(manifest, path, objective, before, after))


def _text(manifest: Manifest, path: Path, objective: str, before: float, after: float) -> str:
    """Each kernel that was searched, and the whole."""
    lines = []
    for kernel in sorted(manifest.kernels.values(), key=lambda k: k.before * k.calls, reverse=True):
        if kernel.trials:
            change = kernel.after / kernel.before - 1
            lines.append(f"{kernel.name:<44} {kernel.before:>12,.0f} {kernel.after:>12,.0f} {change:>+7.1%}")
    all_of_it = f"{objective} {before:,.0f} -> {after:,.0f} ({after / before - 1:+.1%})"
    return "\n".join([*lines, f"{path}: {manifest.trials} trials, {all_of_it}", *_whole(manifest)])


def _whole(manifest: Manifest) -> list[str]:
    """What became of whole inferences, where these were weighed."""
    whole = manifest.whole
    if whole is None:
        return []
    lines = [f"  {cycles:>12,.0f} cycles  {what}" for what, cycles in whole.tried.items()]
    if whole.tuned is not None:
        left_out = "" if whole.keeps_schedules else ", which are left out"
        lines.append(f"  {whole.tuned:>12,.0f} cycles  with the schedules found{left_out}")
    change = whole.after / whole.before - 1
    said = (
        f"whole inference of {manifest.length} tokens: {whole.before:,.0f} -> {whole.after:,.0f} cycles ({change:+.1%})"
    )
    return ["forms of the kernels:", *lines, f"{said}, forms: {manifest.kernel_forms.named}"]
