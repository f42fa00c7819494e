"""What commands show of their progress on a terminal, and that they show none elsewhere."""

from __future__ import annotations

import io
import re
import sys

import pytest
import small
from click.testing import CliRunner
from heard import Heard

from embbert_tvm import progress
from embbert_tvm.cli import COMMANDS, group
from embbert_tvm.cli.compile import STAGES
from embbert_tvm.cli.progress import Display
from embbert_tvm.cli.training import _Epochs
from embbert_tvm.graph import pipeline
from embbert_tvm.training.finetune import Epoch


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal_of(monkeypatch) -> Terminal:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


def lines(shown: io.StringIO) -> list[str]:
    """What was drawn, line by line, those that wipe a line left out."""
    return [line.strip() for line in re.split(r"[\r\n]|\x1b\[A", shown.getvalue()) if line.strip()]


def test_a_terminal_sees_what_is_done_how_far_and_how_long_still(monkeypatch):
    terminal = terminal_of(monkeypatch)
    with progress.heard_by(Display()):
        with progress.task("reading", "texts") as reach:
            reach(1, 4, "so far so good")
            progress.note("a line for good")
    drawn = lines(terminal)
    assert drawn[0] == "reading ..."
    assert re.fullmatch(r"reading  25 % \|[^|]{20}\| 1 of 4 texts, \d\d:\d\d left, so far so good", drawn[1])
    assert "a line for good" in drawn


def test_a_task_that_begins_anew_is_timed_anew(monkeypatch):
    terminal = terminal_of(monkeypatch)
    with progress.heard_by(Display()), progress.task("training", "batches") as reach:
        reach(9, 9, "the first")
        reach(1, 9, "the second")
    assert next(line for line in lines(terminal) if "the second" in line).startswith("training  11 % ")


@pytest.mark.parametrize("quiet", [False, True])
def test_a_file_is_shown_lines_alone_and_none_with_quiet(monkeypatch, quiet):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    with progress.heard_by(Display(quiet)):
        assert list(progress.over("ab", "reading", "texts")) == ["a", "b"]
        progress.note("a line")
    assert shown.getvalue() == ("" if quiet else "a line\n")


def test_stages_come_in_order_and_never_twice():
    heard = Heard()
    with progress.heard_by(heard), progress.stages("compiling", {"a": ("one", 70), "b": ("two", 30)}):
        for name in ("b", "a", "b", "of another task"):
            progress.stage(name)
    assert heard.tasks == {"compiling": [(0, 100, "one"), (70, 100, "two"), (70, 100, "two")]}
    progress.stage("a")  # of no task: nothing is said


def test_the_stages_of_compile_are_those_that_it_goes_through(tmp_path):
    """Every phase of the pipeline, and what comes after, in the order of the table; their shares are the whole."""
    assert [name for name in STAGES if name[0].isdigit()] == list(pipeline.PHASES)
    assert sum(share for _, share in STAGES.values()) == 100
    heard = Heard()
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("embbert_tvm.cli.shared.Display", lambda quiet: heard)
    arguments = ["compile", str(small.folder()), "--target", "host", "-o", str(tmp_path / "package")]
    with monkeypatch.context():
        done = CliRunner().invoke(group, arguments)
    monkeypatch.undo()
    assert done.exit_code == 0, done.output
    assert [note for _, _, note in heard.tasks["compiling"]] == [what for what, _ in STAGES.values()]


def test_each_epoch_says_devs_metric_and_what_is_kept():
    heard = Heard()
    with progress.heard_by(heard), progress.task("training", "batches") as reach:
        epochs = _Epochs(reach)
        for epoch in (Epoch(1, 0.9, 0.5, 0.8, True), Epoch(2, 0.7, 0.4, 0.9, False)):
            epochs.reach(epoch.number, 2)
            epochs.add(epoch)
    assert heard.notes == [
        "epoch 1: loss 0.9000, dev 0.5000 (loss 0.8000); keeps epoch 1, dev 0.5000",
        "epoch 2: loss 0.7000, dev 0.4000 (loss 0.9000); keeps epoch 1, dev 0.5000",
    ]
    assert heard.tasks["training"] == [(1, 2, ""), (2, 2, "keeps epoch 1, dev 0.5000")]


def test_every_command_can_be_quiet():
    for name in COMMANDS:
        command = group.get_command(None, name)
        for one in getattr(command, "commands", {"": command}).values():
            assert [p.name for p in one.params].count("quiet") == 1, name
