"""Whether a package fits a board: where its arena and the rest of its data lie, and how many bytes are missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from embbert_tvm.errors import WorkError
from embbert_tvm.target import Board, Region


@dataclass(frozen=True)
class Need:
    """Bytes: of flash, of the arena, which lies in one region, and of the other data (stack and static), in another or
    the same; weights: those of flash that are the model's constants."""

    flash: int
    arena: int
    data: int
    weights: int = 0


@dataclass(frozen=True)
class Places:
    """The RAM region of stack and static data, and that of the arena."""

    data: Region
    arena: Region


def places(board: Board, arena: int, data: int) -> Places | None:
    """Where bytes of arena and of other data go: together in the first region that holds both, else apart in the first
    that hold each; None where there is no room."""
    ram = board.regions("ram")
    for region in ram:
        if arena + data <= region.bytes:
            return Places(region, region)
    for home in ram:
        for other in ram:
            if other != home and data <= home.bytes and arena <= other.bytes:
                return Places(home, other)
    return None


# What a region of flash keeps for code beside the weights: a model's, its tokenizer's tables and the server's.
_CODE_BYTES = 0x20000


def weights_region(board: Board, weights: int) -> Region:
    """Where bytes of weights go: with the code in the first flash region, or where that leaves too little room for it,
    in the first other one that holds them."""
    first, *others = board.regions("flash")
    if weights + _CODE_BYTES <= first.bytes:
        return first
    return next((region for region in others if weights <= region.bytes), first)


def missing(board: Board, need: Need) -> list[str]:
    """What is too small, and by how many bytes; nothing where all fits."""
    words = []
    flash = board.region("flash")
    apart = weights_region(board, need.weights) != flash
    beside = need.flash - need.weights if apart else need.flash
    if beside > flash.bytes:
        words.append(_too_small(flash, beside, "code" if apart else "code and weights"))
    if places(board, need.arena, need.data) is None:
        # The largest region beside which the stack finds another, or else shared with it.
        ram = board.regions("ram")
        roomy = max(ram, key=lambda region: region.bytes)
        apart = any(region != roomy and need.data <= region.bytes for region in ram)
        what = "the arena" if apart else "arena, stack and static data"
        words.append(_too_small(roomy, need.arena + (0 if apart else need.data), what))
    return words


def check_fit(board: Board, need: Need, max_length: int, need_at: Callable[[int], Need]) -> None:
    """WorkError, saying what is missing and what would fit, where a package that takes texts of `max_length` tokens
    does not fit; need_at: what it would need for another length, which grows with the length."""
    words = missing(board, need)
    if not words:
        return
    low, high = 0, max_length - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if not missing(board, need_at(middle)) else (low, middle - 1)
    advice = f"--max-length {low} is the longest that fits" if low else _SMALLER
    raise WorkError(f"does not fit {board.name}: {'; '.join(words)}; {advice}")


_SMALLER = "no --max-length fits: ask for weights of fewer bits (--precision int4), or take a smaller model"


def _too_small(region: Region, need: int, what: str) -> str:
    return (
        f"{region.name} ({region.bytes:,} bytes) is {need - region.bytes:,} bytes too small for {what} ({need:,} bytes)"
    )
