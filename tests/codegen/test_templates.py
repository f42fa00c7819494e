"""The C that no model changes lies in files of C."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from embbert_tvm.codegen import templates

FOLDER = Path(templates.__file__).parent
MODULES = sorted(FOLDER.parent.glob("*.py"))


def test_every_file_is_used():
    named = {
        node.value
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and str(node.value).endswith(".in")
    }
    assert named == {path.name for path in FOLDER.glob("*.in")}


@pytest.mark.parametrize("name", ["c_api", "c_files", "integrity", "package"])
def test_no_c_of_many_lines_stands_in_a_string(name):
    tree = ast.parse((FOLDER.parent / f"{name}.py").read_text())
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert [text for text in texts if text.count("\n") > 4 and ";" in text and text not in docstrings] == []


def test_a_value_may_be_called_as_a_parameter_is():
    assert templates.substitute("@UPPER@ @TEXT@ @PREFIX@", "a", text="b @PREFIX@") == "A b a a"
