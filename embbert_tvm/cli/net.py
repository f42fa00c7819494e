"""The one net below every command: whatever is raised ends in one line on stderr and an exit status."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import click

from embbert_tvm.errors import EmbbertError, InputError, cannot_write, one_line
from embbert_tvm.version import __version__

# Errors of the system that another name of a file avoids: the usage is at fault.
_OF_THE_NAME = {errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR}
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


def guarded(command: Callable[[], Any]) -> int:
    """Call a click command that is not standalone; the exit status, after one line on stderr where it failed."""
    signal.signal(signal.SIGTERM, _end)
    _open_streams()
    try:
        status = command()
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # PyO3's panics are no Exception
        return _reported(error)
    finally:
        _drop_stdout()


def _end(number: int, frame: object) -> NoReturn:
    """An end that leaves blocks as an interrupt from the keyboard does, so that nothing half-written stays."""
    sys.exit(128 + number)


def _open_streams() -> None:
    """Make the standard streams usable: none is missing, and no character is too strange for one.

    Without this the first file that is opened would take the number of a closed one.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # What is written to a stdout that is closed is lost, which must not pass for success: this one refuses.
            os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 (open as long as the process)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _drop_stdout() -> None:
    """Drop what a broken stdout still holds: Python would fail once more at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _reported(error: BaseException) -> int:
    """Say on stderr what happened; the exit status."""
    if isinstance(error, click.ClickException):
        with suppress(OSError):
            error.show()
        return error.exit_code
    if isinstance(error, KeyboardInterrupt) or (
        isinstance(error, click.Abort) and not isinstance(error.__cause__, EOFError)
    ):
        _say("interrupted")
        return 128 + signal.SIGINT
    if isinstance(error, OSError) and _was_printing(error):
        error = cannot_write("stdout", error)
    elif isinstance(error, OSError):
        error = _of_the_system(error)
    if isinstance(error, EmbbertError):
        _say(str(error))
        return error.exit_status
    if isinstance(error, MemoryError):
        _say("out of memory: take a smaller model, or a machine with more")
        return 1
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    _say(f"unforeseen {_shortened(said)}{_traced(error)}")
    return 1


def _say(message: str) -> None:
    with suppress(OSError):
        click.echo(f"embbert-tvm: {_shortened(one_line(message), 1000)}", err=True)


def _shortened(text: str, most: int = 300) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _was_printing(error: BaseException) -> bool:
    return any(frame.f_code is click.echo.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))


def _of_the_system(error: OSError) -> BaseException:
    """An OSError whose cause is plain as what a user is told; any other as it is."""
    if error.errno in _OF_THE_MACHINE:
        return cannot_write(error.filename or "the output", error)
    if error.filename is not None and error.errno in _OF_THE_NAME:
        return InputError(f"{error.filename}: {error.strerror}")
    return error


def _traced(error: BaseException) -> str:
    """Where the trace is that a report needs, as the end of a sentence."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="embbert-tvm-", suffix=".txt", encoding="utf-8", errors="backslashreplace", delete=False
        ) as file:
            file.write(f"embbert-tvm {__version__}, Python {sys.version}\n\n")
            traceback.print_exception(type(error), error, error.__traceback__, file=file)
    except OSError:
        return ": a fault of embbert-tvm: please report it"
    return f": a fault of embbert-tvm: please report it with {file.name}"
