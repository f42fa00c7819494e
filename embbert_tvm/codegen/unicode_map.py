"""What a tokenizer's normalizer and word splitter make of every code point, asked of the `tokenizers` library itself.

Nothing here knows Unicode: the library's own tables, whatever their version, are read off its answers.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

# Kinds of character, in C KIND_*. ByteLevel tells numbers from letters, Whitespace does not.
SPACE, WORD, OTHER, NUMBER = range(4)

POINTS = 0x110000
_SURROGATES = range(0xD800, 0xE000)
# Planes that Unicode has assigned nothing in: what holds for a sample of one holds for all of it.
_EMPTY_PLANES = range(4, 14)
_SAMPLE = 97
_LINE = "|"  # between code points: no normalizer changes it, and nothing combines with it
_LOWEST_MARK, _HIGHEST_MARK = "\u0334", "\u0345"  # combining classes 1 and 240, the ends of the scale

# The classes that ByteLevel's pattern tells apart.
_BYTE_LEVEL_CLASSES = {WORD: r"\p{L}", NUMBER: r"\p{N}", SPACE: r"\s", OTHER: r"[^\s\p{L}\p{N}]"}


@dataclass(frozen=True)
class UnicodeMap:
    """outputs: the characters that become other than themselves, by code point; kinds: of every code point;
    classes: combining classes above 0, by code point."""

    outputs: Mapping[int, str]
    kinds: bytes
    classes: Mapping[int, int]


def unicode_map(tokenizer: Tokenizer, byte_level: bool, decomposes: bool) -> UnicodeMap:
    """The map of a tokenizer whose normalizer changes one character at a time (and orders marks if `decomposes`)."""
    document = json.loads(tokenizer.to_str())
    return _unicode_map(json.dumps(document["normalizer"]), byte_level, decomposes)


@functools.lru_cache(maxsize=8)
def _unicode_map(normalizer: str, byte_level: bool, decomposes: bool) -> UnicodeMap:
    blank = Tokenizer.from_str(json.dumps(_blank(json.loads(normalizer))))
    return UnicodeMap(
        {} if blank.normalizer is None else _outputs(blank.normalizer),
        _kinds(byte_level),
        _combining_classes() if decomposes else {},
    )


def _blank(normalizer: dict | None) -> dict:
    model = {"type": "BPE", "vocab": {}, "merges": []}
    return {"version": "1.0", "added_tokens": [], "normalizer": normalizer, "model": model}


@functools.cache
def _asked() -> tuple[int, ...]:
    """The code points that the library is asked about: all but surrogates, a sample of the empty planes."""
    sampled = (
        c for plane in _EMPTY_PLANES for c in (*range(plane << 16, (plane + 1) << 16, _SAMPLE), plane << 16 | 0xFFFF)
    )
    last = (plane << 16 | 0xFFFE for plane in _EMPTY_PLANES)
    low = (c for c in range(_EMPTY_PLANES[0] << 16) if c not in _SURROGATES)
    return (*low, *sorted({*sampled, *last}), *range((_EMPTY_PLANES[-1] + 1) << 16, POINTS))


def _outputs(normalizer: normalizers.Normalizer) -> dict[int, str]:
    asked = [c for c in _asked() if chr(c) != _LINE]
    found = normalizer.normalize_str(_LINE + _LINE.join(map(chr, asked)) + _LINE).split(_LINE)[1:-1]
    if len(found) != len(asked):
        raise AssertionError("a normalizer made of one character what it should not")
    changed = {c: text for c, text in zip(asked, found, strict=True) if text != chr(c)}
    empty = [c for c in asked if c >> 16 in _EMPTY_PLANES]
    if all(changed.get(c) == "" for c in empty):
        changed.update((c, "") for c in range(_EMPTY_PLANES[0] << 16, (_EMPTY_PLANES[-1] + 1) << 16))
    elif any(c in changed for c in empty):
        raise AssertionError("planes of Unicode that should be empty are not in this version of tokenizers")
    if (line := normalizer.normalize_str(_LINE)) != _LINE:
        changed[ord(_LINE)] = line
    return changed


def _kinds(byte_level: bool) -> bytes:
    kinds = np.full(POINTS, OTHER, np.uint8)
    text = "".join(map(chr, _asked()))
    if byte_level:
        for kind, pattern in _BYTE_LEVEL_CLASSES.items():
            if kind != OTHER:
                splitter = pre_tokenizers.Split(Regex(f"{pattern}+"), "removed")
                _mark(kinds, kind, _removed(splitter, text))
    else:
        splitter = pre_tokenizers.Whitespace()
        pieces = [span for _, span in splitter.pre_tokenize_str(text)]
        _mark(kinds, SPACE, _gaps(pieces, len(text)))
        words = (span for span in pieces if len(splitter.pre_tokenize_str(f"a{text[span[0]]}a")) == 1)
        _mark(kinds, WORD, words)
    return kinds.tobytes()


def _removed(splitter: pre_tokenizers.PreTokenizer, text: str) -> Iterable[tuple[int, int]]:
    return _gaps([span for _, span in splitter.pre_tokenize_str(text)], len(text))


def _gaps(spans: Sequence[tuple[int, int]], end: int) -> Iterable[tuple[int, int]]:
    edge = 0
    for start, stop in [*spans, (end, end)]:
        if start > edge:
            yield edge, start
        edge = stop


def _mark(kinds: np.ndarray, kind: int, spans: Iterable[tuple[int, int]]) -> None:
    asked = np.array(_asked())
    for start, stop in spans:
        kinds[asked[start:stop]] = kind


def _combining_classes() -> dict[int, int]:
    """Of the marks that NFD moves: a number each, in the order of their classes."""
    nfd, strip = normalizers.NFD(), normalizers.StripAccents()
    kept = set(strip.normalize_str("".join(map(chr, _asked()))))
    marks = [chr(c) for c in _asked() if chr(c) not in kept]

    def moves(first: str, second: str) -> bool:
        """Whether `second` goes before `first`."""
        plain = nfd.normalize_str(second) == second and nfd.normalize_str(first) == first
        return plain and nfd.normalize_str(first + second) == second + first != first + second

    moving = [m for m in marks if moves(_HIGHEST_MARK, m) or moves(m, _LOWEST_MARK)]
    by_class: list[list[str]] = []
    for mark in [*moving, *(m for m in (_LOWEST_MARK, _HIGHEST_MARK) if m not in moving)]:
        low, high = 0, len(by_class)
        while low < high:
            middle = (low + high) // 2
            other = by_class[middle][0]
            if moves(mark, other):
                low = middle + 1
            elif moves(other, mark):
                high = middle
            else:
                low = high = middle
                by_class[middle].append(mark)
                break
        else:
            by_class.insert(low, [mark])
    return {ord(m): number for number, group in enumerate(by_class, 1) for m in group}
