"""The help of `compile`: every option under one heading, an example that works as it stands."""

from __future__ import annotations

import re
import shlex

import pytest
from click.testing import CliRunner

from embbert_tvm.cli import COMMANDS, group
from embbert_tvm.cli.compile import _EXAMPLE, _GROUPS, command


@pytest.fixture(scope="module")
def printed() -> str:
    return CliRunner().invoke(group, ["compile", "--help"]).output


def test_every_option_is_in_one_group(printed):
    headings = re.findall(r"^(\S.*):$", printed, re.MULTILINE)
    assert headings == [*_GROUPS, "Example"]  # nothing is left for "Others"
    for option in command.params:
        if option.opts[0].startswith("-"):
            assert len(re.findall(rf"^  .*{option.opts[-1]}\b", printed, re.MULTILINE)) >= 1, option.opts
    named = [name for names in _GROUPS.values() for name in names]
    assert len(named) == len(set(named)) == len(command.params)  # --help for the argument MODEL


def test_schemes_that_answer_the_papers_questions_are_not_offered(printed):
    for name in ("binary", "int8-rows", "int8-outliers", "int16"):
        assert not re.search(rf"\b{name}\b", printed)


def test_the_example_is_of_commands_and_options_that_there_are():
    for line in _EXAMPLE.splitlines():
        program, verb, *arguments = shlex.split(line)
        assert (program, verb in COMMANDS) == ("embbert-tvm", True)
        parsed = group.get_command(None, verb).make_context(verb, arguments)
        assert parsed.params["model" if verb == "compile" else "package"] is not None
