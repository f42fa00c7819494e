"""A sketch of n-grams: rows that are spelled, not stored; and what is asked of its folder."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from embbert_tvm.data.ngrams import NgramFeatures, hash_texts
from embbert_tvm.errors import InputError
from embbert_tvm.models.ngrams import NgramModel, load_ngram_model, read_ngram_folder, sign_rows, sketch

TEXTS = ["turn the lights off", "turn the lights on", "what is the weather like", "", "turn the lights off " * 50]


def test_its_rows_are_all_of_two_signs_each_once():
    rows = sign_rows(np.arange(4 * 5**2), 5)
    pairs = {(i, s, j, t) for i in range(5) for s in (-1, 1) for j in range(5) for t in (-1, 1)}
    expected = np.zeros((100, 5), int)
    for row, (i, s, j, t) in zip(expected, sorted(pairs), strict=True):
        row[i] += s
        row[j] += t
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, expected.tolist()))


def test_its_logits_are_those_of_the_same_rows_in_a_table():
    model = sketch(16, 0.7)
    table = sign_rows(np.arange(4 * 16**2), 16)
    stored = NgramModel(model.features, tuple(map(str, range(16))), table, model.scale, model.bias)
    np.testing.assert_array_equal(model.logits(TEXTS), stored.logits(TEXTS))
    assert (model.bytes, stored.bytes) == (64, 64 + 4 * 16**2 * 16)


def test_its_inner_products_are_about_those_of_the_bags():
    """Of a bag of n features: the length is scale sqrt(2), and the cosine of two texts that of their counts."""
    model, many = sketch(512, 1.0), NgramFeatures(2**20)
    texts = [*TEXTS[:3], "turn the kitchen lights off please", "what will the weather be like tomorrow"]
    found = model.logits(texts).astype(float)
    bags = hash_texts(many, texts)
    counts = np.zeros((len(texts), 2**20))
    for i in range(len(texts)):
        np.add.at(counts[i], bags.of(i), 1)
    expected = 2 * (counts @ counts.T) / np.sqrt(np.outer(*[np.diff(bags.starts)] * 2))
    np.testing.assert_allclose(found @ found.T, expected, atol=0.25)


def test_its_folder_is_read_back_and_is_no_model_of_its_own(tmp_path):
    model = sketch(16, 0.7)
    model.save(tmp_path)
    back = load_ngram_model(tmp_path)
    assert (back.table, back.labels, back.features) == (None, (), model.features)
    np.testing.assert_array_equal(back.logits(TEXTS), model.logits(TEXTS))
    with pytest.raises(InputError, match="no model of its own"):
        read_ngram_folder(tmp_path)


def test_a_folder_whose_parts_do_not_fit_is_refused(tmp_path):
    model = sketch(16, 0.7)
    for n, (change, named) in enumerate(
        [
            ({"buckets": 1000}, "1024 buckets of signs"),
            ({"labels": ["a", "b"]}, "table"),
            ({"projection": np.ones((16, 16), np.int8)}, "1024 buckets of signs"),
        ]
    ):
        folder = tmp_path / str(n)
        model.save(folder)
        config = json.loads((folder / "config.json").read_text())
        tensors = load((folder / "model.safetensors").read_bytes())
        config["config"] |= {k: v for k, v in change.items() if k == "buckets"}
        config |= {k: v for k, v in change.items() if k == "labels"}
        tensors |= {k: v for k, v in change.items() if k == "projection"}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").write_bytes(save(tensors))
        with pytest.raises(InputError, match=named):
            load_ngram_model(folder)


def test_features_are_the_callers():
    kinds = NgramFeatures(1, words=1, shortest=2, longest=3)
    assert sketch(8, 1.0, kinds).features == dataclasses.replace(kinds, buckets=4 * 8**2)
