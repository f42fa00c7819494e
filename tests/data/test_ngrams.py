"""What hashed n-grams are of: a slow model of the definition, and how a text is folded."""

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embbert_tvm.data import ngrams
from embbert_tvm.data.ngrams import BASE_LETTERS, FOLDS, LETTER, NgramFeatures, hash_texts
from embbert_tvm.errors import InputError

MASK = 0xFFFFFFFF


def bucket(h, kind, buckets):
    h = h + kind * 0x7F4A7C15 & MASK
    h = (h ^ h >> 15) * 0x2C1B3C6D & MASK
    h = (h ^ h >> 12) * 0x297A2D39 & MASK
    return (h ^ h >> 15) * buckets >> 32


def polynomial(characters):
    h = 0
    for character in characters:
        h = h * 0x9E3779B1 + ord(character) + 1 & MASK
    return h


def slow(text, buckets, second=False):
    """The features of a text of ASCII letters, digits, full stops and spaces."""
    words = text.lower().replace(".", " . ").split()
    base, found, hashes = 16 * second, [], [polynomial(word) for word in words]
    found += [bucket(h, base, buckets) for h in hashes]
    found += [bucket(a * 0x85EBCA6B + b, base + 1, buckets) for a, b in itertools.pairwise(hashes)]
    for word in words:
        padded = f" {word} "
        if word != ".":
            found += [
                bucket(polynomial(padded[i : i + n]), base + n, buckets)
                for n in (3, 4, 5) for i in range(len(padded) - n + 1)
            ]  # fmt: skip
    return sorted(found)


@given(st.lists(st.text("abYZ09. ", max_size=20), min_size=1, max_size=4))
def test_the_definition(texts):
    bags = hash_texts(NgramFeatures(5000), texts, texts[::-1])
    assert len(bags) == len(texts)
    for i, text in enumerate(texts):
        assert sorted(bags.of(i)) == sorted([*slow(text, 5000), *slow(texts[-1 - i], 5000, second=True)])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("\u00c9TUDE na\u00efve", "etude NAIVE", True),
        ("cafe\u0301", "caf\u00e9", True),
        ("\u041f\u0420\u0418\u0412\u0415\u0422", "\u043f\u0440\u0438\u0432\u0435\u0442", True),
        ("\u039b\u039f\u0393\u039f\u03a3", "\u03bb\u03bf\u03b3\u03bf\u03c2", True),
        ("\uff21\uff22\uff11", "ab1", True),
        ("Vi\u1ec7t", "viet", True),
        ("a\u3000b", "a b", True),
        ("ab", "ba", False),
        ("not good", "good not", False),
        ("\u4e2d\u6587", "\u6587\u4e2d", False),
        ("yes!", "yes", False),
    ],
)
def test_what_folds_together(one, other, same):
    first, second = (sorted(hash_texts(NgramFeatures(2**20), [text]).buckets) for text in (one, other))
    assert (first == second) == same


def test_the_tables_are_unicodes():
    assert all(a[1] < b[0] for a, b in itertools.pairwise(FOLDS))
    for first, letters in BASE_LETTERS:
        for i, letter in enumerate(letters):
            base = unicodedata.normalize("NFKD", chr(first + i)).lower()[0]
            assert letter == base or not base.isascii()
    for first, last, kind, added in FOLDS:
        if kind == LETTER:
            for point in range(first, last + 1):
                folded = chr(point + added)
                lower = unicodedata.normalize("NFKC", chr(point)).lower()
                assert folded == lower or unicodedata.normalize("NFKC", folded).casefold() == lower.casefold()


def test_what_cannot_be():
    for wrong in [
        {"buckets": 0},
        {"buckets": 9, "words": 4},
        {"buckets": 9, "shortest": 1},
        {"buckets": 9, "longest": 9},
    ]:
        with pytest.raises(InputError, match="give"):
            NgramFeatures(**wrong)
    with pytest.raises(InputError, match="not valid Unicode"):
        hash_texts(NgramFeatures(9), ["\ud800"])


def test_many_texts_are_hashed_in_parts(monkeypatch):
    texts = ["one two", "", "three four five", "\u4e2d", "six"] * 3
    whole = hash_texts(NgramFeatures(999), texts, texts[::-1])
    monkeypatch.setattr(ngrams, "_CHUNK", 9)
    parts = hash_texts(NgramFeatures(999), texts, texts[::-1])
    assert (parts.buckets.tolist(), parts.starts.tolist()) == (whole.buckets.tolist(), whole.starts.tolist())
    assert len(hash_texts(NgramFeatures(999), [])) == 0
