"""Further heads on one encoder, each of the labels of a file of its own, trained together."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch

from embbert_tvm.errors import InputError
from embbert_tvm.heads import ONE_LABEL
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.training.best import Teaching, run_best
from embbert_tvm.training.job import Job, run_job
from embbert_tvm.training.recipe import Recipe
from embbert_tvm.training.record import read_record
from embbert_tvm.training.sets import read_sets
from embbert_tvm.training.tagging import tag_loss

RECIPE = Recipe(epochs=6, lr=1e-2, batch_size=8, warmup_steps=5, token_dropout=0.0, average=0.5)


@pytest.fixture
def moods(tmp_path):
    """How a text is said, on other texts than the set of labels has."""
    rng = random.Random(1)
    ends = ("good", "bad", "odd") * 60
    found = {f"{end}\tthe {rng.choice('abcdefgh')} {rng.choice('ijklmnop')} {end} day" for end in ends}
    path = tmp_path / "moods.tsv"
    path.write_text("label\ttext\n" + "\n".join(sorted(found)) + "\n")
    return path


def test_two_heads_are_learned_together(tsv, moods, tmp_path, quick):
    job = Job(tsv, tmp_path / "model", RECIPE, preset="quick", wide=False, also={"mood": moods})
    result = run_best(job, Teaching(tmp_path / "unasked"))
    folder = read_folder(job.output)
    (head,) = folder.more
    assert (head.name, head.head, head.labels) == ("mood", ONE_LABEL, ("bad", "good", "odd"))
    assert result.further["mood"] > 0.9
    assert result.value > 0.8
    (kept,) = read_record(job.output).further
    assert (kept["name"], kept["accuracy"]) == ("mood", result.further["mood"])
    assert kept["examples"] == len(read_sets(job).further[0].train)
    assert "Its head `mood`: accuracy" in (job.output / "README.md").read_text()
    model = load_classifier(folder)
    logits, mood = model(torch.tensor([[1, 7, 8]]))
    assert (logits.shape, mood.shape) == ((1, 2), (1, 3))


def test_texts_of_dev_are_left_out_of_further_heads_too(tsv, moods, tmp_path):
    dev = tmp_path / "dev.tsv"
    shared = moods.read_text().splitlines()[1:4]
    dev.write_text("label\ttext\n" + "\n".join(f"on\t{line.split(chr(9))[1].upper()}!" for line in shared) + "\n")
    sets = read_sets(Job(tsv, tmp_path / "m", RECIPE, dev=dev, also={"mood": moods}))
    (found,) = sets.further
    assert (found.left_out, sets.left_out["mood"]) == (3, 3)
    assert not {x.text for x in (*found.train, *found.dev)} & {line.split("\t")[1] for line in shared}
    assert found.dev
    assert not {x.text for x in found.train} & {x.text for x in found.dev}


def test_a_batch_without_tags_costs_nothing():
    assert tag_loss([torch.randn(2, 3, 4)], torch.full((2, 3), -1), 0.1) == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"precision": "int8"}, "several heads, which --precision does not go with"),
        ({"teachers": ("encoder",)}, "several heads, which teachers does not go with"),
        ({"also": {"a mood": None}}, "the name of a head must be a short word"),
    ],
)
def test_what_does_not_go_with_further_heads_is_refused(changed, words, tsv, moods, tmp_path, quick):
    job = Job(tsv, tmp_path / "m", RECIPE, preset="quick", also={"mood": moods})
    if "also" in changed:
        changed = {"also": dict.fromkeys(changed["also"], moods)}
    with pytest.raises(InputError, match=words):
        run_job(dataclasses.replace(job, **changed))


def test_only_the_first_set_may_have_tags(tsv, tmp_path):
    slots = tmp_path / "slots.tsv"
    slots.write_text("label\ttext\ttags\non\tlights on\tB-a O\noff\tlights off\tB-a O\n")
    with pytest.raises(InputError, match="which only the first set may have"):
        read_sets(Job(tsv, tmp_path / "m", RECIPE, also={"mood": slots}))


def test_the_command_takes_a_name_and_a_file_once(cli, tsv, moods, tmp_path):
    for given, words in ((["mood"], "give a name and a file"), ([f"mood={moods}"] * 2, "give each head a name")):
        options = [word for one in given for word in ("--also", one)]
        result = cli("train", tsv, "-o", tmp_path / "m", "--teacher", "none", *options)
        assert (result.status, words in result.err) == (2, True)
