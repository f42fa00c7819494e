"""The linker script of a board: its architecture's template (firmware/link), filled in from its memory regions."""

from __future__ import annotations

import re

from embbert_tvm.device.fit import Places, places, weights_region
from embbert_tvm.device.package import Package
from embbert_tvm.device.protocol import id_bytes
from embbert_tvm.escape import c_comment
from embbert_tvm.resources import firmware
from embbert_tvm.target import Board, load_cpu

ARENA_SECTION = ".bss.embbert_arena"
_KEY = re.compile(r"@([a-z_]+)@")

# Nothing clears it: the model writes what it reads.
_ARENA = "    .arena (NOLOAD) : {{ *({section}) }} > {region}\n"


def linker_script(board: Board, package: Package) -> str:
    """GNU ld's script: code in the first flash region and weights too where they leave it room, stack and data in the
    first of RAM that has room.

    Where no region holds both data and arena, what is in ARENA_SECTION lies in a region of its own.
    """
    data = board.stack_bytes + _server_bytes(package)
    return memory_script(board, package.arena_bytes, data, package.weights_bytes)


def memory_script(board: Board, arena: int, data: int, weights: int = 0) -> str:
    """The same for so many bytes of arena, of other data, the stack among them, and of weights."""
    regions = "".join(
        f"    {r.name} ({'rx' if r.kind == 'flash' else 'rwx'}) : ORIGIN = {r.origin:#010x}, LENGTH = {r.bytes:#x}\n"
        for r in board.memory
    )
    first = board.region("ram")
    where = places(board, arena, data) or Places(first, first)
    apart = where.arena != where.data
    values = {
        "name": board.name,
        "description": c_comment(board.description),
        "regions": regions,
        "flash": board.region("flash").name,
        "weights": weights_region(board, weights).name,
        "ram": where.data.name,
        "stack_bytes": str(board.stack_bytes),
        "arena": _ARENA.format(section=ARENA_SECTION, region=where.arena.name) if apart else "",
    }
    template = firmware("link", f"{load_cpu(board.cpu).arch}.ld").read_text(encoding="ascii")
    return _KEY.sub(lambda match: values[match[1]], template)


def _server_bytes(package: Package) -> int:
    """About what the protocol server keeps beside the arena: ids, a frame, logits, guards, the C library's own."""
    logits = package.logits_of(package.max_length)
    # what it says of each token, and of slots
    tokens = 16 * package.max_length * (package.of_tokens + any(head.of_tokens for head in package.more))
    return (4 + id_bytes(package.vocabulary) + 2) * package.max_length + tokens + 16 * logits + 512
