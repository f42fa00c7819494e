"""Options that few need: `--help` leaves them out, `--help-all` shows them, and they work."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from embbert_tvm.cli import COMMANDS, group
from embbert_tvm.cli.compile import command
from embbert_tvm.errors import InputError
from embbert_tvm.graph.precision import named_plan


@pytest.fixture(scope="module")
def printed() -> str:
    return CliRunner().invoke(group, ["compile", "--help-all"]).output


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_all_shows_every_option_once(name):
    found = group.get_command(click.Context(group), name)
    if isinstance(found, click.Group):
        return
    hidden = [p for p in found.params if isinstance(p, click.Option) and p.hidden]
    short, whole = (CliRunner().invoke(group, [name, f"--help{more}"]) for more in ("", "-all" * bool(hidden)))
    assert (short.exit_code, whole.exit_code) == (0, 0)
    short, whole = (help.output.partition("\nOptions:\n")[2] for help in (short, whole))
    for option in (p for p in found.params if isinstance(p, click.Option)):
        listed = re.compile(rf"^  (?:-\S+,? )*{option.opts[-1]}(?![\w-])", re.MULTILINE)
        assert len(listed.findall(whole)) == 1, option.opts
        assert len(listed.findall(short)) == (option not in hidden), option.opts


def test_precisions_that_answer_the_papers_questions_are_not_offered(printed):
    for name in ("binary", "int8-rows", "int8-outliers", "int16"):
        assert not re.search(rf"\b{name}\b", printed)


def test_a_precision_that_answers_the_papers_questions_is_taken_where_it_is_requested():
    with pytest.raises(InputError, match="--experimental"):
        named_plan("binary")
    assert named_plan("binary", experimental=True).default == "binary"
    with pytest.raises(InputError, match="choose one of int8, fp16") as refused:
        named_plan("int5")
    assert "int16" not in str(refused.value)
    context = command.make_context("compile", ["m", "-o", "p", "--precision", "int16", "--experimental"])
    assert context.params["experimental"]


def test_made_up_texts_are_no_part_of_the_short_help_of_distill():
    help_of = CliRunner().invoke(group, ["distill", "--help"]).output
    distill = group.get_command(None, "distill")
    context = distill.make_context("distill", ["t.tsv", "-o", "m", "--teacher", "t", "--mixed", "1", "--noised", "2"])
    assert (context.params["mixed"], context.params["noised"]) == (1, 2)
    for name in ("mixed", "noised", "replaced", "auxiliary"):
        assert f"--{name}" not in help_of
