"""Calling a GCC: where it is, what it says, and which package brings it where it is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.target import Cpu

_MISSING_LIBRARY = re.compile(r"\w+\.specs: No such file|<?(\w+)\.h>?: No such file|cannot find (-l|crt)\w+")
_OVERFLOW = re.compile(r"region [`'](\w+)' overflowed by (\d+) bytes")


def find_tool(cpu: Cpu, tool: str) -> str:
    """The path of `gcc`, `size`, ... of a CPU's toolchain; InputError says which packages bring it."""
    name = cpu.toolchain.prefix + tool
    path = shutil.which(name)
    if path is None:
        packages = " ".join(cpu.toolchain.packages)
        raise InputError(f"{name} is not installed, which {cpu.name} needs: `apt-get install {packages}`, or make demo")
    return path


def call(cpu: Cpu, tool: str, arguments: Sequence[str | Path], what: str) -> str:
    """Run a tool and return its stdout; WorkError with its first error line where it fails at `what`."""
    done = subprocess.run(
        [find_tool(cpu, tool), *map(str, arguments)], capture_output=True, text=True, errors="replace"
    )
    if done.returncode == 0:
        return done.stdout
    if overflow := _OVERFLOW.search(done.stderr):
        raise WorkError(f"{what} does not fit: {overflow[1]} is {overflow[2]} bytes too small")
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "undefined reference" in line or "error" in line]
    first = next(iter(telling or lines), f"status {done.returncode}")
    if _MISSING_LIBRARY.search(done.stderr):
        packages = " ".join(cpu.toolchain.packages)
        raise InputError(f"the C library for {cpu.name} is not installed ({first}): `apt-get install {packages}`")
    raise WorkError(f"{cpu.toolchain.prefix}{tool} could not make {what}: {first}")
