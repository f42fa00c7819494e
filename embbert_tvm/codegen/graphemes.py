"""SentencePiece's precompiled map as the library applies it: its entries, and where grapheme clusters end.

The library's own segmentation is read off its answers to maps made for the question.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import struct
import unicodedata
from dataclasses import dataclass

import numpy as np

from embbert_tvm.codegen.unicode_map import (
    POINTS,
    REMOVED,
    SEVERAL,
    Outputs,
    Sequences,
    asked,
    library_normalizer,
    points_of,
    text_of,
)
from embbert_tvm.errors import InputError

# Flags of a code point, in C GRAPHEME_*.
EXTENDS, PREPENDS, CONTROL, PICTOGRAPH, KEY = 1, 2, 4, 8, 16
_MOST_BYTES = 5  # of a cluster that the library looks up whole
_JOINER = 0x200D


@dataclass(frozen=True)
class GraphemeMap:
    """What the map makes of code points, of pairs of them, and the flags of each, uint8 (POINTS,)."""

    one: Outputs
    pairs: tuple[tuple[int, int, tuple[int, ...]], ...]
    flags: np.ndarray


def read(charsmap: bytes) -> GraphemeMap:
    """The map of a `precompiled_charsmap`; InputError where it is malformed or has what the device cannot do."""
    entries = _entries(charsmap)
    flags = _flags()
    one = np.arange(POINTS, dtype=np.int32)
    several, pairs = {}, []
    flags = flags.copy()
    for key, made in sorted(entries.items()):
        points = tuple(map(ord, made))
        first = ord(key[0])
        if len(key) == 1:
            flags[first] |= KEY
            one[first] = points[0] if len(points) == 1 else SEVERAL if points else REMOVED
            if len(points) > 1:
                several[first] = points
        elif key[0] not in entries and _stays_together(key, flags):
            if len(key) > 2 and key[:2] not in entries:
                raise InputError(f"the normalizer Precompiled with an entry for {key!r} is not supported on the device")
            if len(key) == 2:
                pairs.append((first, ord(key[1]), points))
    return GraphemeMap(Outputs(one, Sequences.of(several)), tuple(pairs), flags)


def _stays_together(key: str, flags: np.ndarray) -> bool:
    if key == "\r\n":
        return True
    return all(flags[ord(b)] & EXTENDS or flags[ord(a)] & PREPENDS for a, b in itertools.pairwise(key))


def _entries(charsmap: bytes) -> dict[str, str]:
    """The keys of at most 5 bytes with what they become: a trie as a double array, then texts that end with 0."""
    malformed = InputError("the normalizer Precompiled has a precompiled_charsmap that is malformed")
    if len(charsmap) < 4:
        raise malformed
    (size,) = struct.unpack_from("<I", charsmap)
    if size % 4 or size + 4 > len(charsmap):
        raise malformed
    units = np.frombuffer(charsmap, "<u4", size // 4, 4).astype(np.int64)
    made = charsmap[4 + size :]
    offset = (units >> 10) << ((units & 512) >> 6)
    label = units & (1 << 31 | 0xFF)
    found: dict[str, str] = {}
    places, keys = np.array([offset[0]]), [b""]
    for _ in range(_MOST_BYTES):
        children = places[:, None] ^ np.arange(1, 256)
        fits = children < len(units)
        fits &= label[np.where(fits, children, 0)] == np.arange(1, 256)
        rows, bytes_ = np.nonzero(fits)
        places = children[rows, bytes_]
        keys = [keys[row] + bytes([byte + 1]) for row, byte in zip(rows, bytes_, strict=True)]
        leaves = units[places] >> 8 & 1
        places = places ^ offset[places]
        for key, leaf, place in zip(keys, leaves, places.tolist(), strict=True):
            if leaf:
                start = int(units[place] & 0x7FFFFFFF)
                text = made[start : made.index(b"\0", start)] if b"\0" in made[start:] else made[start:]
                found[key.decode("utf-8")] = text.decode("utf-8")
    return found


def _probe(*keys: str) -> str:
    """A Precompiled normalizer, in which each key, of one or two bytes, becomes Z."""
    units = np.zeros(0x2000, np.uint32)
    taken = 0x800
    units[0] = 0x100 << 10
    for key in keys:
        place = 0x100
        coded = key.encode()
        for number, byte in enumerate(coded):
            place ^= byte
            taken += 0x100
            last = number == len(coded) - 1
            units[place] = (place ^ taken) << 10 | (1 << 8 if last else 0) | byte
            place = taken
    charsmap = struct.pack("<I", units.nbytes) + units.astype("<u4").tobytes() + b"Z\0"
    return json.dumps({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()})


@functools.cache
def _flags() -> np.ndarray:
    """The flags of code points but KEY, read off what becomes of them beside others."""
    flags = np.zeros(POINTS, np.uint8)
    points = asked()[asked() != ord("|")]
    for c in points.tolist():
        category = unicodedata.category(chr(c))
        if category in ("Cc", "Cf", "Zl", "Zp") or (category == "Cn" and 0xE0000 <= c < 0xE1000):
            flags[c] = CONTROL
    for flag, before, behind in (
        (EXTENDS, "a", ""),
        (PREPENDS, "", "a\u0301"),
        (PICTOGRAPH, "\u00a9\u200d", ""),
    ):
        normalizer = library_normalizer((_probe("a", "\u00a9"),))
        width = len(before) + len(behind) + 2
        text = np.empty((len(points), width), np.uint32)
        text[:, : len(before)] = list(map(ord, before))
        text[:, len(before)] = points
        text[:, len(before) + 1 : -1] = list(map(ord, behind))
        text[:, -1] = ord("|")
        found = points_of(normalizer.normalize_str(text_of(text.reshape(-1))))
        edges = np.concatenate([[-1], np.flatnonzero(found == ord("|"))])
        lengths = np.diff(edges) - 1
        # What extends goes with the Z; a mark behind a prepended character stays, as does a joiner before a pictograph.
        holds = lengths == (1 if flag == EXTENDS else width - 1)
        if flag != EXTENDS:
            holds &= flags[points] & EXTENDS == 0
        flags[points[holds]] = flags[points[holds]] & ~np.uint8(CONTROL) | flag
    flags[_JOINER] |= EXTENDS
    return flags
