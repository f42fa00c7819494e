"""Tokenizers that the device cannot do, refused by name; the tables of those that it can."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers_by_name import document_of

from embbert_tvm.codegen.tokenizer_tables import pair_tables
from embbert_tvm.codegen.tokenizer_trie import build, codes_of, symbols_of
from embbert_tvm.data.tokenizer_json import read_spec
from embbert_tvm.data.tokenizer_models import read_model
from embbert_tvm.errors import InputError


def first_metaspace(*normalizers_: dict) -> dict:
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True}
    return {"pre_tokenizer": metaspace, "normalizer": {"type": "Sequence", "normalizers": list(normalizers_)}}


def split_by(pattern: str, behavior: str = "Isolated", invert: bool = False) -> dict:
    return {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}}


def replacing(pattern: str) -> dict:
    return {"normalizer": {"type": "Replace", "pattern": {"Regex": pattern}, "content": " "}}


REFUSED = [
    ({"normalizer": {"type": "Nmt"}}, "normalizer Nmt"),
    ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Nmt"}]}}, "normalizer Nmt"),
    (replacing("a|bc"), r"normalizer Replace with the pattern 'a\|bc'"),
    (replacing("(a){2,}"), "normalizer Replace with the pattern"),
    (replacing("a{99,}"), "normalizer Replace with the pattern"),
    ({"pre_tokenizer": {"type": "UnicodeScripts"}}, "pre-tokenizer UnicodeScripts"),
    (split_by("a+b"), "pre-tokenizer Split with the pattern"),
    (split_by(" ", invert=True), "pre-tokenizer Split .*inverted"),
    (split_by("a+", "MergedWithNext"), "MergedWithNext"),
    (first_metaspace({"type": "NFC"}, {"type": "Strip", "strip_left": True, "strip_right": True}), "Strip"),
    (first_metaspace({"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}), "Replace of runs"),
    ({"dropout": 0.1}, "dropout"),
    ({"continuing_subword_prefix": "##", "merges": []}, "continuing_subword_prefix"),
    ({"end_of_word_suffix": "</w>", "merges": []}, "end_of_word_suffix"),
    ({"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 2,
                         "pair": [], "special_tokens": {}}}, "TemplateProcessing with a template"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "named"), REFUSED)
def test_what_the_device_cannot_do_is_refused_by_name(changes, named, tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(document_of("rank beats length", **changes)))
    with pytest.raises(InputError, match=named) as refused:
        read_spec(tmp_path / "t.json")
    assert "--no-tokenizer" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_merge_of_what_the_vocabulary_lacks_is_refused():
    """Such files passed the library and ended in a KeyError."""

    def refuse(what):
        raise InputError(what)

    model = {"type": "BPE", "vocab": {"s": 0, "i": 1}, "merges": [["s", "i"]], "unk_token": None}
    with pytest.raises(InputError, match="a merge of 's' and 'i'"):
        read_model(model, refuse)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=6), st.integers(0, 70_000), min_size=1, max_size=60))
def test_every_token_is_found_in_the_trie_and_nothing_else(vocabulary):
    symbols = symbols_of(vocabulary)
    trie = build(vocabulary, symbols)
    prefixes = {token[:n] for token in vocabulary for n in range(1, len(token) + 1)}
    for token in prefixes:
        node = trie.find(codes_of(token, symbols))
        word, bit = divmod(node, 32)
        assert (int(trie.ends[word]) >> bit & 1) == (token in vocabulary)
        if token in vocabulary:
            before = bin(int(trie.ends[word]) & ((1 << bit) - 1)).count("1")
            assert trie.tokens[int(trie.rank[word]) + before] == vocabulary[token]
    assert trie.find(codes_of(min(vocabulary), symbols) * 9) is None


@settings(max_examples=30, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 999), st.integers(0, 999)), max_size=300))
def test_every_pair_has_its_own_slot(pairs):
    tables = pair_tables(sorted(pairs))
    ranks = [rank for rank in tables.at.tolist() if rank != 0xFFFF]
    assert sorted(ranks) == list(range(len(pairs)))
