"""Places in one arena for blocks that live at different times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

ALIGN = 16


@dataclass(frozen=True)
class Block:
    """bytes of memory that must keep their content from step `first` to step `last`, both included."""

    name: str
    bytes: int
    first: int
    last: int
    offset: int = -1

    def meets(self, other: Block) -> bool:
        """Whether both live at some step."""
        return self.first <= other.last and other.first <= self.last

    @property
    def end(self) -> int:
        return self.offset + self.bytes


_ORDERS: tuple[Callable[[Block], tuple], ...] = (
    lambda b: (-b.bytes, b.first),
    lambda b: (-b.bytes * (b.last - b.first + 1), b.first),
    lambda b: (b.first, -b.bytes),
    lambda b: (-(b.last - b.first), -b.bytes),
)


def plan(blocks: Sequence[Block], align: int = ALIGN) -> tuple[list[Block], int]:
    """The blocks with their offsets, in the order given, and the arena's size.

    Several orders of first fit are tried and the smallest result kept. No two blocks that meet share a byte.
    """
    best: tuple[dict[str, Block], int] | None = None
    for order in _ORDERS:
        placed: list[Block] = []
        for block in sorted(blocks, key=lambda b: (*order(b), b.name)):
            placed.append(replace(block, offset=_first_fit(block, placed, align)))
        peak = _aligned(max((b.end for b in placed), default=0), align)
        if best is None or peak < best[1]:
            best = {b.name: b for b in placed}, peak
    found, peak = best
    return [found[b.name] for b in blocks], peak


def lower_bound(blocks: Sequence[Block], align: int = ALIGN) -> int:
    """No plan is smaller: the most bytes that live at one step."""
    steps = {b.first for b in blocks}
    return max((sum(_aligned(b.bytes, align) for b in blocks if b.first <= s <= b.last) for s in steps), default=0)


def _first_fit(block: Block, placed: list[Block], align: int) -> int:
    offset = 0
    for other in sorted((p for p in placed if p.meets(block)), key=lambda p: p.offset):
        if offset + block.bytes <= other.offset:
            break
        offset = max(offset, _aligned(other.end, align))
    return offset


def _aligned(size: int, align: int) -> int:
    return -(-size // align) * align
