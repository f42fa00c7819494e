"""What every command does with a fault that nothing below it foresaw, and with a broken stdout."""

from __future__ import annotations

import errno
import functools
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from embbert_tvm.cli import net
from embbert_tvm.errors import WorkError

COMMAND = (sys.executable, "-m", "embbert_tvm")


class RustPanic(BaseException):
    """As PyO3 raises where Rust panics: no Exception."""


def raiser(error: BaseException):
    @click.command()
    def command() -> None:
        raise error

    return lambda: command.main([], prog_name="embbert-tvm", standalone_mode=False)


def traces_go_to(folder: object, monkeypatch: pytest.MonkeyPatch) -> None:
    made = functools.partial(tempfile.NamedTemporaryFile, dir=folder)
    monkeypatch.setattr(net, "tempfile", SimpleNamespace(NamedTemporaryFile=made))


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), 1, "x: cannot be written (No space left on device)"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), 2, "x: File name too long"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), 1, "unforeseen UnicodeEncodeError"),
        (KeyError("float64"), 1, "unforeseen KeyError: 'float64'"),
        (RustPanic("index out of bounds"), 1, "unforeseen RustPanic: index out of bounds"),
        (ValueError("a\nb" + "c" * 9999), 1, "unforeseen ValueError: a\\nbc"),
        (RecursionError(), 1, "unforeseen RecursionError"),
        (EOFError(), 1, "unforeseen Abort"),
        (MemoryError(), 1, "out of memory"),
        (WorkError("two\nlines \x1b[31m"), 1, "embbert-tvm: two\\nlines \\x1b[31m"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_fault_is_one_line_and_a_status(error, status, message, capfd, tmp_path, monkeypatch):
    traces_go_to(tmp_path, monkeypatch)
    assert net.guarded(raiser(error)) == status
    out, err = capfd.readouterr()
    (line,) = err.strip().splitlines()
    assert out == ""
    assert message in line
    assert len(line) < 600
    traces = list(tmp_path.iterdir())
    assert len(traces) == ("unforeseen" in message)
    for trace in traces:
        assert str(trace) in line
        assert "in command" in trace.read_text()


def test_a_trace_that_cannot_be_written_is_still_one_line(capfd, monkeypatch):
    traces_go_to("/nowhere/at/all", monkeypatch)
    assert net.guarded(raiser(KeyError("x"))) == 1
    assert capfd.readouterr().err == "embbert-tvm: unforeseen KeyError: 'x': a fault of embbert-tvm: please report it\n"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess:
    command = line.replace("EMBBERT", " ".join(COMMAND))
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=os.environ | environment, timeout=120
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("EMBBERT targets list > /dev/full", "stdout: cannot be written (No space left on device): free some space"),
        ("EMBBERT targets list >&-", "stdout: cannot be written (Bad file descriptor)"),
        ("EMBBERT --help <&- >&-", "stdout: cannot be written (Bad file descriptor)"),
    ],
)
def test_a_stdout_that_cannot_be_written(line, message):
    done = shell(line)
    assert done.returncode in (1, 2)
    assert done.stderr == f"embbert-tvm: {message}\n"


@pytest.mark.parametrize("line", ["EMBBERT targets show nothing 2> /dev/full", "EMBBERT targets show nothing 2>&-"])
def test_a_stderr_that_cannot_be_written_leaves_the_status(line):
    done = shell(line)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_reader_that_leaves_early():
    done = shell("EMBBERT targets list | head -n 1; exit ${PIPESTATUS[0]}")
    assert done.stderr == ""
    assert "Traceback" not in done.stdout


def test_a_closed_stdout_is_no_file_that_is_opened_later(tmp_path):
    """The first file that is opened would take its number, and what is printed would go into it."""
    output = tmp_path / "board.yaml"
    done = shell(f"EMBBERT targets new {output} --cpu cortex-m4 --flash 512k --ram 128k --clock 80MHz >&-")
    assert "Traceback" not in done.stderr
    assert re.match("name: board\n", output.read_text())


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_what_stdout_cannot_say_is_escaped(encoding, toy_package: Path):
    done = shell(f"EMBBERT run {toy_package} 'play ☃ music'", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "play \\u2603 music" in done.stdout
