"""embbert-tvm project: a compiled package as a project of a build system."""

from __future__ import annotations

import json
from pathlib import Path

import click

from embbert_tvm.cli.options import folder_option


@click.command("project")
@click.argument("package", type=click.Path())
@click.option(
    "--template", "name", required=True, metavar="TEMPLATE", help="cmake, zephyr, arduino, esp-idf, platformio or bare"
)
@click.option("--board", metavar="BOARD", help="The board of cmake and bare. Default: the package's, else one in QEMU.")
@folder_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(package: str, name: str, board: str | None, output: Path, as_json: bool) -> None:
    """Make a folder that builds from the compiled PACKAGE."""
    from embbert_tvm.device.package import load_package
    from embbert_tvm.device.project import load_template, write_project
    from embbert_tvm.target import load_board

    template = load_template(name)
    files = write_project(load_package(package), template, output, load_board(board) if board else None)
    if as_json:
        click.echo(json.dumps({"template": name, "output": str(output), "files": files}))
    else:
        click.echo(f"{output}: {template.description}; {len(files)} files, begin with README.md")
