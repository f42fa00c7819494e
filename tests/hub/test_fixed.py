"""Models of one length, models that end in scores, tables multiplied by one-hot vectors, and ids to calibrate on."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser
from small import classifier, normal, operators
from test_folder import tokenizer

import embbert_tvm
from embbert_tvm import CompileOptions
from embbert_tvm.data.calibration_texts import calibration_ids, check_ids
from embbert_tvm.errors import InputError
from embbert_tvm.graph.door import normalize
from embbert_tvm.graph.door.cut_tables import cut_tables
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.source import read_labels

LENGTH, VOCABULARY, WIDTH, CLASSES = 32, 63, 8, 3
_HEAD = '<ir_version: 10, opset_import: ["": 18]> g '
_WEIGHTS = {
    "table": normal(VOCABULARY, WIDTH),
    "places": normal(1, LENGTH, WIDTH),
    "fc": normal(WIDTH, CLASSES),
    "axis": np.array([1]),
    "ends": np.array([2]),
    "numbers": np.arange(VOCABULARY, dtype=np.int32).reshape(1, 1, -1),
    "flat": np.array([-1, LENGTH * WIDTH]),
    "wide": normal(LENGTH * WIDTH, CLASSES),
    "low": np.array(-np.inf, np.float32),
}


def model(signature: str, body: str, **weights: np.ndarray) -> onnx.ModelProto:
    made = parser.parse_model(f"{_HEAD}{signature} {{\n{body}\n}}")
    used = {name for node in made.graph.node for name in node.input}
    known = {**_WEIGHTS, **weights}
    made.graph.initializer.extend(numpy_helper.from_array(known[name], name) for name in known if name in used)
    onnx.checker.check_model(made)
    return made


def answer(given: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(given.SerializeToString()).run(None, inputs)[0]


FLAT = "x = Gather(table, bytes) y = Reshape(x, flat) out = MatMul(y, wide)"
MEAN = "x = Gather(table, bytes) y = ReduceMean<keepdims = 0>(x, axis) out = MatMul(y, fc)"
ONE_LENGTH = f"(int32[1,{LENGTH}] bytes) => (float[1,C] out)"
MASKED = f"(int64[1,{LENGTH}] input_ids, int64[1,{LENGTH}] attention_mask) => (float[1,C] out)"
MASKED_MEAN = """
    x = Gather(table, input_ids) m = Cast<to = 1>(attention_mask) w = Unsqueeze(m, ends) v = Mul(x, w)
    s = ReduceSum<keepdims = 0>(v, axis) n = ReduceSum<keepdims = 1>(m, axis) y = Div(s, n) out = MatMul(y, fc)
