"""What the `tokenizers` library's normalizers and splitters make of every code point, asked of the library itself.

Nothing here knows Unicode: the library's own tables, whatever their version, are read off its answers.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from embbert_tvm.errors import WorkError

POINTS = 0x110000
SURROGATES = slice(0xD800, 0xE000)
HANGUL, SYLLABLES = 0xAC00, 11172
# Where Unicode has assigned nothing, or private use alone: what holds for a sample holds for all of it.
_ALIKE = (slice(0x36000, 0xE0000), slice(0xE1000, 0xF0000), slice(0xF0000, POINTS))
_SAMPLE = 997
_SEPARATORS = "|\x01\u2e31"  # between code points; the first that nothing else becomes, and that stays, is taken
_LOWEST_MARK, _HIGHEST_MARK = 0x334, 0x345  # combining classes 1 and 240, the ends of the scale

REMOVED, SEVERAL = -1, -2


@dataclass(frozen=True)
class Outputs:
    """What becomes of each code point.

    one: int32 (POINTS,), the code point that it becomes, REMOVED, or SEVERAL. several: those, by code point.
    """

    one: np.ndarray
    several: Mapping[int, tuple[int, ...]]

    def of(self, point: int) -> tuple[int, ...]:
        one = int(self.one[point])
        return self.several[point] if one == SEVERAL else () if one == REMOVED else (one,)


def identity() -> Outputs:
    return Outputs(np.arange(POINTS, dtype=np.int32), {})


@functools.cache
def asked() -> np.ndarray:
    """The code points that the library is asked about: all but surrogates, and a sample of those that are alike."""
    keep = np.ones(POINTS, bool)
    keep[SURROGATES] = False
    for part in _ALIKE:
        keep[part] = False
        keep[part.start : part.stop : _SAMPLE] = True
    for plane in range(POINTS >> 16):
        keep[plane << 16 | 0xFFFE : (plane + 1) << 16] = True  # no characters
    return np.flatnonzero(keep).astype(np.uint32)


def text_of(points: np.ndarray) -> str:
    return np.ascontiguousarray(points, "<u4").tobytes().decode("utf-32-le")


def points_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def library_normalizer(steps: tuple[str, ...]) -> normalizers.Normalizer:
    """The normalizers of a tokenizer.json, one after the other, as the library runs them."""
    whole = {"type": "Sequence", "normalizers": [json.loads(step) for step in steps]}
    model = {"type": "BPE", "vocab": {}, "merges": []}
    blank = {"version": "1.0", "added_tokens": [], "normalizer": whole, "model": model}
    return Tokenizer.from_str(json.dumps(blank)).normalizer


@functools.lru_cache(maxsize=16)
def outputs(steps: tuple[str, ...]) -> Outputs:
    """What normalizers make of each code point that stands alone."""
    normalizer = library_normalizer(steps)
    for separator in map(ord, _SEPARATORS):
        points = asked()[asked() != separator]
        text = np.full(2 * len(points) + 1, separator, np.uint32)
        text[1::2] = points
        found = points_of(normalizer.normalize_str(text_of(text)))
        edges = np.flatnonzero(found == separator)
        if len(edges) == len(points) + 1:
            break
    else:
        raise WorkError("a normalizer makes of a character what no table of characters can say")
    lengths = np.diff(edges) - 1
    one = np.arange(POINTS, dtype=np.int32)
    single = lengths == 1
    one[points[single]] = found[edges[:-1][single] + 1]
    one[points[lengths == 0]] = REMOVED
    one[points[lengths > 1]] = SEVERAL
    places = np.flatnonzero(lengths > 1)
    parts = zip(points[places].tolist(), (edges[places] + 1).tolist(), edges[places + 1].tolist(), strict=True)
    made = found.tolist()
    several = {point: tuple(made[start:end]) for point, start, end in parts}
    for part in _ALIKE:
        sample = asked()[(asked() >= part.start) & (asked() < part.stop) & (asked() & 0xFFFE != 0xFFFE)]
        if (one[sample] == REMOVED).all():
            kept = one[asked()]
            one[part] = REMOVED
            one[asked()] = kept
        elif (one[sample] != sample).any():
            raise WorkError("code points that should be alike are not in this version of tokenizers")
    return Outputs(one, several)


@functools.lru_cache(maxsize=64)
def members(name: str) -> np.ndarray:
    """Whether each code point is of a set, bool (POINTS,).

    name: "white space" (as WhitespaceSplit), "punctuation", "numeric", "space" and "word" (as Whitespace), or a regular
    expression of one character as the library's Split takes it.
    """
    simple = re.fullmatch(r"\\?([^a-zA-Z0-9\\]|(?<!\\)[a-zA-Z0-9])", name, re.DOTALL)
    if simple and simple[1] not in ".^$":
        return np.arange(POINTS) == ord(simple[1])
    if name == "white space":
        places = ~_kept(pre_tokenizers.WhitespaceSplit())
    elif name == "punctuation":
        places = ~_kept(pre_tokenizers.Punctuation("removed"))
    elif name == "space":
        places = _words() == 0
    elif name == "word":
        places = _words() == 1
    elif name == "numeric":
        digits = pre_tokenizers.Digits(False)
        places = _by_piece(digits, lambda c: len(digits.pre_tokenize_str(f"a{c}a")) == 3) == 1
    else:
        places = ~_kept(pre_tokenizers.Split(Regex(f"(?:{name})+"), "removed"))
    found = np.zeros(POINTS, bool)
    for part in _ALIKE:
        found[part] = places[np.searchsorted(asked(), part.start)]
    found[asked()] = places
    return found


@functools.cache
def _words() -> np.ndarray:
    """What Whitespace takes each code point for: 0 space, 1 word, 2 other."""
    splitter = pre_tokenizers.Whitespace()
    return _by_piece(splitter, lambda c: len(splitter.pre_tokenize_str(f"a{c}a")) == 1)


def _by_piece(splitter: pre_tokenizers.PreTokenizer, test: Callable[[str], bool]) -> np.ndarray:
    """0 for what the splitter removes, 1 in pieces whose first character passes the test, 2 in others."""
    text = _asked_text()
    found = np.zeros(len(text), np.uint8)
    for _, (start, end) in splitter.pre_tokenize_str(text):
        found[start:end] = 1 if test(text[start]) else 2
    return found


def _kept(splitter: pre_tokenizers.PreTokenizer) -> np.ndarray:
    return _by_piece(splitter, lambda _: True) > 0


@functools.cache
def _asked_text() -> str:
    return text_of(asked())


@functools.cache
def combining_classes() -> np.ndarray:
    """A number above 0 for each mark that NFD moves, uint8 (POINTS,), in the order of their combining classes."""
    nfd, strip = normalizers.NFD(), normalizers.StripAccents()
    kept = np.isin(asked(), points_of(strip.normalize_str(text_of(asked()))))
    plain = outputs(('{"type": "NFD"}',)).one
    marks = [int(c) for c in asked()[~kept] if plain[c] == c]

    def moves(firsts: list[int], seconds: list[int]) -> list[bool]:
        """Whether each second mark goes before its first."""
        text = nfd.normalize_str("|".join(chr(a) + chr(b) for a, b in zip(firsts, seconds, strict=True)))
        return [part[0] == chr(b) != chr(a) for part, a, b in zip(text.split("|"), firsts, seconds, strict=True)]

    below = moves([_HIGHEST_MARK] * len(marks), marks)
    above = moves(marks, [_LOWEST_MARK] * len(marks))
    moving = [m for m, low, high in zip(marks, below, above, strict=True) if low or high]
    moving += [m for m in (_LOWEST_MARK, _HIGHEST_MARK) if m not in moving]
    # NFD sorts marks by their class and leaves those of one class as they stand: a class ends where the marks so far
    # are the same, in whichever order all were given.
    forwards, backwards = (points_of(nfd.normalize_str("".join(map(chr, order)))) for order in (moving, moving[::-1]))
    found = np.zeros(POINTS, np.uint8)
    rank, start, apart = 0, 0, set()
    for place, (one, other) in enumerate(zip(forwards.tolist(), backwards.tolist(), strict=True), 1):
        apart ^= {one}
        apart ^= {other}
        if not apart:
            rank += 1
            found[forwards[start:place]] = rank
            start = place
    return found


@functools.cache
def compositions() -> tuple[tuple[int, int, int], ...]:
    """(first, second, made) of the pairs that NFC joins, Hangul's letters left out, sorted."""
    nfd, nfc = outputs(('{"type": "NFD"}',)), outputs(('{"type": "NFC"}',))
    made = [c for c in nfd.several if nfc.one[c] == c and not HANGUL <= c < HANGUL + SYLLABLES]
    heads = "|".join("".join(map(chr, nfd.several[c][:-1])) for c in made)
    firsts = normalizers.NFC().normalize_str(heads).split("|")
    return tuple(sorted((ord(first), nfd.several[c][-1], c) for first, c in zip(firsts, made, strict=True)))
