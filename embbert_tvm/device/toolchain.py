"""Calling a GCC: where it is, what it says, and which package brings it where it is missing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.target import Cpu

# GCC quotes the line of an #include: <> asks for a header of the C library, "" for one of a package.
_MISSING_LIBRARY = re.compile(
    r"\w+\.specs: No such file|\.h: No such file.*\n.*#\s*include\s*<|cannot find (-l|crt)\w+"
)
_MISSING_HEADER = re.compile(r'([\w./-]+\.h): No such file.*\n.*#\s*include\s*"')
_OVERFLOW = re.compile(r"region [`'](\w+)' overflowed by (\d+) bytes")


# The most seconds that a compiler may take for one file; SECONDS_VARIABLE names another figure for a slow machine.
SECONDS, SECONDS_VARIABLE = 300.0, "EMBBERT_TVM_TOOL_SECONDS"


class MissingTool(InputError):
    """A toolchain, or its C library, is not installed: what it would tell stays unknown, and nothing is wrong."""


def find_tool(cpu: Cpu, tool: str) -> str:
    """The path of `gcc`, `size`, ... of a CPU's toolchain; MissingTool says which packages bring it."""
    name = cpu.toolchain.prefix + tool
    path = shutil.which(name)
    if path is None:
        packages = " ".join(cpu.toolchain.packages)
        raise MissingTool(
            f"{name} is not installed, which {cpu.name} needs: `apt-get install {packages}`, or make demo"
        )
    return path


def call(cpu: Cpu, tool: str, arguments: Sequence[str | Path], what: str) -> str:
    """Run a tool and return its stdout; WorkError with its first error line where it fails at `what`, or hangs."""
    done = run_tool([find_tool(cpu, tool), *map(str, arguments)], f"{cpu.toolchain.prefix}{tool}", what)
    if done.returncode == 0:
        return done.stdout
    if overflow := _OVERFLOW.search(done.stderr):
        raise WorkError(f"{what} does not fit: {overflow[1]} is {overflow[2]} bytes too small")
    first = first_error(done)
    if _MISSING_LIBRARY.search(done.stderr):
        packages = " ".join(cpu.toolchain.packages)
        raise MissingTool(f"the C library for {cpu.name} is not installed ({first}): `apt-get install {packages}`")
    if header := _MISSING_HEADER.search(done.stderr):
        raise WorkError(f"{what} includes {header[1]}, which is missing: compile the package again")
    raise WorkError(f"{cpu.toolchain.prefix}{tool} could not make {what}: {first}")


def first_error(done: subprocess.CompletedProcess[str]) -> str:
    """The line of a tool's messages that tells most of why it failed; its status where it says nothing."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "undefined reference" in line or "error" in line]
    return next(iter(telling or lines), f"status {done.returncode}")


def run_tool(
    command: Sequence[str], name: str, what: str, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end; WorkError where it cannot start or takes longer than `tool_seconds`.

    A compiler is several processes: all of them end with it.

    Args:
        command: the program and its arguments.
        name: of the tool, for messages.
        what: it is to make, for messages.
        given: what it reads from stdin.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise WorkError(f"{name} cannot be started ({error.strerror})") from error
    with process:
        try:
            out, err = process.communicate(given, timeout=tool_seconds())
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                words = f"{name} did not make {what} in {error.timeout:g} s and was ended"
                raise WorkError(f"{words}: set {SECONDS_VARIABLE} to give it longer") from error
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def tool_seconds() -> float:
    """The most seconds that a tool may take; InputError for a variable that is no number of them."""
    text = os.environ.get(SECONDS_VARIABLE, "")
    try:
        seconds = float(text or SECONDS)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise InputError(f"{SECONDS_VARIABLE}={text}: must be a number of seconds")
    return seconds
