"""The tables of the tokenizer on the device: code points to units, pairs of tokens to merges (docs/tokenizer.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.codegen.unicode_map import (
    HANGUL,
    POINTS,
    REMOVED,
    SEVERAL,
    SYLLABLES,
    Outputs,
    Sequences,
    asked_and_others,
    for_all,
)
from embbert_tvm.errors import WorkError

NONE = 0xFFFF  # no merge, no symbol
WIDE_NONE = 0xFFFFFFFF
RAW = 1 << 21  # a unit's value is a code point
POINT_MASK = RAW - 1
KIND_SHIFT = 22  # of a unit: above its value


@dataclass(frozen=True)
class CharacterTable:
    """What becomes of code points, see firmware/tokenizer/embbert_unicode.h.

    low[middle[top[...]]] is an entry: the number of a unit, or, less the units, of a sequence, which is
    sequences[at[n]:at[n + 1]]. A unit that is RAW holds a code point relative to the one looked up. hangul: syllables
    are left to arithmetic. direct: where there are more than 256 entries, what low holds is a place in this list, or
    LISTED: then the entry is that of the code point's place in `listed`.
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
    direct: tuple[int, ...] = ()
    listed: tuple[tuple[int, int], ...] = ()


LISTED = 255
_LOW_BITS = (4, 5, 6)
_MIDDLE_BITS = tuple(range(3, 8))


@dataclass(frozen=True)
class PairTables:
    """A perfect hash: pair_at[slot] is the rank of the only merge that can be of a pair that falls there."""

    shift: np.ndarray  # uint8 (buckets,)
    at: np.ndarray  # uint16 or uint32 (slots,)
    bucket_shift: int


def character_table(found: Outputs, unit_of: np.ndarray) -> CharacterTable:
    """The table of what a normalizer makes of code points; the same input gives the same table.

    Args:
        found: what becomes of each code point.
        unit_of: int32 (POINTS,), the unit of each code point that may come out of it, RAW ones with the code point.
    """
    rising = np.arange(POINTS, dtype=np.int32) if unit_of[-1] & RAW else 0
    points = asked_and_others(unit_of - rising)
    one = found.one[points]
    entries = unit_of[np.maximum(one, 0)]
    raw = entries & RAW != 0
    entries[raw] = entries[raw] & ~POINT_MASK | (entries - points)[raw] & POINT_MASK
    hangul = _is_hangul(found)
    several = found.several
    if hangul:
        several = several.where((several.points < HANGUL) | (several.points >= HANGUL + SYLLABLES))
    of_sequence, sequences = _numbered(several, unit_of)
    entries[np.searchsorted(points, several.points)] = -1 - of_sequence
    removed = one == REMOVED
    if removed.any():
        entries[removed] = -1 - len(sequences)
        sequences.append(())
    if hangul:  # syllables are not looked up
        entries[slice(*np.searchsorted(points, [HANGUL, HANGUL + SYLLABLES]))] = entries[1]
    single = entries >= 0
    units = _distinct(entries[single])
    numbers = np.where(single, np.searchsorted(units, entries), len(units) - 1 - entries)
    coded, direct, listed = _listed(for_all(points, numbers))
    return CharacterTable(
        tuple(units.tolist()),
        tuple(unit for each in sequences for unit in each),
        tuple(int(n) for n in np.cumsum([0, *map(len, sequences)])),
        *trie(coded),
        hangul,
        direct,
        listed,
    )


