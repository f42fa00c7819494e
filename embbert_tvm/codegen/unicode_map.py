"""What the `tokenizers` library's normalizers and splitters make of every code point, asked of the library itself.

Nothing here knows Unicode: the library's own tables, whatever their version, are read off its answers. The answers of
one version of the library are kept in the user's cache folder (embbert_tvm/cache.py), and those of one, about what most
tokenizers have, are shipped (benchmarks/unicode_tables.py writes them).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import PreTokenizedString, Regex, Tokenizer, normalizers, pre_tokenizers

from embbert_tvm.codegen.unicode_store import kept
from embbert_tvm.errors import WorkError

POINTS = 0x110000
SURROGATES = slice(0xD800, 0xE000)
HANGUL, SYLLABLES = 0xAC00, 11172
# Where Unicode has assigned nothing, or private use alone: what holds for a sample holds for all of it.
_ALIKE = (slice(0x36000, 0xE0000), slice(0xE1000, 0xF0000), slice(0xF0000, POINTS))
_SAMPLE = 997
_SEPARATORS = "|\x01\u2e31"  # between code points; the first that nothing else becomes, and that stays, is taken
_CHUNK = 4096
_LOWEST_MARK, _HIGHEST_MARK = 0x334, 0x345  # combining classes 1 and 240, the ends of the scale

REMOVED, SEVERAL = -1, -2


@dataclass(frozen=True)
class Sequences:
    """Texts of several code points by the code point that becomes them.

    points: int64 (n,), ascending. made: int64, the texts one after the other. at: int64 (n + 1,), where each begins.
    """

    points: np.ndarray
    made: np.ndarray
    at: np.ndarray

    @classmethod
    def of(cls, made: Mapping[int, Sequence[int]]) -> Sequences:
        ordered = sorted(made.items())
        at = np.cumsum([0, *(len(points) for _, points in ordered)])
        flat = [point for _, points in ordered for point in points]
        return cls(np.array([point for point, _ in ordered], np.int64), np.array(flat, np.int64), at)

    @classmethod
    def of_places(cls, points: np.ndarray, lengths: np.ndarray, by_place: np.ndarray) -> Sequences:
        """The texts of which `by_place` gave the differences."""
        at = np.cumsum([0, *lengths.tolist()])
        made, begin = np.empty(at[-1], np.int64), 0
        for place in range(int(lengths.max(initial=0))):
            where = at[:-1][lengths > place] + place
            made[where] = np.cumsum(by_place[begin : begin + len(where)])
            begin += len(where)
        return cls(points, made, at)

    def by_place(self) -> np.ndarray:
        """The first code points of all texts, then the second of those that have one, and so on, each by its difference
        from the one before."""
        places = range(int(self.lengths.max(initial=0)))
        columns = [self.made[self.at[:-1][self.lengths > place] + place] for place in places]
        return np.concatenate([np.zeros(0, np.int64), *(np.diff(column, prepend=0) for column in columns)])

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.at)

    def __getitem__(self, point: int) -> tuple[int, ...]:
        place = int(np.searchsorted(self.points, point))
        return tuple(self.made[self.at[place] : self.at[place + 1]].tolist())

    def where(self, chosen: np.ndarray) -> Sequences:
        """Those that are chosen, by bool (n,)."""
        lengths = self.lengths
        return Sequences(
            self.points[chosen], self.made[np.repeat(chosen, lengths)], np.cumsum([0, *lengths[chosen].tolist()])
        )


@dataclass(frozen=True)
class Outputs:
    """What becomes of each code point.

    one: int32 (POINTS,), the code point that it becomes, REMOVED, or SEVERAL. several: what those become.
    """

    one: np.ndarray
    several: Sequences

    def of(self, point: int) -> tuple[int, ...]:
        one = int(self.one[point])
        return self.several[point] if one == SEVERAL else () if one == REMOVED else (one,)


def identity() -> Outputs:
    return Outputs(np.arange(POINTS, dtype=np.int32), Sequences.of({}))


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


def asked_and_others(values: np.ndarray) -> np.ndarray:
    """Code points, ascending: those asked about, and of those that are alike the few whose value is another than most
    have, as tokens of a vocabulary. values: (POINTS,)."""
    keep = np.zeros(POINTS, bool)
    keep[asked()] = True
    for part, most in _most(asked(), values[asked()]):
        keep[part] |= values[part] != most
    return np.flatnonzero(keep)


def for_all(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value of every code point, (POINTS,), by those of `asked_and_others`; a surrogate has that of U+0001."""
    found = np.full(POINTS, values[1], values.dtype)  # no text has surrogates
    for part, most in _most(points, values):
        found[part] = most
    found[points] = values
    return found


