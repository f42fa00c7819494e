"""embbert-tvm profile: where a compiled package spends its instructions."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from embbert_tvm.cli.options import plot_option, timeout_option
from embbert_tvm.table import table

if TYPE_CHECKING:
    from embbert_tvm.cycles.inference import InferenceCycles
    from embbert_tvm.device.estimate import Estimate
    from embbert_tvm.device.package import Package
    from embbert_tvm.device.profile import LengthProfile, Profile

DEFAULT = (12, 32, 64, 128, 256)
MOST_FUNCTIONS = 8  # of which cycles are shown


@click.command("profile")
@click.argument("package", type=click.Path())
@click.option(
    "--on", "place", default="qemu", show_default=True, metavar="PLACE", help="qemu, qemu:BOARD or serial:PORT[@BAUD]"
)
@click.option(
    "--length",
    "lengths",
    metavar="N,N,...",
    help="Lengths of text in tokens.  [default: those of 12,32,64,128,256 that the package takes]",
)
@click.option("--board", metavar="BOARD", help="The board whose time and energy are estimated. Default: the package's.")
@click.option(
    "--cycles",
    "weighs",
    is_flag=True,
    help="Estimate the cycles of each function by several models of the core's pipeline. Needs QEMU and llvm-mca.",
)
@timeout_option
@plot_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    package: str,
    place: str,
    lengths: str | None,
    board: str | None,
    weighs: bool,
    timeout: float | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Count the instructions of each step of PACKAGE at several lengths of text."""
    from embbert_tvm.cycles import account
    from embbert_tvm.device.package import load_package
    from embbert_tvm.device.profile import profile
    from embbert_tvm.report import plots

    if plot is not None:
        plots.check(plot)
    opened = load_package(package)
    if lengths is None:
        asked = [n for n in DEFAULT if n <= opened.max_length] or [opened.max_length]
    else:
        asked = _numbers(lengths)
    found = profile(opened, place, asked, timeout)
    if plot is not None:
        plots.profile(plot, found)
    how = _estimate(opened, board, found)
    weighed = _weigh(opened, place, asked) if weighs else []
    if as_json:
        lengths_shown = [asdict(one) | _cost(how, one) for one in found.lengths]
        document = {"target": opened.target, "on": place, "lengths": lengths_shown, "stack_bytes": found.stack}
        if found.slices is not None:
            document["longest_slice"] = found.slices.longest
        if weighs:
            document["cycles"] = [account.document(opened.target, one) | _weighed_time(how, one) for one in weighed]
        click.echo(json.dumps(document | {"estimate": how and asdict(how)}))
        return
    unit = "cycles" if found.lengths[0].total_instructions is None else "instructions"
    click.echo(f"{opened.model_name}, {opened.precision} for {opened.target}, on {found.on}: {unit}")
    click.echo(_text(found))
    if how is not None:
        click.echo(_costs_text(how, found))
    for one in weighed:
        lines = [account.text(one, MOST_FUNCTIONS), *account.notes(one)]
        if how is not None:
            time = _weighed_time(how, one)["milliseconds"]
            lines.append(f"{time:,.3g} ms for {how.board} at {how.clock_hz / 1e6:g} MHz by the worst; no wait states")
        click.echo(
            "\n".join([f"\nEstimated cycles at L={one.length}, by model and by the worst, block by block:", *lines])
        )


def _weigh(package: Package, place: str, lengths: list[int]) -> list[InferenceCycles]:
    """Cycles of whole inferences in QEMU."""
    from embbert_tvm.cycles.inference import inference_cycles
    from embbert_tvm.errors import InputError

    if place.partition(":")[0] != "qemu":
        raise InputError("--cycles weighs what QEMU counts: profile --on qemu")
    return inference_cycles(package, lengths)


def _estimate(package: Package, board: str | None, found: Profile) -> Estimate | None:
    """How counts become time on the board that is named, or the package's own."""
    from embbert_tvm.device.estimate import estimate
    from embbert_tvm.errors import InputError
    from embbert_tvm.target import load_board, load_cpu

    chosen = load_board(board) if board else package.board
    if chosen is None:
        return None
    if chosen.cpu != package.target:
        raise InputError(f"{chosen.name} has a {chosen.cpu}, the package was compiled for {package.target}")
    return estimate(chosen, load_cpu(package.target), found.clock_hz)


def _weighed_time(how: Estimate | None, one: InferenceCycles) -> dict[str, float | None]:
    """Milliseconds of a whole inference by the models of the core's pipeline, None without a board."""
    from embbert_tvm.cycles.inference import WORST

    return {"milliseconds": None if how is None else how.milliseconds_of_cycles(one.cycles[WORST])}


def _cost(how: Estimate | None, one: LengthProfile) -> dict[str, float | None]:
    count = one.total_cycles if one.total_instructions is None else one.total_instructions
    if how is None or count is None:
        return {"milliseconds": None, "millijoules": None}
    return {"milliseconds": how.milliseconds(count), "millijoules": how.millijoules(count)}


def _costs_text(how: Estimate, found: Profile) -> str:
    costs = [_cost(how, one) for one in found.lengths]
    rows = [("", *(f"L={one.length}" for one in found.lengths))]
    for name in ("milliseconds", "millijoules"):
        if all(cost[name] is not None for cost in costs):
            rows.append((name, *(f"{cost[name]:,.3g}" for cost in costs)))
    kind = "Measured" if found.clock_hz is not None else "Estimate"
    return f"\n{table(rows, right=tuple(range(1, len(rows[0]))))}\n\n{kind} for {how.board}: {how.assumptions}."


def _numbers(text: str) -> list[int]:
    from embbert_tvm.errors import InputError

    try:
        return list(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError as error:
        raise InputError(f"--length {text}: must be whole numbers with commas between, as in 32,64") from error


def _text(found: Profile) -> str:
    last = found.lengths[-1]
    cycles = last.total_instructions is None
    head = ["step", "kernel", *(f"L={one.length}" for one in found.lengths), "share", "MAC"]
    rows = [(*head, "MAC/cycle" if cycles else "MAC/instr")]
    for number, layer in enumerate(last.layers):
        counts = [one.layers[number].cycles if cycles else one.layers[number].instructions for one in found.lengths]
        rows.append((layer.name, layer.kernel, *map(_count, counts), f"{layer.share:.1%}", *_macs(layer.macs, counts)))
    totals = [one.total_cycles if cycles else one.total_instructions for one in found.lengths]
    rows.append(("all", "", *map(_count, totals), "", *_macs(last.total_macs, totals)))
    notes = [f"Share and MAC at L={last.length}." + " QEMU counts instructions, not cycles." * (not cycles)]
    if found.stack is not None:
        notes.append(f"Stack: {found.stack:,} bytes at the deepest, the protocol server's included.")
    if found.slices is not None:
        share = found.slices.longest / max(found.slices.total, 1)
        notes.append(f"Slices at L={last.length}: {found.slices.longest:,} at the longest, {share:.2%} of all.")
    return "\n".join([table(rows, right=tuple(range(2, len(rows[0])))), "", *notes])


def _count(number: int | None) -> str:
    return f"{number or 0:,}"


def _macs(macs: int | None, counts: list[int | None]) -> tuple[str, str]:
    """MAC, and MAC a count at the last of the lengths."""
    if not macs:
        return ("?" if macs is None else "", "")
    return f"{macs:,}", f"{macs / counts[-1]:.3f}" if counts[-1] else ""