def _distinct(values: np.ndarray) -> np.ndarray:
    """The different values, sorted. np.unique imports numpy.ma to see that nothing is masked, which takes longer."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def _listed(entries: np.ndarray) -> tuple[np.ndarray, tuple[int, ...], tuple[tuple[int, int], ...]]:
    """(places in `direct`, `direct`, `listed`): entries of few code points that are not ASCII are listed."""
    counts = np.bincount(entries)
    found = np.flatnonzero(counts)
    if len(found) <= 256:
        return entries, (), ()
    beyond_ascii = np.ones(len(counts), bool)
    beyond_ascii[entries[:0x80]] = False
    direct = found[np.lexsort((found, -counts[found], beyond_ascii[found]))[:LISTED]]
    places = np.full(len(counts), LISTED, np.uint8)
    places[direct] = np.arange(len(direct))
    coded = places[entries]
    points = np.flatnonzero(coded == LISTED)
    return coded, tuple(direct.tolist()), tuple(zip(points.tolist(), entries[points].tolist(), strict=True))


def _numbered(several: Sequences, unit_of: np.ndarray) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """(the number of each one's sequence of units, the different sequences as they first come)."""
    units, starts, lengths = unit_of[several.made], several.at[:-1], several.lengths
    codes = np.zeros(len(lengths), np.int64)  # the same for the same beginning
    for place in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > place)
        begun = codes[longer] << 32 | units[starts[longer] + place]
        codes[longer] = np.searchsorted(_distinct(begun), begun)
    whole = lengths << 32 | codes
    different = _distinct(whole)
    code, first = np.searchsorted(different, whole), np.empty(len(different), np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    order = np.argsort(first)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    places = [(starts[at], starts[at] + lengths[at]) for at in first[order]]
    return number[code], [tuple(units[start:end].tolist()) for start, end in places]


def _is_hangul(found: Outputs) -> bool:
    """Whether every syllable becomes what its letters do, by the arithmetic of Unicode 3.12."""
    if (found.one[HANGUL : HANGUL + SYLLABLES] != SEVERAL).any():
        return False
    leads, vowels, tails = (
        [found.of(first + index) if first + index >= least else () for index in range(count)]
        for first, least, count in ((0x1100, 0, 19), (0x1161, 0, 21), (0x11A7, 0x11A8, 28))
    )
    letters = [lead + vowel + tail for lead in leads for vowel in vowels for tail in tails]
    points = found.several.points
    syllables = found.several.where((points >= HANGUL) & (points < HANGUL + SYLLABLES))
    lengths = [len(each) for each in letters]
    return syllables.lengths.tolist() == lengths and syllables.made.tolist() == [c for each in letters for c in each]


def trie(entries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """(top, middle, low, middle bits, low bits): three levels of blocks, equal ones once, of the smallest sizes."""
    best = None
    # Small blocks are looked for in the different ones among the largest.
    large, of_large = _blocks(smallest(entries), 1 << _LOW_BITS[-1])
    for low_bits in _LOW_BITS:
        low, inside = _blocks(large, 1 << low_bits)
        of_low = inside.reshape(-1, 1 << _LOW_BITS[-1] - low_bits)[of_large].reshape(-1)
        large_middle, of_large_middle = _blocks(smallest(of_low), 1 << _MIDDLE_BITS[-1])
        for middle_bits in _MIDDLE_BITS:
            middle, inside = _blocks(large_middle, 1 << middle_bits)
            top = inside.reshape(-1, 1 << _MIDDLE_BITS[-1] - middle_bits)[of_large_middle].reshape(-1)
            size = low.nbytes + middle.nbytes + smallest(top).nbytes
            if best is None or size < best[0]:
                best = (size, smallest(top), middle, low, middle_bits, low_bits)
    assert best is not None
    return best[1:]


def _blocks(values: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """(the different blocks one after the other, the number of each)."""
    values = np.pad(values, (0, -len(values) % length), mode="edge")
    content, size = values.tobytes(), length * values.itemsize
    seen: dict[bytes, int] = {}
    numbers = [seen.setdefault(content[at : at + size], len(seen)) for at in range(0, len(content), size)]
    return np.frombuffer(b"".join(seen), values.dtype), np.array(numbers)


def smallest(values: np.ndarray) -> np.ndarray:
    """The values in the smallest unsigned type that holds them."""
    highest = values.max(initial=0)
    return values.astype(np.uint8 if highest < 256 else np.uint16 if highest < 65536 else np.uint32)


def pair_tables(pairs: Sequence[tuple[int, int]], wide: bool = False) -> PairTables:
    """A table without collisions, found by hashing and displacing, the fullest buckets first.

    wide: ids or ranks are above 16 bits.
    """
    left, right = (np.array([pair[n] for pair in pairs], np.uint64) for n in (0, 1))
    key = left * 0x85EBCA77 + right & 0xFFFFFFFF if wide else left << np.uint64(16) | right
    first = key * 0x9E3779B1 & 0xFFFFFFFF
    first ^= first >> np.uint64(15)
    second = (first ^ right * 0xC2B2AE3D) & 0xFFFFFFFF if wide else first
    bits = max(1, int(np.ceil(np.log2(max(len(pairs), 8) / 4))))
    for slots in _slots(len(pairs), wide):
        found = _displace(first, second, 32 - bits, 1 << bits, slots, wide)
        if found is not None:
            return PairTables(*found, 32 - bits)
    raise WorkError("no perfect hash of the tokenizer's merges was found: report the tokenizer.json")


def _slots(count: int, wide: bool) -> list[int]:
    most = 1 << 24 if wide else 65535
    return [min(most, max(4, int(count * (1 + extra / 64)))) for extra in range(16, 68, 4)]


def _displace(
    first: np.ndarray, second: np.ndarray, bucket_shift: int, buckets: int, slots: int, wide: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    none, kind = (WIDE_NONE, np.uint32) if wide else (NONE, np.uint16)
    shift, at = np.zeros(buckets, np.uint8), np.full(slots, none, kind)
    free = np.ones(slots, bool)
    of_bucket = (first >> np.uint64(bucket_shift)).astype(np.int64)
    counts = np.bincount(of_bucket, minlength=buckets)
    ranks = np.argsort(of_bucket, kind="stable")
    hashed = second[ranks, None]
    near = _slot(hashed, _SHIFTS[:16], slots, wide)  # one of the first shifts mostly fits
    ends = np.cumsum(counts)
    for bucket in np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist():
        keys = slice(ends[bucket] - counts[bucket], ends[bucket])
        tried = _first_fit(near[keys], free) or _first_fit(_slot(hashed[keys], _SHIFTS, slots, wide), free)
        if tried is None:
            return None
        shift[bucket], places = tried
        at[places], free[places] = ranks[keys], False
    return shift, at


def _first_fit(places: np.ndarray, free: np.ndarray) -> tuple[int, list[int]] | None:
    """The first of the shifts that sends a bucket's keys to free slots, each to its own, and those slots.

    places: the slot of each key at each shift.
    """
    for shift in np.logical_and.reduce(free[places], axis=0).nonzero()[0].tolist():
        found: list[int] = places[:, shift].tolist()
        if len(set(found)) == len(found):
            return shift, found
    return None


_SHIFTS = np.arange(256, dtype=np.uint64)


def _slot(hashed: np.ndarray, shift: np.ndarray, slots: int, wide: bool) -> np.ndarray:
    """The slot of each hash at each shift."""
    moved = hashed + shift * 0x85EBCA6B & 0xFFFFFFFF
    moved ^= moved >> np.uint64(13)
    moved = moved * 0xC2B2AE35 & 0xFFFFFFFF
    if wide:
        return (moved * np.uint64(slots) >> np.uint64(32)).astype(np.int64)
    return ((moved >> np.uint64(16)) * np.uint64(slots) >> np.uint64(16)).astype(np.int64)


def merges_ordered(merges: Sequence[tuple[int, int, int]]) -> bool:
    """Whether each token is made by one merge, which comes before the merges that use it."""
    made: dict[int, int] = {}
    for rank, (_, _, result) in enumerate(merges):
        if made.setdefault(result, rank) != rank:
            return False
    return all(made.get(part, -1) < rank for rank, merge in enumerate(merges) for part in merge[:2])


BYTE_CHARACTERS = tuple(
    chr(b) if 0x21 <= b < 0x7F or 0xA1 <= b < 0xAD or b >= 0xAE else chr(256 + n)
    for b, n in zip(
        range(256),
        np.cumsum([0, *(not (0x21 <= b < 0x7F or 0xA1 <= b < 0xAD or b >= 0xAE) for b in range(255))]).tolist(),
        strict=True,
    )
)
"""How ByteLevel writes each byte: those that are visible as they are, the others from U+0100 on."""
