"""Label and tags learned together: from a TSV with tags to a folder that `evaluate` and `train --base` read."""

from __future__ import annotations

import dataclasses
import json
import random

import pytest
import torch

from embbert_tvm.data.slots import decode
from embbert_tvm.errors import InputError
from embbert_tvm.heads import GREEDY, VITERBI
from embbert_tvm.models.config import PRESETS, EmbBertConfig
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.training.best import run_best
from embbert_tvm.training.evaluate import evaluate
from embbert_tvm.training.job import Job, run_job
from embbert_tvm.training.recipe import Recipe
from embbert_tvm.training.sets import made_texts, read_sets

ROOMS = ("kitchen", "hall", "living room", "cellar")
FILLERS = ("please", "now", "again", "today", "quickly", "kindly", "so", "then")
RECIPE = Recipe(epochs=6, lr=1e-2, batch_size=8, warmup_steps=5, token_dropout=0.0, average=0.5)


def lines(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        room, state = rng.choice(ROOMS), rng.choice(("on", "off"))
        tags = ["B-room", *["I-room"] * room.count(" ")]
        before, behind = f"{rng.choice(FILLERS)} turn the lights in the", f"{rng.choice(FILLERS)} {rng.choice(FILLERS)}"
        text = f"{before} {room} {state} {behind}"
        words = ["O"] * len(before.split()) + tags + ["O"] * 3
        found.append(f"{state}\t{text}\t{' '.join(words)}")
    return found


@pytest.fixture
def tagged(tmp_path):
    path = tmp_path / "slots.tsv"
    path.write_text("label\ttext\ttags\n" + "\n".join(lines(160, 0)) + "\n")
    return path


@pytest.fixture
def two_layers(monkeypatch, quick):
    monkeypatch.setitem(PRESETS, "quick", EmbBertConfig(300, 24, 24, 8, kernel_size=3, layers=2))


def test_texts_with_exchanged_values_are_new_and_not_of_dev(tagged, tmp_path):
    dev = tmp_path / "dev.tsv"
    dev.write_text("label\ttext\ttags\n" + "\n".join(lines(400, 1)) + "\n")
    job = Job(tagged, tmp_path / "model", RECIPE, dev=dev)
    sets = read_sets(job)
    made, left_out = made_texts(job, sets)
    assert (made, left_out) == made_texts(job, sets)
    assert left_out["exchanged"] > 0
    assert not {x.text for x in made} & {x.text for x in (*sets.train, *sets.dev)}
    assert len(made) > len(sets.train) / 2  # of three times as many, those that are new
    assert made_texts(dataclasses.replace(job, exchanged=0), sets) == ([], {})


def test_label_and_slots_are_learned_together(tagged, tmp_path, two_layers):
    dev = tmp_path / "dev.tsv"
    dev.write_text("label\ttext\ttags\n" + "\n".join(lines(40, 1)) + "\n")
    out = tmp_path / "model"
    result = run_best(Job(tagged, out, RECIPE, dev=dev, preset="quick", wide=False), None)
    assert result.tagging is not None
    assert set(result.tagging) == {VITERBI, GREEDY}
    best = max(figures.entity_f1 for figures in result.tagging.values())
    assert best > 0.9
    assert (result.metric, result.value) == ("label and tags right", pytest.approx(result.tagging[VITERBI].both))
    folder = read_folder(out)
    (head,) = folder.more
    assert (head.name, head.labels, head.layer) == ("slots", ("O", "B-room", "I-room"), 1)
    assert result.tagging[head.rule].entity_f1 == best
    assert evaluate(folder, dev).tagging == result.tagging[head.rule]
    # A base of the same labels and tags brings its heads along, one of other tags none.
    start = load_classifier(folder).state_dict()["heads.slots.weight"]
    again = Job(
        tagged, tmp_path / "again", dataclasses.replace(RECIPE, epochs=1, lr=1e-9), dev=dev, base=out, wide=False
    )
    run_job(again)
    kept = load_classifier(read_folder(tmp_path / "again")).state_dict()["heads.slots.weight"]
    assert torch.allclose(start, kept, atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"precision": "int8"}, "has tags, which --precision does not go with"),
        ({"tag_layer": 3}, "--tag-layer 3: the model has 2 layers"),
        ({"preset": "hash"}, "a model that hashes words reads no tags"),
    ],
)
def test_what_does_not_go_with_tags_is_refused(changed, words, tagged, tmp_path, two_layers):
    with pytest.raises(InputError, match=words):
        run_job(dataclasses.replace(Job(tagged, tmp_path / "m", RECIPE, preset="quick"), **changed))


def test_sets_with_and_without_tags_do_not_mix(tagged, tmp_path):
    plain = tmp_path / "plain.tsv"
    plain.write_text("label\ttext\non\tlights on\noff\tlights off\n")
    with pytest.raises(InputError, match=r"slots.tsv: has tags, .*plain.tsv has none"):
        read_sets(Job(tagged, tmp_path / "m", RECIPE, dev=plain))
    empty = tmp_path / "empty.tsv"
    empty.write_text("label\ttext\ttags\non\tlights on\tO O\noff\tlights off\tO O\n")
    with pytest.raises(InputError, match="every tag is O"):
        read_sets(Job(empty, tmp_path / "m", RECIPE, dev=empty))
    assert decode(torch.zeros(2, 3).numpy(), ("O", "B-room", "I-room")) == ["O", "O"]


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        ({"name": "slots"}, "heads must be a list"),
        ([{"name": "a b"}], "the name of a head must be a short word"),
        ([{"name": "x", "head": "mood"}], "must be 'one label', 'tokens' or 'vector'"),
        ([{"name": "x", "head": "vector"}], "width must be a number"),
        ([{"name": "x", "head": "tokens", "labels": ["O", "B-a"], "rule": "best"}], "rule 'best' is not known"),
        ([{"name": "x", "head": "tokens", "labels": ["O", "I-a"], "rule": VITERBI}], "the tag I-a has no B-a"),
        ([{"name": "x", "head": "tokens", "labels": ["B-a", "I-a"], "rule": VITERBI}], "the tags lack O"),
        ([{"name": "x", "head": "one label", "labels": ["a"]}], "labels must be two or more"),
        ([{"name": "x", "head": "one label", "labels": ["a", "b"], "layer": 9}], "reads behind layer 9"),
        ([{"name": "x", "head": "one label", "labels": ["a", "b"]}] * 2, "holds a name twice"),
    ],
)
def test_heads_that_cannot_be_are_refused(heads, words, tmp_path):
    document = {"architecture": "embbert", "config": EmbBertConfig().to_dict(), "labels": ["a", "b"], "name": "m"}
    (tmp_path / "config.json").write_text(json.dumps(document | {"heads": heads}))
    with pytest.raises(InputError, match=words):
        read_folder(tmp_path)
