"""The linear model: fitted, rounded, saved."""

import random

import numpy as np
import pytest
import torch

from embbert_tvm.data.dataset import Example, read_examples
from embbert_tvm.data.ngrams import NgramFeatures, hash_texts
from embbert_tvm.errors import InputError
from embbert_tvm.models.ngrams import load_ngram_model
from embbert_tvm.training import linear, linear_problems
from embbert_tvm.training.linear import fit_ngrams, with_buckets
from embbert_tvm.training.linear_problems import (
    FullRank,
    SparseTexts,
    frequency_weights,
    minimize,
    ratio_weights,
)

RNG = random.Random(0)
WORDS = ["".join(RNG.choices("bcdfghjklmnprst", k=5)) for _ in range(60)]


def shipped(split, count):
    from embbert_tvm.resources import resource

    return read_examples(resource("data") / "snips" / f"{split}.tsv.xz")[:count]


@pytest.fixture(scope="module")
def fit():
    train = shipped("train", 2000)
    return fit_ngrams(train, shipped("dev", 300), sorted({x.label for x in train}))


def test_it_is_no_bad_baseline(fit):
    test = shipped("test", 700)
    found = fit.model.logits([x.text for x in test]).argmax(1)
    accuracy = np.mean([fit.model.labels[i] == x.label for i, x in zip(found, test, strict=True)])
    assert accuracy > 0.93
    assert fit.model.bytes <= 60_000 + 4 * 7
    assert fit.dev_accuracy == max(accuracy for _, accuracy in fit.tried)
    assert fit.strength == next(strength for strength, accuracy in fit.tried if accuracy == fit.dev_accuracy) or len(
        {accuracy for _, accuracy in fit.tried}
    ) < len(fit.tried)


def test_the_same_data_give_the_same_model_and_it_is_read_as_written(fit, tmp_path, monkeypatch):
    train = shipped("train", 2000)
    monkeypatch.setattr(linear_problems, "_TEXTS", 100)
    again = fit_ngrams(train, shipped("dev", 300), fit.model.labels)
    np.testing.assert_array_equal(again.model.table, fit.model.table)
    fit.model.save(tmp_path)
    read = load_ngram_model(tmp_path)
    assert (read.features, read.labels) == (fit.model.features, fit.model.labels)
    texts = ["play some jazz", ""]
    np.testing.assert_array_equal(read.logits(texts), fit.model.logits(texts))


def test_dev_chooses_between_words_with_characters_and_words_alone():
    """Characters tell what words that train lacks are like, and fill a small table where the order of words counts."""
    letters = [Example("ab"[i % 2], f"{'un' if i % 2 else ''}{word}able") for i, word in enumerate(WORDS)]
    assert fit_ngrams(letters[:30], letters[30:], ["a", "b"], table_bytes=4000).model.features.longest == 5
    said = [(RNG.choice(("early late", "late early")), RNG.choices(WORDS, k=5)) for _ in range(300)]
    orders = [Example(order[0], " ".join([order, *others])) for order, others in said]
    assert fit_ngrams(orders[:200], orders[200:], ["e", "l"], table_bytes=200).model.features.longest == 0


def test_weights_by_ratios_are_how_unlike_the_labels_use_of_a_bucket_is():
    features = NgramFeatures(997, words=1, longest=0)
    texts = ["both red", "both red", "both", "both", "both blue", "both"]
    targets = np.array([0, 0, 0, 1, 1, 1])
    weights = ratio_weights(hash_texts(features, texts), targets, 997, 2).numpy()
    both, red, blue, none = hash_texts(features, ["both", "red", "blue", "green"]).buckets
    assert weights[both] == 0
    assert weights[none] == 0
    np.testing.assert_allclose(weights[red], np.sqrt(np.log((3 / 5) / (1 / 5))), rtol=1e-6)
    np.testing.assert_allclose(weights[blue], np.sqrt(np.log((2 / 5) / (1 / 5))), rtol=1e-6)
    relabelled = ratio_weights(hash_texts(features, texts), 1 - targets, 997, 2).numpy()
    np.testing.assert_allclose(weights, relabelled, rtol=1e-6)