"""
MASKED_PLACES = MASKED_MEAN.replace("v = Mul(x, w)", "p = Add(x, places) v = Mul(p, w)")


@pytest.mark.parametrize("body", [FLAT, MEAN])
def test_a_model_of_one_length_without_a_mask_takes_that_length(body):
    given = model(ONE_LENGTH, body)
    door = normalize(given)
    assert (door.least, door.most) == (LENGTH, LENGTH)
    ids = np.arange(LENGTH, dtype=np.int64)[None] % VOCABULARY
    np.testing.assert_allclose(answer(door.model, ids=ids), answer(given, bytes=ids.astype(np.int32)), atol=1e-5)


def test_a_model_of_one_length_takes_shorter_texts_where_its_mask_leaves_padding_out():
    door = normalize(model(MASKED, MASKED_MEAN))
    assert (door.least, door.most) == (1, LENGTH)
    ids, mask = np.zeros((1, LENGTH), np.int64), np.zeros((1, LENGTH), np.int64)
    ids[0, :3], mask[0, :3] = (4, 9, 2), 1
    expected = answer(model(MASKED, MASKED_MEAN), input_ids=ids, attention_mask=mask)
    np.testing.assert_allclose(answer(door.model, ids=ids[:, :3]), expected, atol=1e-5)


def test_what_a_text_lacks_is_padding(tmp_path):
    """Positions of one length hold the model to it: a text is filled up, and its mask leaves that out."""
    given = model(MASKED, MASKED_PLACES)
    onnx.save(given, tmp_path / "m.onnx")
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    made = embbert_tvm.compile(tmp_path / "m.onnx", "host", tmp_path / "p", CompileOptions("fp32"))
    metadata = json.loads((tmp_path / "p" / "metadata.json").read_text())
    assert (metadata["min_length"], metadata["max_length"], metadata["padding"]) == (LENGTH, LENGTH, 0)
    text = "turn off the lights"
    own = tokenizer().encode(text).ids
    ids, mask = np.zeros((1, LENGTH), np.int64), np.zeros((1, LENGTH), np.int64)
    ids[0, : len(own)], mask[0, : len(own)] = own, 1
    logits = answer(given, input_ids=ids, attention_mask=mask)[0]
    with made.open() as device:
        np.testing.assert_allclose(device.run(own).logits, logits, atol=1e-5)
        scores = device.classify(text).scores
    np.testing.assert_allclose(list(scores.values()), np.exp(logits) / np.exp(logits).sum(), atol=1e-5)


BODY = "x = Gather(table, ids) y = ReduceMean<keepdims = 0>(x, axis) z = MatMul(y, fc)"
DECOMPOSED = f"""{BODY} last = Constant<value = int64[1] {{1}}>() m = ReduceMax(z, last) k = Max(low, m)
    d = Sub(z, k) e = Exp(d) s = ReduceSum(e, last) out = Div(e, s)"""


@pytest.mark.parametrize(
    ("body", "many"),
    [
        (f"{BODY} out = Softmax<axis = -1>(z)", False),
        (f"{BODY} out = LogSoftmax<axis = 1>(z)", False),
        (DECOMPOSED, False),
        (f"{BODY} out = Sigmoid(z)", True),
    ],
)
def test_scores_at_the_end_become_logits(body, many):
    door = normalize(model("(int64[N,L] ids) => (float[N,C] out)", body))
    ids = np.array([[3, 7, 9]])
    np.testing.assert_allclose(
        answer(door.model, ids=ids), _WEIGHTS["table"][[3, 7, 9]].mean(0, keepdims=True) @ _WEIGHTS["fc"], atol=1e-5
    )
    assert door.many_labels == many


def test_scores_of_a_vector_stay():
    given = model("(int64[N,L] ids) => (float[N,C] out)", f"{BODY} out = Sigmoid(z)")
    door = normalize(given, keeps_scores=True)
    ids = np.array([[3, 7, 9]])
    np.testing.assert_allclose(answer(door.model, ids=ids), answer(given, ids=ids), atol=1e-6)


def test_a_sigmoid_gives_each_label_a_score_of_its_own(tmp_path):
    onnx.save(model("(int64[N,L] ids) => (float[N,C] out)", f"{BODY} out = Sigmoid(z)"), tmp_path / "m.onnx")
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    loaded = embbert_tvm.load_model(tmp_path / "m.onnx", "on,off,dim")
    made = embbert_tvm.compile(loaded, "host", tmp_path / "p", CompileOptions("fp32", max_length=8))
    ids = tokenizer().encode("play").ids
    with made.open() as device:
        scores = device.classify("play").scores
    logits = _WEIGHTS["table"][ids].mean(0) @ _WEIGHTS["fc"]
    np.testing.assert_allclose([scores[name] for name in ("on", "off", "dim")], 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_a_one_hot_product_is_a_lookup():
    body = """i = Unsqueeze(ids, ends) q = Equal(i, numbers) h = Cast<to = 1>(q) x = MatMul(h, table)
        y = ReduceMean<keepdims = 0>(x, axis) out = MatMul(y, fc)"""
    given = model("(int32[N,L] ids) => (float[N,C] out)", body)
    found = operators(simplify(import_onnx(given)))
    assert (found["take"], found["matmul"], found["equal"]) == (1, 1, 0)


def test_a_shorter_longest_text_has_fewer_positions(tmp_path):
    """The table of positions has rows for the longest text alone, and says the same of each."""
    body = """n = Shape<start = 1, end = 2>(ids) z = Constant<value = int64[1] {0}>()
        one = Constant<value = int64[1] {1}>() p = Slice(places, z, n, one) x = Gather(table, ids)
        v = Add(x, p) y = ReduceMean<keepdims = 0>(v, axis)
        out = MatMul(y, fc)"""
    given = model("(int64[N,L] ids) => (float[N,C] out)", body)
    door = normalize(given)
    assert door.most == LENGTH
    cut = cut_tables(door.model, LENGTH - 10)
    sizes = [list(t.dims) for t in cut.graph.initializer]
    assert [1, 10, WIDTH] in sizes or [10, WIDTH] in sizes
    assert not any(LENGTH in dims for dims in sizes)
    for length in (1, 10):
        ids = np.arange(length, dtype=np.int64)[None]
        np.testing.assert_allclose(answer(cut, ids=ids), answer(given, ids=ids), atol=1e-6)
    onnx.save(given, tmp_path / "m.onnx")
    weights = [
        embbert_tvm.compile(tmp_path / "m.onnx", "host", tmp_path / f"p{n}", CompileOptions("fp32", max_length=n))
        .report.flash.weights
        for n in (20, LENGTH)
    ]  # fmt: skip
    assert weights[1] - weights[0] == 4 * WIDTH * (LENGTH - 20)


def test_a_constant_a_row_is_no_bias(tmp_path):
    """A model of one length may add what differs from token to token, and not from column to column."""
    body = """x = Gather(table, bytes) a = Add(x, rows) b = MatMul(a, square) c = Add(b, rows)
        y = ReduceMean<keepdims = 0>(c, axis) z = MatMul(y, fc) out = Reshape(z, last)"""
    own = {"rows": normal(1, LENGTH, 1, seed=3), "square": normal(WIDTH, WIDTH), "last": np.array([1, CLASSES])}
    given = model(ONE_LENGTH, body, **own)
    onnx.save(given, tmp_path / "m.onnx")
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (30, LENGTH)).astype(np.int32)
    np.savez(tmp_path / "ids.npz", ids)
    options = CompileOptions("int8", calibration=tmp_path / "ids.npz")
    made = embbert_tvm.compile(tmp_path / "m.onnx", "host", tmp_path / "p", options)
    expected = np.array([answer(given, bytes=row[None])[0] for row in ids])
    with made.open() as device:
        found = np.array([device.run(row.tolist()).logits for row in ids])
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_ids_in_another_shape_look_up_in_integers(tmp_path):
    """As of nn.EmbeddingBag, whose ids are one vector."""
    body = """i = Reshape(ids, all) x = Gather(table, i) y = ReduceMean<keepdims = 1>(x, first) out = MatMul(y, fc)"""
    own = {"all": np.array([-1]), "first": np.array([0])}
    onnx.save(model("(int64[N,L] ids) => (float[N,C] out)", body, **own), tmp_path / "m.onnx")
    np.savez(tmp_path / "ids.npz", np.random.default_rng(0).integers(0, VOCABULARY, (30, 6)))
    options = CompileOptions("int8", max_length=8, calibration=tmp_path / "ids.npz")
    made = embbert_tvm.compile(tmp_path / "m.onnx", "host", tmp_path / "p", options)
    assert any("table" in name for name in (tmp_path / "p/codegen/host/src/embbert_weights.h").read_text().split())
    logits = _WEIGHTS["table"][[3, 9, 60]].mean(0) @ _WEIGHTS["fc"]
    with made.open() as device:
        np.testing.assert_allclose(device.run([3, 9, 60]).logits, logits, atol=0.1 * np.abs(logits).max())
    assert {operator.precision for operator in made.report.operators} == {"int8"}


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
def test_a_bag_of_tokens_runs_alike_in_qemu(target, tmp_path):
    """Its mean in int16, the product of it in plain C: the bits of the host's."""
    body = "x = Gather(table, ids) y = ReduceMean<keepdims = 0>(x, second) out = MatMul(y, fc)"
    onnx.save(model("(int64[N,L] ids) => (float[N,C] out)", body, second=np.array([1])), tmp_path / "m.onnx")
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (30, 6))
    np.savez(tmp_path / "ids.npz", ids)
    options = CompileOptions("int8", max_length=40, calibration=tmp_path / "ids.npz")
    made = embbert_tvm.compile(tmp_path / "m.onnx", target, tmp_path / "p", options)
    with made.open("host") as host, made.open("qemu") as board:
        for text in (ids[0].tolist(), ids[1:7].reshape(-1).tolist()):
            assert np.array_equal(board.run(text).logits, host.run(text).logits)


