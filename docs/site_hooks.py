"""A hook of mkdocs: the page of all commands, made from their own help as the site is built."""

from __future__ import annotations

import click

from embbert_tvm.cli import COMMANDS, group
from embbert_tvm.cli.shared import full_help

PAGE = "commands.md"


def commands_page() -> str:
    """Markdown with the help of every command and of its subcommands."""
    parts = ["# Commands\n\nEvery command's help, as `embbert-tvm COMMAND --help-all` prints it.\n"]
    for name in sorted(COMMANDS):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        parts.append(_help(command, name, "##"))
        for inner, found in sorted(getattr(command, "commands", {}).items()):
            parts.append(_help(found, f"{name} {inner}", "###"))
    return "\n".join(parts)


def _help(command: click.Command, name: str, level: str) -> str:
    context = click.Context(command, info_name=f"embbert-tvm {name}", terminal_width=100, max_content_width=100)
    return f"{level} {name}\n\n```text\n{full_help(context)}\n```\n"


def on_files(files, config):
    """Add the page to those of the site."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=commands_page()))
    return files
