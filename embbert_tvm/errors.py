"""What a user is told. Every error that is not a bug derives from `EmbbertError`."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class EmbbertError(Exception):
    """One line that says what was wrong with which input, and what to do about it."""

    exit_status = 1


class InputError(EmbbertError):
    """The input or the usage is at fault: exit status 2."""

    exit_status = 2


class WorkError(EmbbertError):
    """The input was right and the work failed (does not fit, wrong result, no answer): exit status 1."""


# Errors of the system that no other name of a file avoids.
_OF_THE_MACHINE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "name a place that can be written",
    errno.EIO: "",
    errno.EFBIG: "",
    errno.ENOMEM: "",
    errno.EMFILE: "",
    errno.ENFILE: "",
}


def cannot_write(path: object, error: OSError) -> EmbbertError:
    """The error for an output that the system refuses: WorkError for a full disk and its like, else InputError."""
    said = f"{path}: cannot be written ({error.strerror or error})"
    if error.errno in _OF_THE_MACHINE:
        advice = _OF_THE_MACHINE[error.errno]
        return WorkError(f"{said}: {advice}" if advice else said)
    return InputError(said)


def nearest(name: str, known: Iterable[str]) -> str:
    """A question that ends a message about an unknown name: which known one was meant; empty where none is alike."""
    found = difflib.get_close_matches(name, [*known], n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def one_line(message: object) -> str:
    """A message on one line of printable characters: names of files and labels may hold any."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(message))
