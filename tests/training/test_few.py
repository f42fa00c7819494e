"""A classifier of a few sentences a label: a head on an encoder that stays as it is."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from embbert_tvm.data.dataset import Example, read_examples
from embbert_tvm.data.leaks import example_key
from embbert_tvm.data.tokenizer import tokenize
from embbert_tvm.errors import InputError
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.training import best
from embbert_tvm.training import few as few_module
from embbert_tvm.training.best import Teaching, run_best
from embbert_tvm.training.few import FOLDS, _folds, _regression, _scaled, encoder_accuracy, fit_few, learn_vectors
from embbert_tvm.training.finetune import TrainingCallbacks
from embbert_tvm.training.job import Job, run_job
from embbert_tvm.training.recipe import PretrainRecipe, Recipe
from embbert_tvm.training.record import read_record
from embbert_tvm.training.teacher import SentenceTransformersTeacher
from tests.training.conftest import encoder_of

RECIPE = Recipe(epochs=1, lr=1e-3, batch_size=8, warmup_steps=5)


@pytest.fixture
def few(tmp_path):
    """Ten texts of each of three labels, told by words."""
    rng = random.Random(3)
    words = {"play": ("song", "music", "tune"), "weather": ("rain", "sun", "storm"), "light": ("lamp", "bulb", "dark")}
    polite = ("please", "now", "oh")
    lines = [f"{x}\t{rng.choice(polite)} {rng.choice(of)} number {i}" for x, of in words.items() for i in range(10)]
    path = tmp_path / "few.tsv"
    path.write_text("label\ttext\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def base(tsv, tmp_path, quick):
    run_job(Job(tsv, tmp_path / "base", RECIPE, preset="quick", wide=False))
    return tmp_path / "base"


def test_the_encoder_stays_and_every_text_is_learned(few, base, tmp_path):
    job = Job(few, tmp_path / "model", RECIPE, base=base, few=True)
    result = run_best(job, None)
    model = load_classifier(read_folder(job.output)).state_dict()
    of_base = load_classifier(read_folder(base)).state_dict()
    for key, value in of_base.items():
        assert key.startswith("head.") or torch.equal(model[key], value)
    assert model["head.weight"].shape[0] == 3
    assert result.accuracy is not None
    assert result.accuracy > 0.8
    assert "each text by a fit without it" in (job.output / "README.md").read_text()
    assert result.examples == 30
    # The folder's figures are of the texts that it was fitted on: better than those by fits without them.
    again = run_job(Job(few, tmp_path / "again", RECIPE, base=base, few=True))
    assert again.accuracy == result.accuracy


def test_folds_choose_the_ngrams_too(base):
    """Words alone know every text that they were fitted on and no other; they were chosen by the former."""
    model = load_classifier(read_folder(base))
    tokenizer = read_folder(base).tokenizer
    rng = random.Random(1)
    words = ["".join(rng.choices("bcdfghjklmnprst", k=5)) for _ in range(60)]
    texts = [Example("ab"[i % 2], f"{'un' if i % 2 else ''}{word}able") for i, word in enumerate(words)]
    few = texts[:20]
    ids = [tokenize(tokenizer, x.text, None, model.config.max_length).ids for x in few]
    ngrams = fit_few(model, [*ids, *ids], few, few, ["a", "b"]).baseline
    assert ngrams.model.features.longest == 5
    found = ngrams.model.logits([x.text for x in texts[20:]]).argmax(1)
    assert np.mean(["ab"[i] == x.label for i, x in zip(found, texts[20:], strict=True)]) > 0.7
    assert ngrams.dev_accuracy > 0.7


def test_dev_chooses_where_it_is_given(few, base, tmp_path):
    dev = tmp_path / "dev.tsv"
    dev.write_text("label\ttext\nplay\tanother song\nweather\tmore rain\nlight\tthe lamp\n")
    result = run_job(Job(few, tmp_path / "model", RECIPE, base=base, few=True, dev=dev))
    assert result.examples == 3
    assert result.accuracy == 1


@pytest.fixture
def quick_vectors(monkeypatch):
    monkeypatch.setattr("embbert_tvm.training.few.VECTORS", PretrainRecipe(epochs=2, lr=1e-2, warmup_steps=2))
    monkeypatch.setattr("embbert_tvm.training.best.MIXED_FOR_VECTORS", 5)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    words = ["song", "music", "tune", "rain", "sun", "storm", "lamp", "bulb", "dark", "please", "now", "oh", "number"]
    return encoder_of(words, tmp_path_factory.mktemp("encoder"))


def test_the_encoder_learns_a_teachers_vectors(tsv, base, teacher_folder, tmp_path, monkeypatch):
    """By `pretrain`, whose own tests tell that it learns them."""
    folder = read_folder(base)
    texts = [x.text for x in read_examples(tsv)]
    learned = []

    def pretrain(model, data, recipe, checkpoint, progress):
        learned.append(data)
        checkpoint.touch()

    monkeypatch.setattr("embbert_tvm.training.few.pretrain", pretrain)
    learn_vectors(load_classifier(folder), folder.tokenizer, texts, teacher_folder, tmp_path / "model")
    (data,) = learned
    assert data.ids == [tokenize(folder.tokenizer, text, None, folder.config.max_length).ids for text in texts]
    told = SentenceTransformersTeacher(teacher_folder).embed(texts)
    np.testing.assert_allclose(data.vectors, told, atol=1e-3)  # they are kept in float16
    assert not list(tmp_path.glob(".model*"))


@pytest.mark.usefixtures("quick_vectors")
def test_folds_do_not_ask_what_has_learned_their_texts(few, base, encoder, tmp_path, monkeypatch):
    """On one of three draws of CLINC150 they took the n-grams away, which new texts needed."""
    job, notes = Job(few, tmp_path / "model", RECIPE, base=base, few=True, wide=True), []
    progress = TrainingCallbacks(on_note=notes.append)
    monkeypatch.setattr(best, "encoder_accuracy", lambda encoder, train, dev, labels: 0.0)
    alone = run_best(job, Teaching(encoder), progress)
    assert any("it does not teach" in note for note in notes)
    assert read_record(job.output).recipe["teachers"] == []
    before = load_classifier(read_folder(job.output)).state_dict()
    monkeypatch.setattr(best, "encoder_accuracy", lambda encoder, train, dev, labels: 2.0)
    taught = run_best(job, Teaching(encoder), progress)
    assert any(f"learning the vectors of {encoder.name}" in note for note in notes)
    assert read_record(job.output).recipe["teachers"] == [encoder.name]
    after = load_classifier(read_folder(job.output)).state_dict()
    assert any(not torch.equal(after[key], value) for key, value in before.items() if not key.startswith("head."))
    assert taught.kept.name == f"{alone.kept.name}, taught"
    assert (taught.accuracy, read_record(job.output).wide_weight) == (alone.accuracy, alone.wide_weight)
    assert read_record(job.output).left_out == {"train": 0, "mixed": 0}
    assert {path.name for path in tmp_path.iterdir()} == {"few.tsv", "base", "set.tsv", "model"}


@pytest.mark.usefixtures("quick_vectors")
def test_dev_chooses_what_a_teacher_made(few, base, encoder, tmp_path, monkeypatch):
    """Where dev is given, it is asked of the encoder that has learned."""
    dev = tmp_path / "dev.tsv"
    dev.write_text("label\ttext\nplay\tanother song\nweather\tmore rain\nlight\tthe lamp\n")
    order = []
    monkeypatch.setattr("embbert_tvm.training.few.learn_vectors", lambda *arguments: order.append("learned"))
    chosen = few_module._chosen_head
    monkeypatch.setattr(few_module, "_chosen_head", lambda *given: order.append("chosen") or chosen(*given))
    run_job(Job(few, tmp_path / "model", RECIPE, base=base, few=True, teachers=(encoder,), dev=dev, wide=False))
    assert order == ["learned", "chosen"]
    run_job(Job(few, tmp_path / "model", RECIPE, base=base, few=True, teachers=(encoder,), wide=False))
    assert order == ["learned", "chosen", "chosen", "learned"]


def test_an_encoder_is_told_by_its_vectors(few, encoder):
    examples = read_examples(few)
    labels = sorted({x.label for x in examples})
    assert encoder_accuracy(encoder, examples, examples, labels) > 0.6
    shuffled = [replace(x, label=labels[i % 3]) for i, x in enumerate(examples)]
    assert encoder_accuracy(encoder, shuffled, shuffled, labels) < 0.6


def test_pairs_have_no_vectors(base, tmp_path):
    path = tmp_path / "pairs.tsv"
    pairs = [f"{x}\tsong {i}\t{x} tune {i}\n" for i in range(5) for x in ("same", "other")]
    path.write_text("label\ttext\ttext_pair\n" + "".join(pairs))
    result = run_best(Job(path, tmp_path / "model", RECIPE, base=base, few=True), Teaching(tmp_path / "unasked"))
    assert "taught" not in result.kept.name


def test_texts_that_are_held_out_are_not_learned(few, base, tmp_path):
    held = tmp_path / "test.tsv"
    held.write_text("label\ttext\n" + "\n".join(few.read_text().splitlines()[1:7]) + "\n")
    result = run_job(Job(few, tmp_path / "model", RECIPE, base=base, few=True, held_out=(held,)))
    assert result.examples == 30 - len({example_key(x) for x in read_examples(held)})


def test_folds_spread_labels_and_keep_equal_texts_together(few):
    examples = read_examples(few)
    examples += [examples[0]] * 4
    labels = sorted({x.label for x in examples})
    targets = np.array([labels.index(x.label) for x in examples])
    told = []
    for rest, held in _folds(examples, targets):
        assert not set(rest) & set(held)
        assert len({targets[i] for i in held}) == 3
        assert not {example_key(examples[i]) for i in rest} & {example_key(examples[i]) for i in held}
        told += list(held)
    assert sorted(told) == list(range(len(examples)))
    assert len(list(_folds(examples, targets))) == FOLDS


def test_the_scaled_head_is_the_head_on_the_features_themselves():
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (60, 8)) * np.arange(1, 9)
    scaled = _scaled(features, 60)
    assert np.allclose(scaled.rows, features @ scaled.weight.T + scaled.bias)
    assert np.linalg.norm(scaled.rows, axis=1).mean() == pytest.approx(1)
    weight, bias = _regression(scaled.rows, np.arange(60) % 3, 3, 10.0)
    scores = np.exp(scaled.rows @ weight.T + bias)
    likely = scores / scores.sum(1, keepdims=True)
    slope = (likely - np.eye(3)[np.arange(60) % 3]).T @ scaled.rows / 60 + weight / (10.0 * 60)
    assert np.abs(slope).max() < 1e-4


def test_what_does_not_go_with_few_is_refused(few, base, tmp_path):
    with pytest.raises(InputError, match="give --base"):
        Job(few, tmp_path / "m", RECIPE, few=True)
    with pytest.raises(InputError, match="--few fits a head alone: leave out --regression"):
        Job(few, tmp_path / "m", RECIPE, base=base, few=True, regression=True)
