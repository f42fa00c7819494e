"""Rows that nobody reads are not computed: the same values from fewer multiplications, for any row-wise operators."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import small
from small import classifier, normal, operators, some_ids, words

from embbert_tvm.codegen.macs import at
from embbert_tvm.codegen.program import Lowering, build_programs
from embbert_tvm.compiler import llvm_runner
from embbert_tvm.graph.calibrate import load_calibration, sha256
from embbert_tvm.graph.dataflow import Dataflow, shape
from embbert_tvm.graph.import_onnx import import_onnx, load_onnx
from embbert_tvm.graph.passes.dead_rows import drop_dead_rows
from embbert_tvm.graph.pipeline import SIMPLIFICATION, calls, run, simplify
from embbert_tvm.graph.quantize import quantize

K = 16
LENGTHS = (1, 2, 3, 7, 31, 48)


def without_the_pass(model):
    import tvm

    mod = import_onnx(model)
    with tvm.target.Target("llvm"):
        for one in SIMPLIFICATION:
            if one is not drop_dead_rows:
                mod = one(mod)
    return mod


@pytest.fixture(scope="module")
def whole_and_pruned():
    """The small EmbBERT in int8, its last layer whole and of one row, by one calibration."""
    folder = small.folder()
    model = load_onnx(folder / "model.onnx")
    calibration = load_calibration(folder / "calibration.json", sha256(folder / "model.onnx"))
    return quantize(without_the_pass(model), calibration), quantize(simplify(import_onnx(model)), calibration)


def test_the_same_logits():
    model = small.onnx_of_folder()
    whole, pruned = llvm_runner(without_the_pass(model)), llvm_runner(small.simplified())
    for length in LENGTHS:
        ids = some_ids(length, 70, length)
        np.testing.assert_allclose(pruned(ids), whole(ids), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("length", [8, 48])
def test_fewer_multiplications(whole_and_pruned, length):
    counts = []
    for quantized in whole_and_pruned:
        program = build_programs(run((calls(),), quantized.mod), quantized.constants, Lowering("embbert", 70))(48)
        counts.append(sum(at(step.macs, length) for step in program.steps if step.macs is not None))
    whole, pruned = counts
    layer = length * (32 * 32 + 2 * length * 32 + 8 * 32 + 64 * 32)
    assert whole - pruned >= 0.8 * layer * (length - 1) / length


FIRST_ROW = "\nzero = Constant<value = int64 {0}>()\nlogits = Gather<axis=1>(y, zero)"
# body: from x (1, L, 16) to y (1, L, 16), of which the head reads the first row; rows: what is left of its operators
# that still makes L rows.
CASES = {
    "elementwise": ("a = Relu(x)\nb = Tanh(a)\ny = Add(b, bias)", {"bias": normal(K)}, ""),
    "product": ("a = MatMul(x, w)\ny = Add(a, bias)", {"w": normal(K, K), "bias": normal(K)}, ""),
    "attention": (
        "t = Transpose<perm=[0,2,1]>(x)\ns = MatMul(x, t)\np = Softmax<axis=-1>(s)\ny = MatMul(p, x)",
        {},
        "",
    ),
    "causal convolution": (
        "t = Transpose<perm=[0,2,1]>(x)\nc = Conv<group=16, pads=[3,0]>(t, w)\ny = Transpose<perm=[0,2,1]>(c)",
        {"w": normal(K, 1, 4)},
        "",
    ),
    "a residual path beside its block": (
        "a = MatMul(x, w)\nb = Relu(a)\nc = MatMul(b, w)\nd = Add(b, c)\ne = Tanh(d)\ny = Add(d, e)",
        {"w": normal(K, K)},
        "",
    ),
    "attention with a residual path": (
        "h = Relu(x)\nt = Transpose<perm=[0,2,1]>(h)\nq = MatMul(h, w)\ns = MatMul(q, t)\n"
        "p = Softmax<axis=-1>(s)\nc = MatMul(p, h)\nr = Add(h, c)\nf = Relu(r)\ng = MatMul(f, w)\ny = Add(r, g)",
        {"w": normal(K, K)},
        "nn.relu permute_dims",
    ),
    "a value that is read whole as well": (
        "a = Relu(x)\nm = ReduceMean<keepdims=1>(a, one)\ny = Add(a, m)",
        {"one": np.array([1])},
        "nn.relu",
    ),
    "rows that mix": ("y = CumSum(x, one)", {"one": np.array(1)}, "cumsum"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_slice_moves_up(name):
    body, weights, rows = CASES[name]
    model = classifier(
        f"x = Gather(emb__weight, ids)\n{body}{FIRST_ROW}",
        emb__weight=normal(small.VOCABULARY, K),
        **weights,
    )
    mod = simplify(import_onnx(model))
    many = {
        var.name for var, value in Dataflow(mod).bindings if len(shape(var)) == 3 and not isinstance(shape(var)[1], int)
    }
    left = operators(mod)
    for operator in words(rows):
        assert left[operator], f"{operator} is gone"
    # Beside the embedding that the slice stops at, only these make more than a row.
    assert len(many) <= sum(words(rows).values()) + 1, many
    run, session = llvm_runner(mod), onnxruntime.InferenceSession(model.SerializeToString())
    for length in (1, 2, 5, 9):
        ids = np.array([some_ids(length)], np.int64)
        np.testing.assert_allclose(run(ids[0]), session.run(None, {"ids": ids})[0].reshape(-1), rtol=1e-5, atol=1e-5)


def test_a_row_that_a_short_text_lacks_is_left_alone():
    model = classifier(
        "x = Gather(emb__weight, ids)\ny = Relu(x)" + FIRST_ROW.replace("{0}", "{3}"),
        emb__weight=normal(small.VOCABULARY, K),
    )
    mod = simplify(import_onnx(model))
    assert not operators(mod)["strided_slice"]
