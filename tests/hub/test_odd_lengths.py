"""Graphs that have other rows than the text has tokens, or that run at few lengths."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from small import normal
from test_fixed import CLASSES, LENGTH, VOCABULARY, WIDTH, answer, model

import embbert_tvm
from embbert_tvm import CompileOptions
from embbert_tvm.device.package import load_package, load_vectors
from embbert_tvm.graph.door import normalize

ANY = "(int64[N,L] ids) => (float[N,C] out)"
POOLED = """
    x = Gather(table, ids) t = Transpose<perm = [0, 2, 1]>(x)
    c = Conv<kernel_shape = [3], pads = [1, 1]>(t, taps, bias) r = Relu(c)
    p = MaxPool<kernel_shape = [2], strides = [2]>(r)
    d = Conv<kernel_shape = [3], pads = [1, 1]>(p, taps, bias) s = Relu(d)
    y = ReduceMean<keepdims = 0>(s, ends) out = MatMul(y, fc)
"""
BIGRAMS = """
    l = Shape<start = 1, end = 2>(ids) m = Sub(l, axis) a = Slice(ids, zero, m, axis) b = Slice(ids, axis, l, axis)
    c = Mul(a, factor) d = Add(c, b) e = Mod(d, rows) f = Gather(pairs, e) g = ReduceMean<keepdims = 0>(f, axis)
    x = Gather(table, ids) v = ReduceMean<keepdims = 0>(x, axis) w = Add(g, v) out = MatMul(w, fc)
"""
OWN = {
    "taps": normal(WIDTH, WIDTH, 3), "bias": normal(WIDTH), "zero": np.array([0]), "factor": np.array(31),
    "rows": np.array(37), "pairs": normal(37, WIDTH),
}  # fmt: skip


@pytest.mark.parametrize(("body", "shortest"), [(POOLED, 2), (BIGRAMS, 2)], ids=["a stride", "bigrams"])
def test_other_rows_than_tokens_in_integers(body, shortest, tmp_path):
    """A share of the rows, which a row block took for as many less a number, and look-ups of one row fewer."""
    given = model(ANY, body, **OWN)
    onnx.save(given, tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, VOCABULARY, n) for n in (2, 3, 5, 9, 12, 20, 29)]
    (tmp_path / "ids.jsonl").write_text("".join(f"{ids.tolist()}\n" for ids in texts))
    options = CompileOptions("int8", max_length=LENGTH, calibration=tmp_path / "ids.jsonl")
    made = embbert_tvm.compile(tmp_path / "m.onnx", "host", tmp_path / "p", options)
    assert json.loads((tmp_path / "p/metadata.json").read_text())["min_length"] == shortest
    expected = np.array([answer(given, ids=ids[None])[0] for ids in texts])
    with made.open() as device:
        for vector in load_vectors(load_package(tmp_path / "p")):
            np.testing.assert_array_equal(device.run(vector.ids).logits, vector.logits)
        found = np.array([device.run(ids.tolist()).logits for ids in texts])
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_a_graph_of_one_length_is_told_from_others_by_several(tmp_path):
    """One length below the one that a file has does not tell what follows it: a shape was taken for a constant."""
    body = """x = Gather(table, bytes) t = Transpose<perm = [0, 2, 1]>(x) n = Shape(t) f = Reshape(t, flat)
        s = Sigmoid(f) u = Reshape(s, n) y = ReduceMean<keepdims = 0>(u, ends) out = MatMul(y, fc)"""
    given = model("(int32[1,11] bytes) => (float[1,C] out)", body, flat=np.array([0, -1]))
    door = normalize(given)
    assert (door.least, door.most) == (11, 11)
    ids = np.arange(11)[None]
    np.testing.assert_allclose(answer(door.model, ids=ids), answer(given, bytes=ids.astype(np.int32)), atol=1e-6)


@pytest.mark.parametrize("precision", ["int4", "int6", "ternary"])
def test_a_window_over_a_table_of_few_bits(precision, tmp_path):
    """A table's rounding follows from all taps of what reads it."""
    body = """x = Gather(table, ids) t = Transpose<perm = [0, 2, 1]>(x)
        c = Conv<kernel_shape = [3], pads = [1, 1]>(t, taps, bias) r = Relu(c)
        y = ReduceMax<keepdims = 0>(r, ends) out = MatMul(y, fc)"""
    given = model(ANY, body, **OWN)
    onnx.save(given, tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, VOCABULARY, n) for n in (3, 5, 9, 12, 20, 29)]
    (tmp_path / "ids.jsonl").write_text("".join(f"{ids.tolist()}\n" for ids in texts))
    options = CompileOptions(precision, max_length=LENGTH, calibration=tmp_path / "ids.jsonl")
    made = embbert_tvm.compile(tmp_path / "m.onnx", "host", tmp_path / "p", options)
    expected = np.array([answer(given, ids=ids[None])[0] for ids in texts])
    with made.open() as device:
        found = np.array([device.run(ids.tolist()).logits for ids in texts])
    cosine = (found * expected).sum() / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > (0.8 if precision == "ternary" else 0.98)


def test_a_length_that_the_exporter_wrote_down():
    """As nn.MultiheadAttention through the old exporter, whatever axes were said to be dynamic."""
    body = "x = Gather(table, ids) h = Reshape(x, cut) y = ReduceMean<keepdims = 0>(h, axis) out = MatMul(y, fc)"
    given = model(ANY, body, cut=np.array([1, 11, WIDTH]))
    door = normalize(given)
    assert (door.least, door.most) == (11, 11)
    assert "wrote the length 11" in " ".join(door.notes)
    ids = np.arange(11)[None]
    np.testing.assert_allclose(answer(door.model, ids=ids), answer(given, ids=ids), atol=1e-6)


def test_a_text_of_which_nothing_finite_comes_is_too_short():
    """A variance over all but one token."""
    body = """
        x = Gather(table, ids) s = ReduceSum<keepdims = 0>(x, axis) n = Shape<start = 1, end = 2>(ids) m = Sub(n, axis)
        f = Cast<to = 1>(m) z = Div(s, f) o = MatMul(z, fc) out = Add(o, tail)
    """
    door = normalize(model(ANY, body, tail=normal(CLASSES)))
    assert door.least == 2


@pytest.mark.parametrize(
    "cut",
    [
        "x = Gather(table, ids) r = Slice(x, two, most, axis)",
        "s = Slice(ids, two, most, axis) r = Gather(table, s)",
    ],
    ids=["rows", "ids"],
)
@pytest.mark.parametrize(("kind", "least"), [("ReduceMean", 3), ("ReduceSum", 2)])
def test_a_text_of_which_nothing_is_left_to_average_is_too_short(kind, least, cut):
    """onnxruntime makes 0 of the mean of no rows; a slice from 2 of fewer tokens is no L - 2 of them."""
    rows = f"{cut} y = {kind}<keepdims = 0>(r, axis) out = MatMul(y, fc)"
    assert normalize(model(ANY, rows, two=np.array([2]), most=np.array([2**31]))).least == least
