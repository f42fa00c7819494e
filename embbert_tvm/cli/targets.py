"""embbert-tvm targets: the CPUs and boards there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embbert_tvm.table import table

if TYPE_CHECKING:
    from embbert_tvm.target import Board, Cpu


@click.group("targets")
def command() -> None:
    """List, show and describe CPUs and boards."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_targets(as_json: bool) -> None:
    """List every CPU and board."""
    from embbert_tvm.target import known_boards, known_cpus, load_board, load_cpu

    cpus = [load_cpu(name) for name in known_cpus()]
    boards = [load_board(name) for name in known_boards()]
    if as_json:
        click.echo(json.dumps({"cpus": [_brief(cpu) for cpu in cpus], "boards": [_board(board) for board in boards]}))
        return
    rows: list[tuple[str, ...]] = [("CPU", "features", "in QEMU on", "what")]
    rows += [(c.name, " ".join(c.features) or "-", c.emulation_board or "-", c.description) for c in cpus]
    click.echo(table(rows))
    click.echo()
    rows = [("board", "CPU", "MHz", "flash", "RAM", "serial", "QEMU", "firmware by", "what")]
    for board in boards:
        figures = _board(board)
        rows.append(
            (
                board.name,
                board.cpu,
                f"{board.clock_hz / 1e6:g}",
                _kilobytes(figures["flash_bytes"][:1]),
                _kilobytes(figures["ram_bytes"]),
                "yes" if figures["serial"] else "no",
                "yes" if figures["qemu"] else "no",
                figures["firmware"] or "-",
                board.description,
            )
        )
    click.echo(table(rows, right=(2,)))
    click.echo("\nserial: whether a firmware that speaks to `--on serial:PORT` can be built; packages compile for all.")
    click.echo("firmware by: `embbert-tvm firmware`, or the framework whose template `project --template` fills.")


def _brief(cpu: Cpu) -> dict[str, Any]:
    return {
        "name": cpu.name,
        "description": cpu.description,
        "features": list(cpu.features),
        "emulation_board": cpu.emulation_board,
    }


def _board(board: Board) -> dict[str, Any]:
    return {
        "name": board.name,
        "description": board.description,
        "cpu": board.cpu,
        "clock_hz": board.clock_hz,
        "flash_bytes": [region.bytes for region in board.regions("flash")],
        "ram_bytes": [region.bytes for region in board.regions("ram")],
        "serial": board.uart is not None and board.uart.driver is not None,
        "qemu": board.qemu is not None,
        "firmware": board.framework or ("embbert-tvm" if board.uart and board.uart.driver else None),
    }


def _kilobytes(sizes: list[int]) -> str:
    return " + ".join(f"{size / 1024:g}" for size in sizes) + " K"


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(name: str, as_json: bool) -> None:
    """Show all that is known of the CPU or board NAME, or of a .yaml file that describes a board."""
    from embbert_tvm.errors import InputError, nearest
    from embbert_tvm.target import known_boards, known_cpus, load_board, load_cpu
    from embbert_tvm.target_file import board_text, plain, text_of

    known = known_cpus() + known_boards()
    if name not in known and not name.endswith((".yaml", ".yml")):
        raise InputError(
            f"unknown target {name!r}{nearest(name, known)}: known are {', '.join(known)}, or give a .yaml file"
        )
    if name in known_cpus():
        cpu = load_cpu(name)
        click.echo(json.dumps(plain(cpu)) if as_json else text_of(plain(cpu)).rstrip())
        return
    board = load_board(name)
    click.echo(json.dumps(plain(board)) if as_json else board_text(board).rstrip())


@command.command("new")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--cpu", required=True, help="A CPU of targets/cpus.")
@click.option("--flash", required=True, multiple=True, metavar="SIZE[@ADDRESS]", help="512k@0x08000000; default at 0.")
@click.option(
    "--ram",
    required=True,
    multiple=True,
    metavar="SIZE[@ADDRESS]",
    help="96k@0x20000000, the default; may be repeated.",
)
@click.option("--clock", required=True, metavar="RATE", help="Of the processor: 80MHz.")
@click.option("--stack", default="4k", show_default=True, metavar="SIZE", help="Kept for the stack.")
@click.option("--name", help="Default: the file's name without .yaml.")
@click.option("--description", default="", help="One line.")
@click.option("--source", default="", help="The documents that the figures are from.")
@click.option("--json", "as_json", is_flag=True, help="Print the board as one JSON object.")
def new(
    file: Path,
    cpu: str,
    flash: tuple[str, ...],
    ram: tuple[str, ...],
    clock: str,
    stack: str,
    name: str | None,
    description: str,
    source: str,
    as_json: bool,
) -> None:
    """Write FILE, a .yaml file that describes a board; `compile --board FILE` takes it."""
    from embbert_tvm.data.files import write_atomically
    from embbert_tvm.errors import InputError
    from embbert_tvm.target_file import DataSheet, board_text, new_board, plain

    if file.suffix not in (".yaml", ".yml"):
        raise InputError(f"{file}: must end in .yaml, by which a board file is known")
    if file.exists():
        raise InputError(f"{file}: exists already: name another file, or edit this one")
    board = new_board(name or file.stem, DataSheet(cpu, flash, ram, clock, stack, description, source))
    write_atomically(file, board_text(board).encode())
    if as_json:
        click.echo(json.dumps(plain(board)))
    else:
        click.echo(f"{file}: {board.name}, {board.cpu} at {board.clock_hz / 1e6:g} MHz")
        for region in board.memory:
            click.echo(f"  {region.name:8} {region.bytes / 1024:g} K at {region.origin:#010x}")
        click.echo(f"next: embbert-tvm compile MODEL --board {file} -o PACKAGE")
