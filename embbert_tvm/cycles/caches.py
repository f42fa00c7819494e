"""Caches between a core and its memory: how many lines an inference fetches, counted by a plugin of QEMU."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embbert_tvm.cycles.image import Code
from embbert_tvm.errors import InputError
from embbert_tvm.target import Board

_PART = re.compile(r"(\d+)k/(\d+)")


@dataclass(frozen=True)
class Fills:
    """Lines fetched: of instructions, of data in flash, of data in RAM."""

    code: int
    flash: int
    ram: int

    def since(self, before: Fills) -> Fills:
        return Fills(self.code - before.code, self.flash - before.flash, self.ram - before.ram)


@dataclass(frozen=True)
class Cache:
    bytes: int
    ways: int

    def sets(self, line: int) -> int:
        return self.bytes // self.ways // line


@dataclass(frozen=True)
class Caches:
    """Caches of instructions and data, with lines of `line` bytes: least recently used goes first, stores fetch too.
    data: None where the first serves both. only_flash: whether data in RAM needs no line.
    prefetch: whether the line of code after the one that runs is on its way already."""

    code: Cache
    data: Cache | None
    line: int = 32
    only_flash: bool = False
    prefetch: bool = False

    def option(self, plugin: Path, board: Board, code: Code, to: Path) -> str:
        """Argument of QEMU's -plugin that counts in a file what the functions of `code` fetch."""
        flash = board.region("flash")
        words = [f"file={plugin}", f"to={to}", f"line={self.line}"]
        words += [f"code={self.code.sets(self.line)}:{self.code.ways}"]
        words += ["data=0:0" if self.data is None else f"data={self.data.sets(self.line)}:{self.data.ways}"]
        words += [f"only_flash={int(self.only_flash)}", f"prefetch={int(self.prefetch)}"]
        words += [f"flash={flash.origin:#x}:{flash.origin + flash.bytes:#x}"]
        words += [f"run={start:#x}:{end:#x}" for start, end, _ in code.functions]
        return ",".join(words)


def parse_caches(text: str) -> Caches:
    """CODE,DATA, each as 16k/4: its size and its ways; InputError for anything else."""
    parts = [_PART.fullmatch(part.strip().lower()) for part in text.split(",")]
    if len(parts) != 2 or not all(parts):
        raise InputError(f"--caches {text}: must be the instructions' and the data's, as in 16k/2,16k/4")
    found = [Cache(int(part[1]) * 1024, int(part[2])) for part in parts if part]
    for cache in found:
        sets = cache.ways and cache.sets(32)
        if not 1 <= cache.ways <= 8 or not 1 <= sets <= 4096 or sets & (sets - 1):
            raise InputError(f"--caches {text}: {cache.bytes // 1024}k/{cache.ways} has no power of two of sets")
    return Caches(*found)


def caches_of(board: Board) -> Caches | None:
    """Those of a board's file; None where it names none."""
    said = board.caches
    if said is None:
        return None
    data = Cache(said.data_bytes, said.data_ways) if said.data_bytes else None
    code = Cache(said.code_bytes, said.code_ways)
    return Caches(code, data, said.line_bytes, not said.ram_cycles, said.prefetch)


def waiting(board: Board, fills: Fills | None) -> int:
    """Cycles that a board's core waits for lines."""
    if board.caches is None or fills is None:
        return 0
    return board.caches.flash_cycles * (fills.code + fills.flash) + board.caches.ram_cycles * fills.ram


def read_fills(path: Path) -> Fills:
    """What was fetched so far."""
    return Fills(*np.fromfile(path, "<u8", 3).tolist())