def _most(points: np.ndarray, values: np.ndarray) -> list[tuple[slice, np.generic]]:
    """Each part of code points that are alike, and the value that most of it have."""
    found = []
    for part in _ALIKE:
        kinds, counts = np.unique(values[slice(*np.searchsorted(points, [part.start, part.stop]))], return_counts=True)
        found.append((part, kinds[np.argmax(counts)]))
    return found


def _chunks(text: str) -> list[str]:
    """Parts of a text that fit a processor's cache with all that the library notes of each character."""
    return [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]


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


def made_of(steps: tuple[str, ...], points: np.ndarray) -> Sequences:
    """What normalizers make of code points, ascending, of which each stands alone: texts of none, one or several."""
    normalizer = library_normalizer(steps)
    for separator in map(ord, _SEPARATORS):
        others = points[points != separator].astype(np.int64)
        text = np.full(2 * len(others), separator, np.uint32)
        text[::2] = others
        found = np.concatenate([points_of(normalizer.normalize_str(part)) for part in _chunks(text_of(text))])
        ends = np.flatnonzero(found == separator)
        if len(ends) == len(others):
            at = np.concatenate([[0], ends - np.arange(len(ends))])
            return Sequences(others, found[found != separator].astype(np.int64), at)
    raise WorkError("a normalizer makes of a character what no table of characters can say")


def _edges(chosen: np.ndarray) -> np.ndarray:
    """The code points at which a set, bool (POINTS,), begins and ends."""
    return np.flatnonzero(np.diff(chosen, prepend=False))


def _between(edges: np.ndarray) -> np.ndarray:
    """The set that begins and ends at code points, bool (POINTS,)."""
    steps = np.zeros(POINTS, bool)
    steps[edges] = True
    return np.logical_xor.accumulate(steps)


@functools.lru_cache(maxsize=16)
def outputs(steps: tuple[str, ...]) -> Outputs:
    """What normalizers make of each code point that stands alone."""

    def make() -> dict[str, np.ndarray]:
        made = _outputs(steps)
        removed, several = made.one == REMOVED, made.several
        changed = np.flatnonzero((made.one != np.arange(POINTS)) & (made.one >= 0))
        # Differences, which are alike for whole scripts, take little room.
        return {
            "removed": _edges(removed),
            "changed": np.diff(changed, prepend=0),
            "one": made.one[changed] - changed,
            "points": np.diff(several.points, prepend=0),
            "lengths": several.lengths,
            "made": several.by_place(),
        }

    found = {name: values.astype(np.int64) for name, values in kept(("outputs", *steps), make).items()}
    one, changed = np.arange(POINTS, dtype=np.int32), np.cumsum(found["changed"])
    one[changed] = found["one"] + changed
    one[_between(found["removed"])] = REMOVED
    several = Sequences.of_places(np.cumsum(found["points"]), found["lengths"], found["made"])
    one[several.points] = SEVERAL
    return Outputs(one, several)


def _outputs(steps: tuple[str, ...]) -> Outputs:
    found = made_of(steps, asked())
    lengths = found.lengths
    one = np.arange(POINTS, dtype=np.int32)
    single = lengths == 1
    one[found.points[single]] = found.made[found.at[:-1][single]]
    one[found.points[lengths == 0]] = REMOVED
    one[found.points[lengths > 1]] = SEVERAL
    for part in _ALIKE:
        sample = asked()[(asked() >= part.start) & (asked() < part.stop) & (asked() & 0xFFFE != 0xFFFE)]
        if (one[sample] == REMOVED).all():
            kept = one[asked()]
            one[part] = REMOVED
            one[asked()] = kept
        elif (one[sample] != sample).any():
            raise WorkError("code points that should be alike are not in this version of tokenizers")
    return Outputs(one, found.where(lengths > 1))


@functools.lru_cache(maxsize=64)
def members(name: str) -> np.ndarray:
    """Whether each code point is of a set, bool (POINTS,).

    name: "white space" (as WhitespaceSplit), "punctuation", "numeric", "space" and "word" (as Whitespace), or a regular
    expression of one character as the library's Split takes it.
    """
    simple = re.fullmatch(r"\\?([^a-zA-Z0-9\\]|(?<!\\)[a-zA-Z0-9])", name, re.DOTALL)
    if simple and simple[1] not in ".^$":
        return np.arange(POINTS) == ord(simple[1])
    return _between(kept(("members", name), lambda: {"edges": _edges(_members(name))})["edges"])


