"""Hashed n-grams of words and characters: the features of a linear model, exactly as firmware's C computes them.

The definition, which firmware/tokenizer/embbert_ngrams.h mirrors operation by operation:

1. Each code point becomes a letter, a single, a space, or nothing (`FOLDS`, `BASE_LETTERS`): upper case to lower case
   and Latin letters to their base letters, by ranges; a combining mark is nothing; what no range names is a letter.
2. Letters in a row are a word, each single (punctuation, an ideograph) is a word of its own.
3. A word's hash is polynomial: h = h * 0x9E3779B1 + c + 1 over its characters, from 0, modulo 2**32.
4. Features: each word; each two (three) words in a row, h2 = (h1 * 0x85EBCA6B) + h; and of each word of letters,
   written with a space on either side, each run of 3 to 5 characters, hashed as a word is. To each is added 0x7F4A7C15
   times its kind's number: 0 for words, 1 for two, 2 for three, and the number of characters for characters; 16 is
   added to the number for the second text of a pair.
5. h ^= h >> 15, h *= 0x2C1B3C6D, h ^= h >> 12, h *= 0x297A2D39, h ^= h >> 15; the bucket is (h * buckets) >> 32.

A feature that occurs twice counts twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.errors import InputError

LETTER, SINGLE, SPACE, NOTHING = range(4)
MULTIPLIER, PAIR_MULTIPLIER, KIND_STEP = 0x9E3779B1, 0x85EBCA6B, 0x7F4A7C15
SECOND_TEXT = 16  # added to a kind's number
MIX = ((15, 0x2C1B3C6D), (12, 0x297A2D39))
LAST_SHIFT = 15
_SPACE_CHARACTER = 0x20
_CHUNK = 1 << 20

FOLDS: tuple[tuple[int, int, int, int], ...] = (
    # first, last, what it is, what is added to a letter
    (0x00, 0x20, SPACE, 0), (0x21, 0x2F, SINGLE, 0), (0x3A, 0x40, SINGLE, 0), (0x41, 0x5A, LETTER, 32),
    (0x5B, 0x60, SINGLE, 0), (0x7B, 0x7E, SINGLE, 0), (0x7F, 0xA0, SPACE, 0), (0xA1, 0xBF, SINGLE, 0),
    (0xD7, 0xD7, SINGLE, 0), (0xF7, 0xF7, SINGLE, 0), (0x300, 0x36F, NOTHING, 0), (0x386, 0x386, LETTER, 38),
    (0x388, 0x38A, LETTER, 37), (0x38C, 0x38C, LETTER, 64), (0x38E, 0x38F, LETTER, 63), (0x391, 0x3A1, LETTER, 32),
    (0x3A3, 0x3AB, LETTER, 32), (0x3C2, 0x3C2, LETTER, 1), (0x400, 0x40F, LETTER, 80), (0x410, 0x42F, LETTER, 32),
    (0x531, 0x556, LETTER, 48), (0x591, 0x5C7, NOTHING, 0), (0x60C, 0x61F, SINGLE, 0), (0x640, 0x640, NOTHING, 0),
    (0x64B, 0x65F, NOTHING, 0), (0x964, 0x965, SINGLE, 0), (0xE00, 0xEFF, SINGLE, 0), (0x1000, 0x109F, SINGLE, 0),
    (0x1780, 0x17FF, SINGLE, 0),
    (0x2000, 0x200F, SPACE, 0), (0x2010, 0x2027, SINGLE, 0), (0x2028, 0x202F, SPACE, 0), (0x2030, 0x205E, SINGLE, 0),
    (0x205F, 0x206F, SPACE, 0), (0x20A0, 0x20CF, SINGLE, 0), (0x2190, 0x2BFF, SINGLE, 0), (0x2E80, 0x2FFF, SINGLE, 0),
    (0x3000, 0x3000, SPACE, 0), (0x3001, 0x9FFF, SINGLE, 0), (0xF900, 0xFAFF, SINGLE, 0), (0xFE00, 0xFE0F, NOTHING, 0),
    (0xFE10, 0xFE6F, SINGLE, 0), (0xFEFF, 0xFEFF, NOTHING, 0), (0xFF00, 0xFF0F, SINGLE, 0),
    (0xFF10, 0xFF19, LETTER, -0xFEE0), (0xFF1A, 0xFF20, SINGLE, 0), (0xFF21, 0xFF3A, LETTER, 32 - 0xFEE0),
    (0xFF3B, 0xFF40, SINGLE, 0), (0xFF41, 0xFF5A, LETTER, -0xFEE0), (0xFF5B, 0xFFEF, SINGLE, 0),
    (0x1F000, 0x1FAFF, SINGLE, 0), (0x20000, 0x3FFFF, SINGLE, 0), (0xE0000, 0xE01EF, NOTHING, 0),
)  # fmt: skip
"""Code points that are not plain letters, in order. What neither they nor `BASE_LETTERS` name is a letter as it is."""

BASE_LETTERS: tuple[tuple[int, str], ...] = (
    (0xC0, "aaaaaaaceeeeiiiidnooooo\u00d7ouuuuytsaaaaaaaceeeeiiiidnooooo\u00f7ouuuuyty"),
    (
        0x100,
        "aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiiiiijjkkklllllllllln"
        "nnnnnnnnoooooooorrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzzs",
    ),
    (
        0x1E00,
        "aabbbbbbccddddddddddeeeeeeeeeeffgghhhhhhhhhhiiiikkkkkkllllllllmmmmmmnnnnnnnnoooooooopppprrrrrrrrssssssssss"
        "ttttttttuuuuuuuuuuvvvvwwwwwwwwwwxxxxyyzzzzzzhtwyassssd"
        "aaaaaaaaaaaaaaaaaaaaaaaaeeeeeeeeeeeeeeeeiiiioooooooooooooooooooooooouuuuuuuuuuuuuuyyyyyyyyllvvyy",
    ),
)
"""Latin letters of the blocks that start there, without case and accent; a block's few singles stand for themselves."""


