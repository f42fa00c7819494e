"""The help of `compile`: every option under one heading, an example that works as it stands."""

from __future__ import annotations

import re
import shlex

import pytest
from click.testing import CliRunner

from embbert_tvm.cli import COMMANDS, group
from embbert_tvm.cli.compile import _EXAMPLE, _GROUPS, command
from embbert_tvm.errors import InputError
from embbert_tvm.graph.precision import named_plan


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


def test_a_scheme_that_answers_the_papers_questions_is_taken_where_it_is_requested():
    with pytest.raises(InputError, match="--experimental"):
        named_plan("binary")
    assert named_plan("binary", experimental=True).default == "binary"
    with pytest.raises(InputError, match="choose one of int8, fp16") as refused:
        named_plan("int5")
    assert "int16" not in str(refused.value)
    context = command.make_context("compile", ["m", "-o", "p", "--precision", "int16", "--experimental"])
    assert context.params["experimental"]


def test_made_up_texts_are_no_part_of_the_help_of_distill():
    help_of = CliRunner().invoke(group, ["distill", "--help"]).output
    distill = group.get_command(None, "distill")
    context = distill.make_context("distill", ["t.tsv", "-o", "m", "--teacher", "t", "--mixed", "1", "--noised", "2"])
    assert (context.params["mixed"], context.params["noised"]) == (1, 2)
    for name in ("mixed", "noised", "replaced", "auxiliary"):
        assert f"--{name}" not in help_of


def test_the_example_is_of_commands_and_options_that_there_are():
    for line in _EXAMPLE.splitlines():
        program, verb, *arguments = shlex.split(line)
        assert (program, verb in COMMANDS) == ("embbert-tvm", True)
        parsed = group.get_command(None, verb).make_context(verb, arguments)
        assert parsed.params["model" if verb == "compile" else "package"] is not None
