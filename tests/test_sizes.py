"""Modules fit an editor's side, functions a screen, parameters a mind."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from embbert_tvm.resources import resource

FOLDERS = ("embbert_tvm", "tests", "benchmarks", "fuzz")
LINES_OF_MODULE, LINES_OF_FUNCTION, PARAMETERS = 400, 60, 6
# A command's parameters are its options, a line each, and a decorator each.
COMMANDS = "embbert_tvm/cli/"
# Where functions take the operands of the C that they stand for, a parameter each.
OPERANDS = "embbert_tvm/kernels/"


def modules() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted(resource(folder).rglob("*.py"))


def test_modules():
    assert {str(p): n for p in modules() if (n := len(p.read_text().splitlines())) > LINES_OF_MODULE} == {}


def test_functions():
    """From `def` to the end; of a command, whose parameters are its options, the body."""
    long = {}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                first = node.body[0].lineno if COMMANDS in path.as_posix() else node.lineno
                lines = (node.end_lineno or 0) - first + 1
                if lines > LINES_OF_FUNCTION:
                    long[f"{path}: {node.name}"] = lines
    assert long == {}


def test_parameters():
    """Options belong in a frozen dataclass. A command's are its decorators' and stand there one by one."""
    many = {}
    for path in modules():
        if OPERANDS in path.as_posix() or path.is_relative_to(resource("tests")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                names = [name for arg in given if (name := arg.arg) not in ("self", "cls")]
                is_command = COMMANDS in path.as_posix() and node.decorator_list
                if len(names) > PARAMETERS and not is_command:
                    many[f"{path}: {node.name}"] = names
    assert many == {}
