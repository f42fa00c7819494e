"""embbert-tvm profile: where a compiled package spends its instructions."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from embbert_tvm.report.table import table

if TYPE_CHECKING:
    from embbert_tvm.device.profile import Profile

DEFAULT = (32, 64, 128, 256)


@click.command("profile")
@click.argument("package", type=click.Path())
@click.option("--on", "place", default="qemu", show_default=True, help="qemu, qemu:BOARD or serial:PORT[@BAUD]")
@click.option(
    "--length",
    "lengths",
    metavar="N,N,...",
    help="Tokens of the texts.  [default: those of 32,64,128,256 that the package takes]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(package: str, place: str, lengths: str | None, as_json: bool) -> None:
    """Count the instructions of each step of PACKAGE at several lengths of text."""
    from tqdm import tqdm

    from embbert_tvm.device.package import load_package
    from embbert_tvm.device.profile import profile

    opened = load_package(package)
    if lengths is None:
        asked = [n for n in DEFAULT if n <= opened.max_length] or [opened.max_length]
    else:
        asked = _numbers(lengths)
    quiet = not sys.stderr.isatty()
    found = profile(opened, place, asked, lambda items: tqdm(items, unit="length", leave=False, disable=quiet))
    if as_json:
        document = {"target": opened.target, "on": place, "lengths": [asdict(one) for one in found.lengths]}
        click.echo(json.dumps(document | {"stack_bytes": found.stack}))
        return
    unit = "cycles" if found.lengths[0].total_instructions is None else "instructions"
    click.echo(f"{opened.model_name}, {opened.precision} for {opened.target}, on {found.on}: {unit}")
    click.echo(_text(found))


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
    return "\n".join([table(rows, right=tuple(range(2, len(rows[0])))), "", *notes])


def _count(number: int | None) -> str:
    return f"{number or 0:,}"


def _macs(macs: int | None, counts: list[int | None]) -> tuple[str, str]:
    """MAC, and MAC a count at the last of the lengths."""
    if not macs:
        return ("?" if macs is None else "", "")
    return f"{macs:,}", f"{macs / counts[-1]:.3f}" if counts[-1] else ""
