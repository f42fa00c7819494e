"""Tags of words learned from a teacher: what it says of each word, and what a model learns of it."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
import torch

from embbert_tvm.data.dataset import Example
from embbert_tvm.data.slots import entity_f1
from embbert_tvm.errors import InputError
from embbert_tvm.models.config import PRESETS, EmbBertConfig
from embbert_tvm.training import job as job_module
from embbert_tvm.training.batches import UNLABELLED, TokenizedSet, WordTags, in_order
from embbert_tvm.training.best import Teaching, run_best
from embbert_tvm.training.finetune import TrainingCallbacks, distillation_loss
from embbert_tvm.training.job import Job, run_job
from embbert_tvm.training.recipe import TeacherRecipe
from embbert_tvm.training.record import read_record
from embbert_tvm.training.sets import made_texts, read_sets
from embbert_tvm.training.tag_teacher import (
    encode_words,
    is_token_classifier,
    open_tag_teacher,
    split_by_text,
    tags_told,
)
from embbert_tvm.training.task_teacher import is_encoder
from embbert_tvm.training.taught import teachers_figure
from embbert_tvm.training.teacher_goals import TagGoal, goals_of
from embbert_tvm.training.tune_teacher import finetune_teacher
from tests.training.conftest import encoder_of
from tests.training.test_tagging import FILLERS, RECIPE, ROOMS

QUICK = TeacherRecipe(epochs=6, least_steps=0, lr=5e-3, head_times=1, batch_size=8, frozen=0, warmup_steps=2)


def lines(count: int, seed: int) -> list[str]:
    """Texts in which no place tells a room."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        room, state = rng.choice(ROOMS).split(), rng.choice(("on", "off"))
        before, behind = (rng.choices(FILLERS, k=rng.randrange(1, 5)) for _ in range(2))
        tags = ["O"] * len(before) + ["B-room", "I-room"][: len(room)] + ["O"] * (1 + len(behind))
        found.append(f"{state}\t{' '.join([*before, *room, state, *behind])}\t{' '.join(tags)}")
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Train and dev of label and tags."""
    folder = tmp_path_factory.mktemp("slots")
    for name, count, seed in (("train", 120, 0), ("dev", 40, 1)):
        (folder / f"{name}.tsv").write_text("label\ttext\ttags\n" + "\n".join(lines(count, seed)) + "\n")
    return folder


@pytest.fixture(scope="module")
def job(files):
    return Job(files / "train.tsv", files / "model", RECIPE, dev=files / "dev.tsv", preset="quick", wide=False)


@pytest.fixture(scope="module")
def encoder(files, tmp_path_factory):
    words = [line.split("\t")[1] for line in lines(200, 2)]
    return encoder_of(words, tmp_path_factory.mktemp("encoder"), spread=0.1)


@pytest.fixture(scope="module")
def tagger(encoder, job, tmp_path_factory):
    path = tmp_path_factory.mktemp("tagger") / "teacher"
    return finetune_teacher(encoder, TagGoal(read_sets(job)), path, QUICK)


@pytest.fixture(autouse=True)
def two_layers(monkeypatch):
    monkeypatch.setitem(PRESETS, "quick", EmbBertConfig(300, 24, 24, 8, kernel_size=3, layers=2))
    monkeypatch.setattr(job_module, "calibrate", lambda folder, examples: 0)


def test_an_encoder_learns_tags(tagger, encoder, job):
    assert is_encoder(encoder)
    assert not is_encoder(tagger)
    assert is_token_classifier(tagger)
    sets = read_sets(job)
    teacher = open_tag_teacher(tagger)
    assert teacher.tags == sets.tags == ("O", "B-room", "I-room")
    answers = teacher.answers(sets.dev)
    assert answers.shape == (sum(len(x.text.split()) for x in sets.dev), 3)
    assert entity_f1([x.tags for x in sets.dev], tags_told(answers, sets.dev, teacher.tags)) > 0.9
    assert list(goals_of(sets)) == ["", "-tags"]


def test_a_word_that_is_cut_off_has_no_answer(tagger):
    texts = [Example("", "please now so then living room on please now so"), Example("", "please")]
    teacher = open_tag_teacher(tagger, 6)  # [CLS], four words, [SEP]
    first, second = split_by_text(teacher.answers(texts), texts)
    assert np.isnan(first).any(1).tolist() == [False] * 4 + [True] * 6
    assert not np.isnan(second).any()
    assert tags_told(teacher.answers(texts), texts, teacher.tags)[0][4:] == ["O"] * 6


def test_a_tokenizer_that_does_not_tell_places_is_refused():
    class Slow:
        is_fast, name_or_path = False, "slow"

    with pytest.raises(InputError, match="does not tell where its tokens lie"):
        encode_words(Slow(), [Example("", "on")], 8)


def test_a_batch_has_the_teachers_logits_at_first_tokens():
    """What no teacher has said is NaN, and no tag at all is UNLABELLED: neither is learned from."""
    soft = [np.array([[1, 2], [3, 4]], np.float32), np.array([[5, 6], [np.nan, np.nan]], np.float32)]
    tags = WordTags(("O", "B-a"), [("O", "B-a"), ("", "")], [[1, 3], [1, None]], soft)
    (batch,) = in_order(TokenizedSet([[2, 9, 9, 9], [2, 9]], [0, UNLABELLED], 0, tags=tags), 2)
    long, short = batch.rows.index(0), batch.rows.index(1)
    assert batch.tags[long].tolist() == [UNLABELLED, 0, UNLABELLED, 1]
    assert batch.tags[short].tolist() == [UNLABELLED] * 4
    known = ~batch.tag_teacher.isnan().any(2)
    assert known[long].tolist() == [False, True, False, True]
    assert known[short].tolist() == [False, True, False, False]
    assert batch.tag_teacher[known].sort(0).values.tolist() == [[1, 2], [3, 4], [5, 6]]
    logits = torch.randn(3, 2)
    assert distillation_loss(logits, batch.tag_teacher[known], 1.0).isfinite()


def test_texts_for_teachers_follow_those_with_labels(job, tagger):
    sets = read_sets(job)
    made, left_out = made_texts(dataclasses.replace(job, teachers=(tagger,), mixed=1), sets)
    labelled = [bool(x.label) for x in made]
    assert labelled == sorted(labelled, reverse=True)
    assert 0 < sum(labelled) < len(made)
    assert {"exchanged", "mixed"} <= set(left_out)


def test_dev_decides_whether_a_teacher_of_tags_teaches(job, encoder, tmp_path):
    """`train` was silent on teachers wherever a set had tags, and `distill` refused it."""
    mine = dataclasses.replace(job, output=tmp_path / "mine", recipe=dataclasses.replace(RECIPE, epochs=1))
    notes: list[str] = []
    result = run_best(mine, Teaching(encoder, QUICK), TrainingCallbacks(on_note=notes.append))
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {
        "mine", "mine-teacher", "mine-teacher-tags",
    }  # fmt: skip
    dev = read_sets(job).dev
    both = teachers_figure([tmp_path / "mine-teacher", tmp_path / "mine-teacher-tags"], dev)
    assert any(f"on dev the teacher has {both:.4f}" in note for note in notes)
    assert any("entity F1" in note and "mine-teacher-tags" in note for note in notes)
    taught = ["mine-teacher", "mine-teacher-tags"] if result.kept.name == "EmbBERT, taught" else []
    assert read_record(mine.output).recipe["teachers"] == taught


def test_what_a_teacher_says_of_words_is_learned(job, tagger, tmp_path):
    """With tags that say nothing, a model learns them from its teacher alone."""
    recipe = dataclasses.replace(RECIPE, teacher_weight=1.0)
    result = run_job(dataclasses.replace(job, output=tmp_path / "m", recipe=recipe, teachers=(tagger,)))
    assert max(x.entity_f1 for x in result.tagging.values()) > 0.9
    # And such a model teaches in its turn, label and tags.
    teacher = open_tag_teacher(tmp_path / "m")
    dev = read_sets(job).dev
    assert entity_f1([x.tags for x in dev], tags_told(teacher.answers(dev), dev, teacher.tags)) > 0.9
    assert teachers_figure([tmp_path / "m"], dev) == pytest.approx(result.tagging["viterbi"].both)


def test_teachers_of_other_tags_are_refused(job, tagger, tmp_path):
    other = tmp_path / "slots.tsv"
    other.write_text(
        "label\ttext\ttags\n" + "\n".join(lines(30, 3)).replace("room\t", "room\t").replace("-room", "-place")
    )
    with pytest.raises(InputError, match="does not know the tag B-place"):
        run_job(dataclasses.replace(job, output=tmp_path / "m", train=other, dev=None, teachers=(tagger,)))
    plain = tmp_path / "plain.tsv"
    plain.write_text("label\ttext\n" + "\n".join("\t".join(x.split("\t")[:2]) for x in lines(30, 3)))
    with pytest.raises(InputError, match=r"knows tags, .*plain.tsv has none"):
        run_job(dataclasses.replace(job, output=tmp_path / "m", train=plain, dev=None, teachers=(tagger,)))
