"""Words hashed to ids: against the n-grams' hashes in numpy, which define the same polynomial and mixing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embbert_tvm.data import ngrams
from embbert_tvm.data.hashed_words import SALT, HashedWords, hashed_tokenizer
from embbert_tvm.data.tokenizer import (
    CLS,
    SEP,
    is_embbert,
    load_embbert_tokenizer,
    load_tokenizer,
    save_tokenizer,
    tokenize,
)
from embbert_tvm.errors import InputError

MODEL = HashedWords(buckets=763)
TOKENIZER = hashed_tokenizer(MODEL)
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def in_numpy(model: HashedWords, word: str) -> list[int]:
    """The definition once more, on arrays, by the functions of data/ngrams.py."""
    points = np.array([0x20, *map(ord, word), 0x20], np.uint32)
    whole = ngrams._runs(points, np.array([1]), np.array([len(points) - 1]))
    features = [whole]
    for length in range(model.shortest, model.longest + 1):
        starts = np.arange(max(0, len(points) - length + 1))
        hashes = ngrams._runs(points, starts, starts + length)
        features.append(hashes + np.uint32(length * ngrams.KIND_STEP % 2**32))
    every = np.concatenate(features)
    salts = [np.uint32(k * SALT % 2**32) for k in range(1, model.ids_per_word + 1)]
    found = [ngrams._mixed(whole + salt) for salt in salts[: model.words]]
    found += [ngrams._mixed(ngrams._mixed(every + salt).min(keepdims=True)) for salt in salts[model.words :]]
    return [int(model.first + (int(x[0]) * model.buckets >> 32)) for x in found]


@given(WORDS)
def test_the_ids_are_those_of_the_definition_on_arrays(word):
    for model in (MODEL, HashedWords(97, words=1, runs=3, shortest=1, longest=8, first=0)):
        assert list(model.ids(word)) == in_numpy(model, word)
        assert all(model.first <= i < model.vocabulary for i in model.ids(word))


def test_words_that_are_spelled_alike_share_ids_of_runs_alone():
    def shared(a: str, b: str, ids: slice) -> int:
        return sum(x == y for x, y in zip(MODEL.ids(a)[ids], MODEL.ids(b)[ids], strict=True))

    alike = [
        ("beautiful", "beautifull"),
        ("weather", "wheather"),
        ("restaurant", "restaurants"),
        ("tomorrow", "tomorow"),
    ]
    runs, words = slice(MODEL.words, None), slice(MODEL.words)
    assert sum(shared(a, b, runs) for a, b in alike) >= 8
    assert sum(shared(a, b, words) for a, b in alike) <= 1
    assert sum(shared(a, b, runs) for (a, _), (_, b) in zip(alike, [*alike[1:], alike[0]], strict=True)) <= 1


def test_a_text_is_lower_cased_and_cut_into_words():
    found = TOKENIZER.encode("Turn OFF, it's 20\u00b0 \u5317\u4eac", "ok")
    words = found.tokens[:: MODEL.ids_per_word]
    assert words == ["[CLS]", "turn", "off", ",", "it", "'", "s", "20\u00b0", "\u5317", "\u4eac", "[SEP]", "ok"]
    assert found.ids[8:16] == list(MODEL.ids("turn"))
    assert set(found.ids[:8]) == {CLS}
    assert set(found.ids[80:88]) == {SEP}
    assert found.offsets[::8][:4] == [(0, 0), (0, 4), (5, 8), (8, 9)]
    assert found.sequence_ids[::8] == [None, *[0] * 9, None, 1]


@pytest.mark.parametrize("most", [8, 15, 16, 40, 71])
def test_a_text_is_cut_between_words(most):
    found = tokenize(TOKENIZER, "turn the lights off in the kitchen now", None, most)
    whole = TOKENIZER.encode("turn the lights off in the kitchen now").ids
    assert found.truncated == (most < len(whole))
    assert found.ids == whole[: most // 8 * 8]
    assert TOKENIZER.encode("turn the lights off").ids == whole[:40]  # it is cut no more


def test_of_two_texts_the_longer_gives_way():
    found = tokenize(TOKENIZER, "a b c d e f", "g h", 8 * 7)
    first, second = ([i for word in words for i in MODEL.ids(word)] for words in ("abc", "gh"))
    assert found.ids == [*[CLS] * 8, *first, *[SEP] * 8, *second]


def test_it_is_an_embberts_tokenizer_and_comes_back_from_its_file(tmp_path):
    save_tokenizer(TOKENIZER, tmp_path / "tokenizer.json")
    found = load_embbert_tokenizer(tmp_path / "tokenizer.json", 768)
    assert is_embbert(found)
    assert found.get_vocab_size() == 768
    assert found.encode("play some jazz").ids == TOKENIZER.encode("play some jazz").ids
    with pytest.raises(InputError, match="holds 768 tokens, the model has 700"):
        load_embbert_tokenizer(tmp_path / "tokenizer.json", 700)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"buckets": 0}, "0 buckets"),
        ({"buckets": "763"}, "whole numbers"),
        ({"words": 0, "runs": 0}, "0 ids of a word"),
        ({"longest": 9}, "runs of 3 to 9"),
        ({"seed": 1}, "other settings"),
        ({"words": 5}, "of 9 ids each"),
    ],
)
def test_a_model_that_cannot_be_is_refused(tmp_path, changed, reason):
    document = json.loads(TOKENIZER.to_str())
    document["model"] |= changed
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=reason):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_what_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "HashedWords", "buckets": 9}}))
    with pytest.raises(InputError, match="not a tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")
