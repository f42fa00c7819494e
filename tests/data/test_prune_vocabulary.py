"""A pruned tokenizer encodes its corpus as before, and has nothing that the corpus does not need."""

from __future__ import annotations

import sys

import pytest

from embbert_tvm.data.prune_vocabulary import prune_tokenizer, split_otherwise
from embbert_tvm.errors import InputError
from embbert_tvm.resources import resource

sys.path.insert(0, str(resource("benchmarks")))

from tokenizer_kinds import KINDS, corpus

TEXTS = [*corpus()[:40], "Turn the lights off! [SEP] <mask>", "zq\u00e9 \u4e2d 12,5"]
OTHERS = [*corpus()[300:360], "supercalifragilistic \u65e5\u672c"]
PRUNED = ["EmbBERT", "BERT", "RoBERTa", "llama", "Unigram", "Unigram, byte fallback, unsplit", "WordLevel", "llama-3"]


@pytest.mark.parametrize("name", PRUNED)
def test_the_corpus_is_encoded_as_before(name):
    before = KINDS[name]()
    found = prune_tokenizer(before, [*TEXTS, ("play some", "jazz")])
    assert len(found.kept) == found.tokenizer.get_vocab_size() < before.get_vocab_size()
    for text in TEXTS:
        assert [found.kept[i] for i in found.tokenizer.encode(text).ids] == before.encode(text).ids
    pair = ("play some", "jazz")
    assert [found.kept[i] for i in found.tokenizer.encode(*pair).ids] == before.encode(*pair).ids
    for number, former in enumerate(found.kept):
        assert found.tokenizer.id_to_token(number) == before.id_to_token(former)


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "Unigram"])
def test_every_character_can_still_be_written(name):
    before = KINDS[name]()
    found = prune_tokenizer(before, TEXTS)
    unknown = before.token_to_id("[UNK]" if name == "BERT" else "<unk>")
    for text in OTHERS:
        now = [found.kept[i] for i in found.tokenizer.encode(text).ids]
        assert now.count(unknown) == before.encode(text).ids.count(unknown)
        assert len(now) >= len(before.encode(text).ids)


def test_the_share_of_words_that_change_is_told():
    before = KINDS["BERT"]()
    found = prune_tokenizer(before, TEXTS)
    assert split_otherwise(before, found, TEXTS) == 0
    assert 0 < split_otherwise(before, found, OTHERS) < 0.5
    words = [word for text in OTHERS for word in text.split()]
    changed = sum([found.kept[i] for i in found.tokenizer.encode(w).ids] != before.encode(w).ids for w in words)
    assert split_otherwise(before, found, OTHERS) == pytest.approx(changed / len(words))


def test_the_most_frequent_tokens_stay_where_not_all_may():
    before = KINDS["BERT"]()
    least = len(prune_tokenizer(before, []).kept)
    found = prune_tokenizer(before, TEXTS, least + 10)
    assert len(found.kept) == least + 10
    assert before.token_to_id("the") in found.kept
    with pytest.raises(InputError, match=f"cannot hold the {least} special tokens and single characters"):
        prune_tokenizer(before, TEXTS, least - 1)


def test_hashed_words_have_no_vocabulary_to_prune():
    with pytest.raises(InputError, match="no vocabulary to prune"):
        prune_tokenizer(KINDS["hashed words"](), TEXTS)
