"""embbert-tvm targets: the CPUs and boards there are."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from embbert_tvm.target import Board, Cpu


@click.group("targets")
def command() -> None:
    """List and show CPUs and boards."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_targets(as_json: bool) -> None:
    """List every CPU and board."""
    from embbert_tvm.target import known_boards, known_cpus, load_board, load_cpu

    cpus = [load_cpu(name) for name in known_cpus()]
    boards = [load_board(name) for name in known_boards()]
    if as_json:
        click.echo(json.dumps({"cpus": [_brief(cpu) for cpu in cpus], "boards": [_brief(board) for board in boards]}))
        return
    width = max(map(len, known_cpus() + known_boards()))
    for target in cpus:
        click.echo(f"CPU    {target.name.ljust(width)}  {target.description}")
    for board in boards:
        click.echo(f"board  {board.name.ljust(width)}  {board.description}")


def _brief(target: Cpu | Board) -> dict[str, str]:
    return {"name": target.name, "description": target.description}


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(name: str, as_json: bool) -> None:
    """Show all that is known of the CPU or board NAME, or of a .yaml file that describes a board."""
    import yaml

    from embbert_tvm.errors import InputError
    from embbert_tvm.target import known_boards, known_cpus, load_board, load_cpu

    known = known_cpus() + known_boards()
    if name not in known and not name.endswith((".yaml", ".yml")):
        raise InputError(f"unknown target {name!r}: known are {', '.join(known)}, or give a .yaml file")
    document = asdict(load_cpu(name) if name in known_cpus() else load_board(name))
    plain = json.loads(json.dumps(document))  # tuples as lists
    click.echo(json.dumps(plain) if as_json else yaml.safe_dump(plain, sort_keys=False, width=100).rstrip())
