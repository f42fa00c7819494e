"""How often QEMU ran each block of instructions: a plugin, compiled where it is needed, and the file that it fills."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from embbert_tvm.cycles.image import BasicBlock, Code
from embbert_tvm.device.toolchain import call, run_tool
from embbert_tvm.target import load_cpu

_HERE = Path(__file__).parent
_BLOCKS = 2**16  # that an image may have

# What ends a block by itself: branches, returns, and calls of the debugger.
_BRANCH = re.compile(
    r"b(?!f|ic|kpt)[\w.]* |cbn?z |tb[bh] |pop .*pc|ldm\w* .*pc|ldr\w* pc|mov\w* pc|le |w?ls |bkpt|svc"
    r"|j(?:alr?|[rx])? |ret|callx?0 "
)

Counts = Counter[tuple[int, int]]  # by address and number of instructions


def plugin(name: str, program: str, folder: Path) -> Path:
    """NAME.c for this machine and this QEMU, compiled into the folder where it is not yet."""
    made = folder / f"{name}.so"
    if not made.is_file():
        said = run_tool([program, "--version"], program, "its version").stdout
        version = re.search(r"version (\d+)", said)
        # What is taken of the interface is the same in all its versions, of which QEMU 9 dropped the first.
        api = 1 if version is not None and int(version[1]) < 9 else 2
        flags = ["-std=c11", "-D_DEFAULT_SOURCE", "-O2", "-shared", "-fPIC"]
        defined = [f"-DQEMU_PLUGIN_VERSION={api}", f"-DBLOCKS={_BLOCKS}"]
        call(load_cpu("host"), "gcc", [*flags, *defined, _HERE / f"{name}.c", "-o", made], f"{name}.c")
    return made


def options(program: str, folder: Path, counts: Path) -> tuple[str, ...]:
    """Options of QEMU's command line that count blocks in a file."""
    return ("-plugin", f"file={plugin('blocks', program, folder)},to={counts}")


def read_counts(path: Path, code: Code) -> Counts:
    """How often the blocks of the functions that are weighed ran so far."""
    found: Counts = Counter()
    table = np.fromfile(path, "<u8").reshape(-1, 3)
    for first, count, times in table[: np.flatnonzero(table[:, 1] == 0)[0]].tolist():
        if code.function(first) is not None:
            found[first, count] += times
    return found


def joined(counts: Counts, code: Code) -> Counts:
    """Basic blocks from what QEMU translated at once, which ends at a page's end and at QEMU's own limit, and of which
    two may hold the same instructions: instructions in a row that ran equally often, up to a branch."""
    each: Counter[int] = Counter()
    for (first, count), times in counts.items():
        at = first
        for size, _ in code.block(first, count):
            each[at] += times
            at += size
    found: Counts = Counter()
    first, length, end = 0, 0, None
    for at, times in sorted(each.items()):
        if length and (at != end or times != each[first]):
            found[first, length], length = each[first], 0
        if not length:
            first = at
        ((size, text),) = code.block(at, 1)
        length, end = length + 1, None if _BRANCH.match(text) else at + size
    if length:
        found[first, length] = each[first]
    return found


def blocks_of(counts: Counts, code: Code) -> Counter[BasicBlock]:
    """The same by what the blocks hold."""
    found: Counter[BasicBlock] = Counter()
    for (first, count), times in counts.items():
        found[code.block(first, count)] += times
    return found
