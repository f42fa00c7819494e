"""One meaning of the same text, and what is held out by it."""

import lzma

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embbert_tvm.data.dataset import Example
from embbert_tvm.data.leaks import (
    HeldOut,
    already_read,
    example_key,
    read_text_hashes,
    text_hashes,
    text_key,
    write_text_hashes,
)
from embbert_tvm.errors import InputError


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Find movie times", "  find MOVIE-times!", True),
        ("what's on?", "Whats on", True),
        ("don\u2019t", "don't", True),
        ("STRASSE", "Straße", True),
        ("ﬁnd it", "find it", True),
        ("café", "cafe\u0301", True),
        ("café", "cafe", False),
        ("a\u200bb", "ab", True),
        ("5 stars", "4 stars", False),
        ("$5", "5", True),
        ("yes 😀", "yes 😡", False),
        ("!!!", "???", False),
        ("! ! !", "!!!", True),
        ("", " ", True),
    ],
)
def test_the_same_text(one, other, same):
    assert (text_key(one) == text_key(other)) == same


@given(st.text(), st.sampled_from(["", " ", ".", "-", "\u3000", "\u201c"]))
def test_case_and_punctuation_change_no_key(text, mark):
    key = text_key(text)
    letters = any(c.isalnum() for c in text)
    assert text_key(text + mark) == key or not letters
    assert text_key(mark.join(text.split())) == key or not letters


def test_held_out_texts_are_filtered_and_counted():
    held = HeldOut.of([Example("a", "Find movie times")], [Example("1", "One.", "Two?")])
    assert held.filter(["find movie-times", "find movies", "two", "find movies"]) == (["find movies"] * 2, 2)
    pair, half = Example("0", "one", "TWO"), Example("0", "one", "three")
    assert held.filter_examples([pair, half, Example("b", "find MOVIE times!")]) == ([half], 2)
    assert example_key(pair) == ("one", "two")
    assert HeldOut().filter(["a"]) == (["a"], 0)


@given(st.lists(st.text(max_size=12)))
def test_hashes_of_what_was_read(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("read") / "texts-read.xz"
    count = write_text_hashes(path, texts)
    hashes = read_text_hashes(path)
    np.testing.assert_array_equal(hashes, text_hashes(texts))
    assert count == len(hashes) == len({text_key(x) for x in texts})
    shouted = [Example("x", text.upper()) for text in texts if text.upper().casefold() == text.casefold()]
    assert already_read(hashes, shouted) == list(dict.fromkeys(x.text for x in shouted if x.text))
    assert already_read(hashes, [Example("x", "what nobody has written 1234567")]) == []


def test_a_damaged_list_is_refused(tmp_path):
    (tmp_path / "a.xz").write_bytes(lzma.compress(b"\x85"))
    with pytest.raises(InputError, match="ends in the middle"):
        read_text_hashes(tmp_path / "a.xz")
    (tmp_path / "b.xz").write_bytes(lzma.compress(b"\x80" * 12 + b"\x01"))
    with pytest.raises(InputError, match="more than 63 bits"):
        read_text_hashes(tmp_path / "b.xz")