def _members(name: str) -> np.ndarray:
    if name == "white space":
        places = ~_stays(pre_tokenizers.WhitespaceSplit())
    elif name == "punctuation":
        places = ~_stays(pre_tokenizers.Punctuation("removed"))
    elif name == "space":
        places = _words() == 0
    elif name == "word":
        places = _words() == 1
    elif name == "numeric":
        places = _by_piece(pre_tokenizers.Digits(False)) == 2
    else:
        places = ~_stays(pre_tokenizers.Split(Regex(f"(?:{name})+"), "removed"))
    found = np.zeros(POINTS, bool)
    for part in _ALIKE:
        found[part] = places[np.searchsorted(asked(), part.start)]
    found[asked()] = places
    return found


@functools.cache
def _words() -> np.ndarray:
    """What Whitespace takes each code point for: 0 space, 1 word, 2 other."""
    return _by_piece(pre_tokenizers.Whitespace())


def _by_piece(splitter: pre_tokenizers.PreTokenizer) -> np.ndarray:
    """0 for what the splitter removes, 1 in pieces of what it leaves together with letters, 2 in others."""
    text = text_of(asked())
    found = np.zeros(len(text), np.uint8)
    starts, ends = _pieces(splitter, text)
    between = " ".join(f"a{text[start]}a" for start in starts.tolist())
    parted = np.isin(4 * np.arange(len(starts)) + 1, _pieces(splitter, between)[0])
    for start, end, kind in zip(starts.tolist(), ends.tolist(), np.where(parted, 2, 1).tolist(), strict=True):
        found[start:end] = kind
    return found


def _pieces(splitter: pre_tokenizers.PreTokenizer, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Where the pieces that a splitter leaves of a text's chunks begin and end, in characters.

    The library counts in bytes: to count in characters it fills a hash table of all of them.
    """
    places, before = [], 0
    for part in _chunks(text):
        split = PreTokenizedString(part)
        splitter.pre_tokenize(split)
        places += [
            (before + start, before + end)
            for _, (start, end), _ in split.get_splits(offset_referential="original", offset_type="byte")
        ]
        before += len(part.encode())
    characters = np.flatnonzero(np.frombuffer(text.encode(), np.uint8) & 0xC0 != 0x80)  # the byte that each begins at
    found = np.searchsorted(characters, np.array(places, np.int64).reshape(-1, 2))
    return found[:, 0], found[:, 1]


def _stays(splitter: pre_tokenizers.PreTokenizer) -> np.ndarray:
    return _by_piece(splitter) > 0


@functools.cache
def combining_classes() -> np.ndarray:
    """A number above 0 for each mark that NFD moves, uint8 (POINTS,), in the order of their combining classes."""

    def make() -> dict[str, np.ndarray]:
        made = _combining_classes()
        return {"marks": np.flatnonzero(made), "ranks": made[np.flatnonzero(made)]}

    marks, found = kept(("combining classes",), make), np.zeros(POINTS, np.uint8)
    found[marks["marks"]] = marks["ranks"]
    return found


def _combining_classes() -> np.ndarray:
    nfd, strip = normalizers.NFD(), normalizers.StripAccents()
    stripped = np.ones(POINTS, bool)
    for part in _chunks(text_of(asked())):
        stripped[points_of(strip.normalize_str(part))] = False
    apart = made_of(('{"type": "NFD"}',), asked()[stripped[asked()]])
    first = apart.made[np.minimum(apart.at[:-1], len(apart.made) - 1)]
    marks = apart.points[(apart.lengths == 1) & (first == apart.points)].tolist()

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
    found = kept(("compositions",), lambda: {"pairs": np.array(_compositions(), np.int32)})["pairs"]
    return tuple((first, second, made) for first, second, made in found.reshape(-1, 3).tolist())


def _compositions() -> tuple[tuple[int, int, int], ...]:
    nfd, nfc = outputs(('{"type": "NFD"}',)), outputs(('{"type": "NFC"}',))
    several = nfd.several.points
    kept = (nfc.one[several] == several) & ~((several >= HANGUL) & (several < HANGUL + SYLLABLES))
    made = {c: nfd.several[c] for c in several[kept].tolist()}
    firsts = normalizers.NFC().normalize_str("|".join("".join(map(chr, parts[:-1])) for parts in made.values()))
    joined = zip(firsts.split("|"), made.items(), strict=True)
    return tuple(sorted((ord(first), parts[-1], c) for first, (c, parts) in joined))