def test_dev_chooses_whether_weights_grow_by_ratios(monkeypatch):
    """Of many words few tell the label; where each text has one, what else it has is held down."""
    words = [f"word{i}" for i in range(3000)]
    telling = [("good", "fine"), ("bad", "poor")]
    examples = []
    for i in range(400):
        text = [*RNG.choices(words, k=30), RNG.choice(telling[i % 2])]
        examples.append(Example("ab"[i % 2], " ".join(RNG.sample(text, len(text)))))
    train, dev = examples[:200], examples[200:]
    found = fit_ngrams(train, dev, ["a", "b"])
    monkeypatch.setattr(linear, "ratio_weights", lambda bags, targets, buckets, labels: torch.ones(buckets))
    assert found.dev_accuracy > fit_ngrams(train, dev, ["a", "b"]).dev_accuracy + 0.05


def test_a_new_strength_is_minimized_from_the_weights_of_the_one_before():
    """Of many buckets the first step down the gradient is so short that the loss hardly changes: it is not the last."""
    words = [f"w{i}" for i in range(100_000)]
    texts = [" ".join(RNG.choices(words, k=100)) for _ in range(4000)]
    features = NgramFeatures(400_000, words=2, longest=0)
    bags = hash_texts(features, texts)
    matrix = SparseTexts.of(bags, frequency_weights(bags, features.buckets))
    problem = FullRank(matrix, torch.tensor([RNG.randrange(2) for _ in texts]), features.buckets, 1)
    before = minimize(problem, problem.start(), 30.0)
    after = minimize(problem, before, 100.0)
    assert float(problem.loss_and_gradient(after, 0.0)[0]) < 0.8 * float(problem.loss_and_gradient(before, 0.0)[0])


def test_two_classes_pairs_and_labels_that_train_lacks(monkeypatch):
    train = [Example("same" if i % 2 else "other", f"word{i % 5}", f"word{(i % 5 + 1 - i % 2)}") for i in range(60)]
    train += [Example("same", "yes", "yes"), Example("other", "yes", "no")]
    fit = fit_ngrams(train, [*train[:20], Example("new", "a", "b")], ["other", "same"], table_bytes=5000)
    assert fit.model.table.shape == (5000, 1)
    logits = fit.model.logits(["yes", "yes"], ["yes", "no"])
    assert logits.shape == (2, 2)
    np.testing.assert_array_equal(logits[:, 0], -logits[:, 1])
    assert logits.argmax(1).tolist() == [1, 0]
    assert fit.dev_accuracy <= 20 / 21
    assert [strength for strength, _ in fit.tried] == list(linear.STRENGTHS[: len(fit.tried)])
    monkeypatch.setattr(linear, "_MANY_FEATURES", 10)
    fit = fit_ngrams(train, train[:20], ["other", "same"], table_bytes=5000)
    assert [strength for strength, _ in fit.tried] == list(linear.FEW_STRENGTHS[: len(fit.tried)])


def test_sizes():
    assert with_buckets(NgramFeatures(1, words=3), 10**9) == NgramFeatures(2**24 - 1, words=3)
    with pytest.raises(InputError, match="room for no bucket"):
        fit_ngrams([Example("a", "x"), Example("b", "y"), Example("c", "z")], [], ["a", "b", "c"], table_bytes=2)


def test_what_is_no_such_model(fit, tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_ngram_model(tmp_path)
    fit.model.save(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"ngrams"', '"embbert"'))
    with pytest.raises(InputError, match="not 'ngrams'"):
        load_ngram_model(tmp_path)
    (tmp_path / "config.json").write_text(config.replace('"buckets": ', '"buckets": 1'))
    with pytest.raises(InputError, match="do not fit"):
        load_ngram_model(tmp_path)
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="not a model of n-grams"):
        load_ngram_model(tmp_path)


def test_many_classes_are_projected_from_fewer_columns():
    labels = [f"intent{i}" for i in range(40)]
    train = [Example(label, f"{word} {label} please") for label in labels for word in ("give", "show", "find", "get")]
    dev = [Example(label, f"now {label}") for label in labels]
    fit = fit_ngrams(train, dev, labels, table_bytes=20_000)
    assert fit.model.projection.shape == (14, 40)
    assert fit.model.table.shape == ((20_000 - 14 * 40) // 14, 14)
    assert fit.model.bytes <= 20_000 + 4 * 40
    assert fit.dev_accuracy > 0.9
    assert [strength for strength, _ in fit.tried] == list(linear.LOW_RANK_STRENGTHS[: len(fit.tried)])
