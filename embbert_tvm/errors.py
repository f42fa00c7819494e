"""What a user is told. Every error that is not a bug derives from `EmbbertError`."""


class EmbbertError(Exception):
    """One line that says what was wrong with which input, and what to do about it."""

    exit_status = 1


class InputError(EmbbertError):
    """The input or the usage is at fault: exit status 2."""

    exit_status = 2


class WorkError(EmbbertError):
    """The input was right and the work failed (does not fit, wrong result, no answer): exit status 1."""
