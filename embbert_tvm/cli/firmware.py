"""embbert-tvm firmware: an image of a compiled package for a board."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from embbert_tvm import progress
from embbert_tvm.cli.options import folder_option
from embbert_tvm.table import table

if TYPE_CHECKING:
    from embbert_tvm.target import Board

_WHAT = {
    "elf": "for debuggers and programmers",
    "map": "what lies where",
    "hex": "Intel HEX",
    "bin": "the flash as it is",
    "uf2": "for a boot loader that is a drive",
}


@click.command("firmware")
@click.argument("package", type=click.Path())
@click.option("--board", metavar="BOARD", help="The board. Default: the one that the package was compiled for.")
@folder_option
@click.option("--flash", "to_flash", is_flag=True, help="Flash the board too, with the tool that is installed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(package: str, board: str | None, output: Path, to_flash: bool, as_json: bool) -> None:
    """Build an image of the compiled PACKAGE that speaks the protocol over the board's serial port.

    With the image on the board, `run`, `validate`, `profile` and `pytest` take --on serial:PORT.
    """
    from embbert_tvm.device.firmware import flash, make_firmware
    from embbert_tvm.device.package import load_package
    from embbert_tvm.target import load_board

    made = make_firmware(load_package(package), load_board(board) if board else None, output)
    flashed = None
    if to_flash:
        with progress.task("flashing"):
            flashed = flash(made)
    target = made.board
    if as_json:
        figures = {
            "board": target.name,
            "files": {name: str(path) for name, path in made.files.items()},
            "flash_bytes": made.flash_bytes,
            "clock_hz": target.clock_hz,
            "reset_clock_hz": target.reset_clock_hz or target.clock_hz,
            "flash_commands": [shlex.join(words) for words in made.commands],
            "flashed_by": flashed,
        }
        click.echo(json.dumps(figures))
        return
    rows = [(str(path), f"{path.stat().st_size:,}", _WHAT[name]) for name, path in made.files.items()]
    click.echo(table([("file", "bytes", "what"), *rows], right=(1,)))
    click.echo(f"\n{target.name}: {made.flash_bytes:,} bytes of flash, {_clock(target)}")
    if flashed is not None:
        click.echo(f"flashed:  {flashed}")
    else:
        for number, words in enumerate(made.commands):
            click.echo(f"{'flash it:' if number == 0 else '      or:'} {shlex.join(words)}")
    click.echo("then:     embbert-tvm run PACKAGE --on serial:PORT 'a text'")


def _clock(board: Board) -> str:
    if board.start:
        return (
            f"{board.clock_hz / 1e6:g} MHz, {(board.reset_clock_hz or 0) / 1e6:g} MHz should its oscillator not start"
        )
    return f"{board.clock_hz / 1e6:g} MHz"
