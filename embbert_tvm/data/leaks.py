"""Texts held against dev and test: one meaning of "the same text" for everything that is trained on.

What a model is trained on, what a teacher labels, what is mixed or noised of other texts, and what a base model reads
in pre-training all pass through `HeldOut.filter`, and its count stands in training.json.
"""

from __future__ import annotations

import hashlib
import lzma
import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from embbert_tvm.data.dataset import Example
from embbert_tvm.data.files import open_binary, write_atomically
from embbert_tvm.errors import InputError

TEXTS_READ = "texts-read.xz"  # in a model's folder: hashes of what it was trained on
_ASCII_MARKS = frozenset(string.punctuation)  # $ + < = > ^ ` | ~ are symbols to Unicode
_IGNORED = frozenset("PZC")  # punctuation, separators, control and format characters


def text_key(text: str) -> str:
    """What two texts have in common that are the same but for case, punctuation and white space.

    A text of nothing but punctuation is its own characters without white space.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = unicodedata.normalize("NFC", "".join(c for c in folded if not _is_ignored(c)))
    return kept or "".join(folded.split())


def example_key(example: Example) -> tuple[str, str]:
    """`text_key` of both texts of an example; the second is empty where there is one."""
    return text_key(example.text), text_key(example.text_pair or "")


@lru_cache(maxsize=65536)
def _is_ignored(character: str) -> bool:
    return character in _ASCII_MARKS or unicodedata.category(character)[0] in _IGNORED


@dataclass(frozen=True)
class HeldOut:
    """What dev and test sets hold: nothing of it may be trained on, or labelled by a teacher to be trained on."""

    examples: frozenset[tuple[str, str]] = frozenset()
    texts: frozenset[str] = frozenset()  # each text of a pair alone

    @classmethod
    def of(cls, *sets: Iterable[Example]) -> HeldOut:
        examples = frozenset(example_key(x) for examples in sets for x in examples)
        return cls(examples, frozenset(key for pair in examples for key in pair if key))

    def filter(self, texts: Sequence[str]) -> tuple[list[str], int]:
        """The texts that no held-out set holds, in order, and how many were left out."""
        kept = [x for x in texts if text_key(x) not in self.texts]
        return kept, len(texts) - len(kept)

    def filter_examples(self, examples: Sequence[Example]) -> tuple[list[Example], int]:
        """The examples whose text, or pair of texts, no held-out set holds, and how many were left out."""
        kept = [x for x in examples if example_key(x) not in self.examples]
        return kept, len(examples) - len(kept)


def text_hashes(texts: Iterable[str]) -> np.ndarray:
    """Sorted different 40-bit hashes (uint64) of the texts' keys.

    Of a million texts that were not read one is taken for one of a million that were.
    """
    return np.array(sorted({_hash(text) for text in texts}), np.uint64)


def write_text_hashes(path: Path, texts: Iterable[str]) -> int:
    """Write what a model was trained on as the differences of its sorted hashes, LEB128 in xz; gives how many."""
    hashes = text_hashes(texts)
    packed = bytearray()
    for difference in np.diff(hashes, prepend=np.uint64(0)).tolist():
        while difference > 0x7F:
            packed.append(difference & 0x7F | 0x80)
            difference >>= 7
        packed.append(difference)
    write_atomically(path, lzma.compress(bytes(packed)))
    return len(hashes)


def read_text_hashes(path: Path) -> np.ndarray:
    """The inverse of `write_text_hashes`, uint64; InputError for a file that cannot be read."""
    with open_binary(path) as file:
        packed = np.frombuffer(file.read(), np.uint8).astype(np.uint64)
    last = packed < 0x80
    if len(packed) and not last[-1]:
        raise InputError(f"{path}: ends in the middle of a number: damaged")
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]])) if len(packed) else np.zeros(0, np.int64)
    place = np.arange(len(packed)) - np.repeat(starts, np.diff(starts, append=len(packed)))
    if len(place) and place.max() > 8:
        raise InputError(f"{path}: holds a number of more than 63 bits: damaged")
    parts = (packed & np.uint64(0x7F)) << (place * 7).astype(np.uint64)
    return np.cumsum(np.add.reduceat(parts, starts) if len(parts) else parts, dtype=np.uint64)


def already_read(hashes: np.ndarray, examples: Iterable[Example]) -> list[str]:
    """The texts of the examples that are among the sorted `hashes` of what a model was trained on."""
    texts = list(dict.fromkeys(text for x in examples for text in (x.text, x.text_pair) if text))
    found = np.isin(np.array([_hash(text) for text in texts], np.uint64), hashes)
    return [text for text, read in zip(texts, found, strict=True) if read]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text_key(text).encode("utf-8", "surrogatepass")).digest()[:5], "big")