@dataclass(frozen=True)
class NgramFeatures:
    """Which n-grams are hashed, and to how many buckets: a table of the linear model has so many rows."""

    buckets: int
    words: int = 2  # in a row, at most
    shortest: int = 3  # run of characters; with `longest` 0 there are none
    longest: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.buckets < 2**24:
            raise InputError(f"{self.buckets} buckets: give 1 to {2**24 - 1}")
        if not 1 <= self.words <= 3:
            raise InputError(f"n-grams of {self.words} words: give 1 to 3")
        if self.longest and not 2 <= self.shortest <= self.longest <= 6:
            raise InputError(f"n-grams of {self.shortest} to {self.longest} characters: give 2 to 6")


@dataclass(frozen=True)
class Bags:
    """The buckets (int32) of many texts, one text after the other; text i has those from starts[i] to starts[i + 1]."""

    buckets: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, text: int) -> np.ndarray:
        return self.buckets[self.starts[text] : self.starts[text + 1]]


def hash_texts(features: NgramFeatures, texts: Sequence[str], pairs: Sequence[str | None] | None = None) -> Bags:
    """The features of texts, or of pairs of texts; within a text their order has no meaning.

    Raises InputError for a text that is not valid Unicode.
    """
    parts = [
        _hash_chunk(features, texts[start:end], None if pairs is None else pairs[start:end])
        for start, end in _chunks([len(text) for text in texts])
    ]
    counts = np.concatenate([[0], *(counts for _, counts in parts)])
    buckets = np.concatenate([np.zeros(0, np.int32), *(buckets for buckets, _ in parts)])
    return Bags(buckets, np.cumsum(counts).astype(np.int64))


def _chunks(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of texts of about `_CHUNK` characters together, which bounds the memory that hashing takes."""
    start, together = 0, 0
    for i, length in enumerate(lengths):
        together += length
        if together >= _CHUNK:
            yield start, i + 1
            start, together = i + 1, 0
    if start < len(lengths):
        yield start, len(lengths)


def _hash_chunk(
    features: NgramFeatures, texts: Sequence[str], pairs: Sequence[str | None] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Buckets, text after text, and how many each has."""
    owners, hashes = _hashes(features, texts, 0)
    if pairs is not None:
        more_owners, more = _hashes(features, [pair or "" for pair in pairs], SECOND_TEXT)
        owners, hashes = np.concatenate([owners, more_owners]), np.concatenate([hashes, more])
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=len(texts))
    buckets = (_mixed(hashes[order]).astype(np.uint64) * np.uint64(features.buckets)) >> np.uint64(32)
    return buckets.astype(np.int32), counts


def _mixed(h: np.ndarray) -> np.ndarray:
    for shift, multiplier in MIX:
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(multiplier)
    return h ^ (h >> np.uint32(LAST_SHIFT))


