"""Slots: reading, spans and F1 against conlleval's own rules, the best valid tags against all there are."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
import small

from embbert_tvm.data.dataset import Example, examples_sha256, read_examples, write_examples
from embbert_tvm.data.slots import (
    Span,
    decode,
    entity_f1,
    first_tokens,
    follows,
    spans_in_bytes,
    spans_of,
    tag_list,
    word_places,
    word_tags,
)
from embbert_tvm.data.tokenizer import train_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.heads import GREEDY, RULES

TAGS = ("O", "B-time", "I-time", "B-city", "I-city")


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "slots.tsv"
    path.write_text(
        "label\ttext\ttags\nwake\twake me at six sharp\tO O O B-time I-time\n\nrain\tgrüß  Köln\tO B-city\n"
    )
    read = read_examples(path)
    assert read == [
        Example("wake", "wake me at six sharp", None, ("O", "O", "O", "B-time", "I-time")),
        Example("rain", "grüß  Köln", None, ("O", "B-city")),
    ]
    assert tag_list([x.tags for x in read]) == ("O", "B-city", "B-time", "I-time")
    assert tag_list([("I-a", "O")]) == ("O", "B-a", "I-a")
    write_examples(tmp_path / "again.tsv", read)
    again = read_examples(tmp_path / "again.tsv")
    assert [x.tags for x in again] == [x.tags for x in read]
    assert examples_sha256(read) == examples_sha256(again) != examples_sha256([replace(x, tags=None) for x in read])
    for text, words in (
        ("label\ttext\ttags\n", "holds no examples"),
        ("label\ttext\ttags\nx\ta b\tO\n", "line 2: 2 words have 1 tags"),
        ("label\ttext\ttags\nx\ta b\tO X-time\n", "the tag 'X-time' is none of"),
        ("label\ttext\ttags\nx\ta b\tO B-\n", "the tag 'B-' is none of"),
        ("label\ttext\ttags\nx\ta b\n", "line 2: has 2 columns"),
        ("label\ttext\ttags\nx\t \tO\n", "is empty"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            read_examples(path)
    path.write_bytes(b"label\ttext\ttags\nx\t\xff\tO\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_examples(path)


def reference_spans(tags: list[str]) -> set[tuple[int, int, str]]:
    """A span for each pair of ends that conlleval's start and end rules name, with no end between them."""

    def at(place: int) -> tuple[str, str]:
        tag = tags[place] if 0 <= place < len(tags) else "O"
        return tag[0], tag[2:]

    def starts(place: int) -> bool:
        (before, before_slot), (kind, slot) = at(place - 1), at(place)
        return kind == "B" or (kind == "I" and (before == "O" or before_slot != slot))

    def ends(place: int) -> bool:
        (kind, slot), (after, after_slot) = at(place), at(place + 1)
        return kind != "O" and (after in "OB" or after_slot != slot)

    return {
        (i, j + 1, at(i)[1])
        for i, j in itertools.combinations_with_replacement(range(len(tags)), 2)
        if starts(i) and ends(j) and not any(ends(k) for k in range(i, j))
    }


def test_spans_and_f1_are_conllevals():
    rng = random.Random(0)
    texts = [[rng.choice(TAGS) for _ in range(rng.randint(1, 8))] for _ in range(400)]
    texts += [list(row) for row in itertools.product(TAGS, repeat=3)]
    for tags in texts:
        assert {(x.begin, x.end, x.slot) for x in spans_of(tags)} == reference_spans(tags), tags
    others = [[tag if rng.random() < 0.7 else rng.choice(TAGS) for tag in tags] for tags in texts]
    right = sum(len(reference_spans(a) & reference_spans(b)) for a, b in zip(texts, others, strict=True))
    precision = right / sum(len(reference_spans(tags)) for tags in others)
    recall = right / sum(len(reference_spans(tags)) for tags in texts)
    assert entity_f1(texts, others) == pytest.approx(2 * precision * recall / (precision + recall))
    assert entity_f1(texts, texts) == 1
    assert entity_f1([["O"]], [["O"]]) == 0
    assert spans_of(["B-a", "I-a", "B-a", "I-b"]) == [Span(0, 2, "a"), Span(2, 3, "a"), Span(3, 4, "b")]


def test_the_best_tags_are_valid_and_best():
    rng = np.random.default_rng(1)
    for length in (1, 2, 3, 4):
        valid = [
            path
            for path in itertools.product(range(len(TAGS)), repeat=length)
            if all(follows(TAGS[b], "O" if n == 0 else TAGS[path[n - 1]]) for n, b in enumerate(path))
        ]
        for _ in range(20):
            scores = rng.normal(0, 2, (length, len(TAGS)))
            best = max(valid, key=lambda path: sum(scores[n, i] for n, i in enumerate(path)))
            assert decode(scores, TAGS) == [TAGS[i] for i in best]
            greedy = decode(scores, TAGS, GREEDY)
            for n, tag in enumerate(greedy):
                may = [t for t in TAGS if follows(t, greedy[n - 1] if n else "O")]
                assert tag == max(may, key=lambda t, row=scores[n]: row[TAGS.index(t)])
    for rule in RULES:
        assert decode(np.array([[0.0, 0, 9, 0, 0]]), TAGS, rule) != ["I-time"]
        assert decode(np.zeros((0, 5)), TAGS, rule) == []


def test_a_word_without_tokens_ends_a_slot():
    scores = np.full((4, 5), -9.0)
    scores[1, 1] = scores[2, 2] = scores[3, 2] = 9  # B-time I-time I-time, by tokens 1 to 3
    assert word_tags(scores, [1, 2, 3], TAGS) == ["B-time", "I-time", "I-time"]
    for rule in RULES:
        tags = word_tags(scores, [1, None, 3, 7], TAGS, rule)
        assert (tags[:2], tags[2][0] == "I", tags[3]) == (["B-time", "O"], False, "O")
    text = "wake  me ät six ö'clock"
    found = spans_in_bytes(text, ["O", "O", "O", "B-time", "I-time"])
    assert [(text.encode()[b:e].decode(), slot) for b, e, slot in found] == [("six ö'clock", "time")]


def test_words_have_their_first_tokens():
    text = "  turn the  lights off, grüß dich"
    assert [text[a:b] for a, b in word_places(text)] == text.split()
    tokenizer = train_tokenizer([*small.TEXTS] * 3, 300)
    encoded = tokenizer.encode(text)
    places = [
        place if word is not None else None for place, word in zip(encoded.offsets, encoded.word_ids, strict=True)
    ]
    found = first_tokens(text, places)
    assert len(found) == len(text.split())
    assert sorted(found) == found
    for word, (begin, _), token in zip(text.split(), word_places(text), found, strict=True):
        at, end = places[token]
        assert at <= begin < end, word
    assert first_tokens(text, places[: found[2]]) == [*found[:2], None, None, None, None]
