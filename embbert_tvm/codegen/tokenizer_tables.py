"""The tables of the tokenizer on the device: code points to units, pairs of tokens to merges (docs/tokenizer.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.codegen.tokenizer_scheme import Scheme
from embbert_tvm.codegen.unicode_map import POINTS, SPACE, UnicodeMap, unicode_map
from embbert_tvm.errors import WorkError

NONE = 0xFFFF  # no token, no merge
_HANGUL, _SYLLABLES = 0xAC00, 11172
_CLASS_SHIFT, _KIND_SHIFT = 24, 22


@dataclass(frozen=True)
class CharacterTables:
    """The actions of code points, see firmware/tokenizer/embbert_bpe.h.

    low[middle[top[...]]] is an action: the number of a unit, or, less the units, of a sequence, which is
    sequences[at[n]:at[n + 1]]. hangul: syllables are left to arithmetic. reorders: some units have a class.
    """

    units: tuple[int, ...]
    sequences: tuple[int, ...]
    at: tuple[int, ...]
    top: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    middle_bits: int
    low_bits: int
    hangul: bool
    reorders: bool


@dataclass(frozen=True)
class PairTables:
    """A perfect hash: pair_at[slot] is the rank of the only merge that can be of a pair that falls there."""

    shift: np.ndarray  # uint8 (buckets,)
    at: np.ndarray  # uint16 (slots,)
    bucket_shift: int


def character_tables(scheme: Scheme) -> CharacterTables:
    """Every code point's action, the same for the same tokenizer and library."""
    found = unicode_map(scheme.tokenizer, scheme.byte_level, scheme.decomposes)
    reorders = any(c in found.classes for c in _appearing(found))
    if not scheme.byte_level and reorders:
        # Order matters only between marks that do not all end up the same.
        reorders = any(chr(c) in scheme.characters for c in found.classes)
    kinds = np.frombuffer(found.kinds, np.uint8).astype(np.int64)
    missing = NONE if scheme.unknown is None else scheme.unknown

    def unit(c: int, relative_to: int | None) -> int:
        kind, combining = found.kinds[c], found.classes.get(c, 0) if reorders else 0
        if scheme.byte_level:
            value = c if relative_to is None else c - relative_to + POINTS
        else:
            value = 0 if kind == SPACE else scheme.characters.get(chr(c), missing)
        return combining << _CLASS_SHIFT | kind << _KIND_SHIFT | value

    # What most code points are: themselves, with no token of their own and no class.
    entries = kinds << _KIND_SHIFT | (POINTS if scheme.byte_level else np.where(kinds == SPACE, 0, missing))
    for c in {*map(ord, scheme.characters), *(found.classes if reorders else ())}:
        entries[c] = unit(c, c)
    hangul = _hangul(found)
    sequences: dict[tuple[int, ...], int] = {}
    for c, text in sorted(found.outputs.items()):
        if not text:
            continue  # below, all at once
        if len(text) == 1:
            entries[c] = unit(ord(text), c)
        elif not (hangul and _HANGUL <= c < _HANGUL + _SYLLABLES):
            key = tuple(unit(ord(part), None) for part in text)
            entries[c] = -1 - sequences.setdefault(key, len(sequences))
    removed = [c for c, text in found.outputs.items() if not text]
    if removed:
        entries[removed] = -1 - sequences.setdefault((), len(sequences))
    entries[0xD800:0xE000] = entries[0]  # no text has them; syllables are not looked up
    if hangul:
        entries[_HANGUL : _HANGUL + _SYLLABLES] = entries[0]
    single = entries >= 0
    units, numbers = np.unique(entries[single], return_inverse=True)
    actions = np.empty(POINTS, np.int32)
    actions[single] = numbers.reshape(-1)
    actions[~single] = len(units) - 1 - entries[~single]
    top, middle, low, middle_bits, low_bits = _trie(actions)
    lengths = [len(key) for key in sequences]
    return CharacterTables(
        tuple(units.tolist()),
        tuple(entry for key in sequences for entry in key),
        tuple(int(n) for n in np.cumsum([0, *lengths])),
        top,
        middle,
        low,
        middle_bits,
        low_bits,
        hangul,
        reorders,
    )


def _appearing(found: UnicodeMap) -> set[int]:
    """The code points that a normalized text may hold."""
    made = {ord(c) for text in found.outputs.values() for c in text}
    return made | {c for c in found.classes if c not in found.outputs}


