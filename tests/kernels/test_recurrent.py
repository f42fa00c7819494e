"""LSTM and GRU: the kernels against onnxruntime, in every form that ONNX has of them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from small import VOCABULARY, normal, some_ids

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import calibrate
from embbert_tvm.graph.fuse_row_blocks import fuse_row_blocks
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.kernels.isa import DSP, REFERENCE

INPUTS, WIDTH = 6, 5
GATES = {"LSTM": 4, "GRU": 3}


def model(kind: str, last: bool = False, biased: bool = True, **attributes: object) -> onnx.ModelProto:
    """Ids, an embedding, the recurrence, and the mean of its states or its last state."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[kind] * WIDTH
    weights = {
        "emb": normal(VOCABULARY, INPUTS),
        "w": normal(directions, rows, INPUTS, scale=0.6),
        "r": normal(directions, rows, WIDTH, scale=0.6),
        "b": normal(directions, 2 * rows, scale=0.3),
        "fc": normal(WIDTH * directions, 3),
        "tokens": np.array([0]),
        "flat": np.array([1, -1]),
    }
    nodes = [
        helper.make_node("Gather", ["emb", "ids"], ["x"]),
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node(
            kind, ["t", "w", "r", *(["b"] if biased else [])], ["y", "h"], hidden_size=WIDTH, **attributes
        ),
        helper.make_node("ReduceMean", ["y", "tokens"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["h" if last else "mean", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "fc"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, [1, "L"])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items() if biased or name != "b"],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


FORMS = (
    ("LSTM", {}),
    ("LSTM", {"direction": "bidirectional"}),
    ("LSTM", {"direction": "reverse", "last": True}),
    ("LSTM", {"last": True, "biased": False}),
    ("GRU", {"linear_before_reset": 1}),
    ("GRU", {"linear_before_reset": 0, "last": True}),
    ("GRU", {"linear_before_reset": 1, "direction": "bidirectional", "last": True}),
)
FORM_NAMES = ["-".join([kind, *map(str, options)]) for kind, options in FORMS]


@pytest.mark.parametrize(("kind", "options"), FORMS, ids=FORM_NAMES)
def test_a_recurrence_is_onnxs(kind, options):
    given = model(kind, **options)
    session, answer = onnxruntime.InferenceSession(given.SerializeToString()), llvm_runner(simplify(import_onnx(given)))
    for length in (1, 2, 9, 30):
        ids = some_ids(length)
        expected = session.run(None, {"ids": np.array([ids])})[0][0]
        np.testing.assert_allclose(answer(ids), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "options"), FORMS, ids=FORM_NAMES)
def test_in_integers_it_is_near_onnxs_and_one_loop_forward(kind, options):
    given = model(kind, **options)
    mod, session = simplify(import_onnx(given)), onnxruntime.InferenceSession(given.SerializeToString())
    quantized = quantize(mod, calibrate(mod, [some_ids(n, seed=n) for n in range(2, 40)], "x"))
    assert {c.precision for c in quantized.choices} == {"int8"}
    fused = fuse_row_blocks(quantized, DSP)
    forward = options.get("direction", "forward") == "forward"
    assert len(fused.choices) == 2 or not forward
    rows, blocks = llvm_runner(quantized.mod), llvm_runner(fuse_row_blocks(quantized, REFERENCE).mod)
    largest = 0.0
    for length in (1, 2, 9, 30, 120):
        ids = some_ids(length)
        expected = session.run(None, {"ids": np.array([ids])})[0][0]
        largest = max(largest, float(np.abs(expected).max()))
        assert np.abs(rows(ids) - expected).max() <= 0.1 * largest
        assert blocks(ids).tobytes() == rows(ids).tobytes()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"activations": ["Relu", "Tanh", "Tanh"]}, "has the activations Relu, Tanh, Tanh"),
        ({"clip": 1.0}, "has a clip"),
    ],
)
def test_what_no_kernel_computes_is_refused(options, match):
    with pytest.raises(InputError, match=match):
        import_onnx(model("LSTM", **options))
