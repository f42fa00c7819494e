"""Where llvm-mca is, and with it llvm-objdump."""

from __future__ import annotations

import re
import shutil

from embbert_tvm.device.toolchain import run_tool
from embbert_tvm.errors import InputError


def find_mca() -> str:
    """llvm-mca 15 or later; InputError where there is none."""
    for path in filter(None, map(shutil.which, ["llvm-mca", *(f"llvm-mca-{v}" for v in range(30, 14, -1))])):
        said = run_tool([path, "--version"], "llvm-mca", "its version").stdout
        version = re.search(r"LLVM version (\d+)", said)
        if version and int(version[1]) >= 15:
            return path
    raise InputError("llvm-mca 15 or later is not installed: `apt-get install llvm-19`, or another of 15 and up")