def _hangul(found: UnicodeMap) -> bool:
    """Whether every syllable becomes what its letters do, by the arithmetic of Unicode 3.12."""
    if _HANGUL not in found.outputs:
        return False
    for index in range(_SYLLABLES):
        letters = [0x1100 + index // 588, 0x1161 + index % 588 // 28]
        if index % 28:
            letters.append(0x11A7 + index % 28)
        if found.outputs.get(_HANGUL + index) != "".join(found.outputs.get(c, chr(c)) for c in letters):
            return False
    return True


def _trie(actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """Three levels of blocks, equal blocks once, of those sizes that take the fewest bytes."""
    best = None
    for low_bits in range(4, 7):
        low, of_low = _blocks(smallest(actions), 1 << low_bits)
        for middle_bits in range(3, 8):
            middle, top = _blocks(smallest(of_low), 1 << middle_bits)
            size = low.nbytes + middle.nbytes + smallest(top).nbytes
            if best is None or size < best[0]:
                best = (size, smallest(top), middle, low, middle_bits, low_bits)
    assert best is not None
    return best[1:]


def _blocks(values: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct blocks of so many values, in the order in which they come, and the number of each block."""
    values = np.concatenate([values, np.full(-len(values) % length, values[-1])])
    found: dict[bytes, int] = {}
    numbers = [found.setdefault(block.tobytes(), len(found)) for block in values.reshape(-1, length)]
    return np.frombuffer(b"".join(found), values.dtype), np.array(numbers)


def smallest(values: np.ndarray) -> np.ndarray:
    """The same values in the smallest unsigned type that holds them."""
    highest = int(values.max(initial=0))
    return values.astype(np.uint8 if highest < 256 else np.uint16 if highest < 65536 else np.uint32)


def pair_tables(pairs: Sequence[tuple[int, int]]) -> PairTables:
    """A table without collisions, found by hashing and displacing, the fullest buckets first."""
    key = np.array([left << 16 | right for left, right in pairs], np.uint64)
    first = key * 0x9E3779B1 & 0xFFFFFFFF
    first ^= first >> np.uint64(15)
    bits = max(1, int(np.ceil(np.log2(max(len(pairs), 8) / 4))))
    for slots in _slots(len(pairs)):
        found = _displace(first, 32 - bits, 1 << bits, slots)
        if found is not None:
            return PairTables(*found, 32 - bits)
    raise WorkError("no perfect hash of the tokenizer's merges was found: report the tokenizer.json")


def _slots(count: int) -> list[int]:
    return [min(65535, max(4, int(count * (1 + extra / 64)))) for extra in range(4, 68, 4)]


def _displace(first: np.ndarray, bucket_shift: int, buckets: int, slots: int) -> tuple[np.ndarray, np.ndarray] | None:
    members: list[list[int]] = [[] for _ in range(buckets)]
    for rank, hashed in enumerate(first.tolist()):
        members[hashed >> bucket_shift].append(rank)
    shift, at = np.zeros(buckets, np.uint8), np.full(slots, NONE, np.uint16)
    free = bytearray(b"\1") * slots
    hashes = first.tolist()
    for bucket in sorted(range(buckets), key=lambda b: (-len(members[b]), b)):
        ranks = members[bucket]
        for tried in range(256):
            places = [_slot(hashes[rank], tried, slots) for rank in ranks]
            if len(set(places)) == len(places) and all(free[place] for place in places):
                break
        else:
            return None
        shift[bucket] = tried
        for rank, place in zip(ranks, places, strict=True):
            at[place], free[place] = rank, 0
    return shift, at


def _slot(hashed: int, shift: int, slots: int) -> int:
    moved = hashed + shift * 0x85EBCA6B & 0xFFFFFFFF
    moved ^= moved >> 13
    return ((moved * 0xC2B2AE35 & 0xFFFFFFFF) >> 16) * slots >> 16


def settles(merges: Sequence[tuple[int, int, int]]) -> bool:
    """Whether each token is made by one merge, which comes before the merges that use it."""
    made: dict[int, int] = {}
    for rank, (_, _, result) in enumerate(merges):
        if made.setdefault(result, rank) != rank:
            return False
    return all(made.get(part, -1) < rank for rank, merge in enumerate(merges) for part in merge[:2])


def byte_tokens(scheme: Scheme) -> list[int]:
    """The token of each byte under ByteLevel, which writes bytes as visible characters."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    written = {b: chr(b) for b in plain} | {b: chr(256 + n) for n, b in enumerate(others)}
    unknown = NONE if scheme.unknown is None else scheme.unknown
    return [scheme.characters.get(written[b], unknown) for b in range(256)]
