"""Every command's help: quick, complete, and with an example that is right."""

from __future__ import annotations

import shlex
import subprocess
import sys

import click
import pytest

from embbert_tvm.cli import COMMANDS, EXAMPLES, group

SCREEN = (32, 100)  # lines and columns
HEAVY = ("tvm", "torch", "onnx", "onnxruntime", "transformers", "jinja2", "matplotlib")


def command_of(name: str) -> click.Command:
    """A command, or one of a group by both names."""
    command = group.get_command(click.Context(group), name.partition(" ")[0])
    return command.commands[name.partition(" ")[2]] if " " in name else command


def help_of(name: str) -> str:
    parent, command = click.Context(group, info_name="embbert-tvm", **group.context_settings), command_of(name)
    return command.get_help(command.context_class(command, parent=parent, info_name=name, terminal_width=SCREEN[1]))


def test_help_imports_nothing_heavy():
    """All of them in one process, which takes the time of Python's start."""
    script = f"""
import sys
import click
from embbert_tvm.cli import COMMANDS, group
for name in COMMANDS:
    command = group.get_command(click.Context(group), name)
    assert command.get_help(click.Context(command, info_name=name))
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_help_ends_with_an_example(name):
    lines = help_of(name).rstrip().splitlines()
    assert any(line.strip() == "Example:" for line in lines[-4:])
    assert lines[-1].split()[0] == "embbert-tvm"


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_help_is_one_screen(name):
    lines = help_of(name).splitlines()
    assert len(lines) <= SCREEN[0]
    assert max(map(len, lines)) <= SCREEN[1]


@pytest.mark.parametrize("example", sorted(EXAMPLES.values()))
def test_examples_are_taken_by_their_commands(example):
    program, name, *arguments = shlex.split(example)
    command = group.get_command(click.Context(group), name)
    assert program == "embbert-tvm"
    context = command.make_context(name, list(arguments))
    if isinstance(command, click.Group):
        inner, found, rest = command.resolve_command(context, list(arguments))
        found.make_context(inner, rest)


def test_every_command_has_one():
    inner = {f"{name} {one}" for name in COMMANDS for one in getattr(command_of(name), "commands", ())}
    assert EXAMPLES.keys() == COMMANDS.keys() | inner
