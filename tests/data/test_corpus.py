"""Tests of what is made of a corpus: sentences, and texts for a teacher to label."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embbert_tvm.data.corpus import add_noise, exchange_values, mix_sentences, replace_spans
from embbert_tvm.data.dataset import Example

TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "dd", "e"]), max_size=8).map(" ".join), max_size=6)


@pytest.mark.parametrize("make", [mix_sentences, add_noise])
@given(texts=TEXTS, count=st.integers(0, 3))
def test_so_many_of_each_text_the_same_for_a_seed(make, texts, count):
    made = make(texts, count, seed=3)
    assert len(made) == count * len(texts)
    assert made == make(texts, count, seed=3)
    assert set(" ".join(made).split()) <= set(" ".join(texts).split())


def test_mixed_texts_are_the_start_of_one_and_the_end_of_another():
    texts = ["one two three", "four five six"]
    for text in mix_sentences(texts, 20):
        words = text.split()
        assert any(
            words == first.split()[:i] + second.split()[-(len(words) - i) :]
            for first in texts for second in texts for i in range(1, len(words))
        )  # fmt: skip


def test_replaced_spans_are_a_few_words_in_a_row_of_an_auxiliary_text():
    text, other = "play the song of the day", "Reuters - Oil, gas and GOLD!"
    made = replace_spans([text], [other, ""], 200)
    assert len(set(made)) > 50
    words, others = text.split(), ["Reuters", "", "Oil", "gas", "and", "GOLD"]
    possible = {
        " ".join([*words[:i], *filter(None, others[k : k + m]), *words[i + n :]])
        for n in range(1, 5) for i in range(len(words) - n + 1)
        for m in range(1, 5) for k in range(len(others) - m + 1)
    }  # fmt: skip
    left = {" ".join([*words[:i], *words[i + n :]]) for n in range(1, 5) for i in range(len(words) - n + 1)}
    assert set(made) <= possible | left
    first, again, other_seed = (replace_spans([text], [other], 3, seed=n) for n in (0, 0, 1))
    assert first == again != other_seed
    assert all(len(one.split()) <= 4 for one in replace_spans([""], [other], 20))


def test_noised_texts_differ_in_a_few_words():
    text = " ".join(f"w{i}" for i in range(30))
    made = add_noise([text], 200)
    assert sum(x != text for x in made) > 150
    assert len({len(x.split()) for x in made}) > 3
    for changed in made:
        apart = Counter(text.split())
        apart.subtract(changed.split())
        assert sum(map(abs, apart.values())) <= 6


def test_slots_take_the_values_of_other_texts():
    play = Example(
        "play", "play blue monday by new order now", tags=("O", "B-song", "I-song", "O", "B-artist", "I-artist", "O")
    )
    more = Example("play", "abba please", tags=("B-artist", "O"))
    none = Example("stop", "stop it", tags=("O", "O"))
    made = exchange_values([play, more, none], 20)
    assert made == exchange_values([play, more, none], 20)
    assert {x.text for x in made[:20]} == {f"play blue monday by {artist} now" for artist in ("new order", "abba")}
    assert {x.text for x in made[20:40]} == {"abba please", "new order please"}
    assert set(made[40:]) == {none}
    for example in made:
        assert len(example.text.split()) == len(example.tags)
        where = example.text.split().index("new") if "new" in example.text else None
        assert where is None or example.tags[where : where + 2] == ("B-artist", "I-artist")
