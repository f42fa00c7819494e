"""Modules fit an editor's side, functions a screen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from embbert_tvm.resources import resource

FOLDERS = ("embbert_tvm", "tests", "benchmarks", "fuzz")
LINES_OF_MODULE, LINES_OF_FUNCTION = 400, 60
# A command's parameters are its options, a line each, and a decorator each.
COMMANDS = "embbert_tvm/cli/"


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