def test_calibration_on_ids(tmp_path):
    given = classifier(
        "x = Gather(table, ids) r = ReduceMean<keepdims = 0>(x, axis) logits = MatMul(r, fc__weight)",
        table=normal(VOCABULARY, 8), fc__weight=normal(8, 3), axis=np.array([1]),
    )  # fmt: skip
    onnx.save(given, tmp_path / "m.onnx")
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (20, 6))
    np.savez(tmp_path / "ids.npz", ids=ids, one=ids[0, :3])
    lines = tmp_path / "ids.jsonl"
    lines.write_text("".join(f"{row.tolist()}\n" for row in ids) + "\n[1, 2, 3]\n")
    assert calibration_ids(tmp_path / "ids.npz", None, 6) == [*ids.tolist(), ids[0, :3].tolist()]
    assert calibration_ids(lines, None, 5) == [*ids[:, :5].tolist(), [1, 2, 3]]
    for path in (tmp_path / "ids.npz", lines):
        place = tmp_path / path.suffix[1:]
        made = embbert_tvm.compile(
            tmp_path / "m.onnx", "host", place, CompileOptions("int8", max_length=8, calibration=path)
        )
        assert "int8" in {operator.precision for operator in made.report.operators}


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.jsonl", "[1, 2]\n{}\n", "line 2: must be a list of token ids"),
        ("a.jsonl", "\n", "holds no text"),
        ("a.npz", "frob", "not an .npz of numbers"),
        ("a.txt", "play\n", "needs a tokenizer.json beside the model; without one give token ids"),
    ],
)
def test_what_is_no_calibration_is_refused(name, content, match, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=match):
        calibration_ids(path, None, 8)


def test_ids_that_a_model_does_not_take_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2), np.float32))
    with pytest.raises(InputError, match="must hold whole numbers"):
        calibration_ids(tmp_path / "a.npz", None, 8)
    with pytest.raises(InputError, match="text 2 has the token id 63, the model knows 0 to 62"):
        check_ids(tmp_path / "a", [[1], [63]], VOCABULARY, 1, 8)
    with pytest.raises(InputError, match="text 1 has 2 token ids, the model takes 3 to 8"):
        check_ids(tmp_path / "a", [[1, 2]], VOCABULARY, 3, 8)


def test_many_labels_on_the_command_line_are_no_file():
    names = [f"label-{n}" for n in range(200)]
    assert read_labels(",".join(names)) == tuple(names)