def _fold_tables() -> tuple[np.ndarray, np.ndarray]:
    """Kind of each code point, and the character that it becomes."""
    kinds = np.full(0x110000, LETTER, np.uint8)
    folded = np.arange(0x110000, dtype=np.int32)
    for first, letters in BASE_LETTERS:
        folded[first : first + len(letters)] = [ord(letter) for letter in letters]
    for first, last, kind, added in FOLDS:
        kinds[first : last + 1] = kind
        folded[first : last + 1] += added
    return kinds, folded


_KINDS, _FOLDED = _fold_tables()


def _characters(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is left of the texts' code points after folding: owner, kind, character; a space after each text."""
    try:
        joined = "\n".join([*texts, ""]).encode("utf-32-le")
    except UnicodeEncodeError as error:
        raise InputError(f"a text is not valid Unicode ({error.reason}): re-encode it") from error
    points = np.frombuffer(joined, np.uint32)
    lengths = np.array([len(text) + 1 for text in texts], np.int64)
    owners = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
    kinds = _KINDS[points]
    kept = kinds != NOTHING
    return owners[kept], kinds[kept], _FOLDED[points[kept]].astype(np.uint32)


def _hashes(features: NgramFeatures, texts: Sequence[str], second: int) -> tuple[np.ndarray, np.ndarray]:
    """Owner and hash, before it is mixed, of every feature."""
    owners, kinds, characters = _characters(texts)
    starts, ends = _words(kinds)
    word_owner, word_hash = owners[starts], _runs(characters, starts, ends)
    found = [(word_owner, word_hash, 0)]
    last = word_hash
    for order in range(1, features.words):  # what ends in each word with `order` words before it
        last = last[:-1] * np.uint32(PAIR_MULTIPLIER) + word_hash[order:]
        same = word_owner[order:] == word_owner[:-order]
        found.append((word_owner[order:][same], last[same], order))
    if features.longest:
        found += _character_runs(features, owners, kinds, characters, starts, ends)
    return (
        np.concatenate([owner for owner, _, _ in found]),
        np.concatenate([h + np.uint32((kind + second) * KIND_STEP % 2**32) for _, h, kind in found]),
    )


def _words(kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First characters of the words and the ones after the last, in order."""
    letter, single = kinds == LETTER, kinds == SINGLE
    before = np.concatenate([[False], letter[:-1]])
    after = np.concatenate([letter[1:], [False]])
    starts = np.flatnonzero(single | (letter & ~before))
    ends = np.flatnonzero(single | (letter & ~after)) + 1
    return starts, ends


def _runs(characters: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Polynomial hashes (uint32) of the characters from `starts` to `ends`."""
    lengths = ends - starts
    h = np.zeros(len(starts), np.uint32)
    # The shorter a word the sooner it is done: the words sorted by length, those left shrink to a tail.
    order = np.argsort(lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    done = 0
    for i in range(int(lengths[-1]) if len(lengths) else 0):
        done = int(np.searchsorted(lengths, i, "right"))
        h[done:] = h[done:] * np.uint32(MULTIPLIER) + characters[starts[done:] + i] + np.uint32(1)
    unsorted = np.empty_like(h)
    unsorted[order] = h
    return unsorted


def _character_runs(
    features: NgramFeatures,
    owners: np.ndarray,
    kinds: np.ndarray,
    characters: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Owner, hash and kind of the runs of characters in every word of letters with a space on either side."""
    chosen = kinds[starts] == LETTER
    starts, ends = starts[chosen], ends[chosen]
    lengths = ends - starts + 2
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    padded = np.full(int(offsets[-1]), _SPACE_CHARACTER, np.uint32)
    inside = np.ones(len(padded), bool)
    inside[offsets[:-1]] = inside[offsets[1:] - 1] = False
    padded[inside] = characters[kinds == LETTER]
    word = np.repeat(np.arange(len(starts)), lengths)
    owner = owners[starts][word]
    left = np.repeat(offsets[1:], lengths) - np.arange(len(padded))  # characters from here to the word's end
    h = np.zeros(len(padded), np.uint32)
    found = []
    for length in range(1, features.longest + 1):
        h = h[: len(padded) - length + 1] * np.uint32(MULTIPLIER) + padded[length - 1 :] + np.uint32(1)
        if length >= features.shortest:
            fits = left[: len(h)] >= length
            found.append((owner[: len(h)][fits], h[fits], length))
    return found
