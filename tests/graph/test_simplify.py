"""Simplification, a pass at a time: the operators that `main` holds before and after, and the same values as ONNX."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime
import pytest
import small
import tvm
from simplify_cases import (
    EMBED,
    POOL,
    WIDTH,
    Case,
)
from simplify_shapes import CASES
from small import classifier, normal, operators, simplified, some_ids, words
from tvm import relax

from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import calibrate
from embbert_tvm.graph.dataflow import Dataflow, constant, dtype, op_name
from embbert_tvm.graph.door.normalize import NORMAL
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.passes.causal_conv import pad_causally
from embbert_tvm.graph.passes.fold_layouts import fold_layouts
from embbert_tvm.graph.passes.fold_scales import fold_scales
from embbert_tvm.graph.passes.importer_tir import raise_importer_tir
from embbert_tvm.graph.passes.index_guards import drop_index_guards
from embbert_tvm.graph.passes.narrow_integers import narrow_integers
from embbert_tvm.graph.passes.rms_norm import fuse_rms_norm
from embbert_tvm.graph.passes.take_in_bounds import take_in_bounds
from embbert_tvm.graph.pipeline import SIMPLIFICATION, simplify

# What stands before a pass has run when it runs, in the order of SIMPLIFICATION.
FOLDED = (fold_layouts, relax.transform.FoldConstant())
EARLIER = (drop_index_guards, *FOLDED, drop_index_guards, narrow_integers)


def imported(case: Case):
    weights = {k: v for k, v in case.weights.items() if k in case.body}
    model = classifier(EMBED + case.body + POOL, emb__weight=normal(40, WIDTH), **weights)
    onnx.helper.set_model_props(model, {NORMAL: "1 0 text"})  # what a pass is for stands in the module, not the door
    return model


def base(case: Case):
    mod = take_in_bounds(raise_importer_tir(import_onnx(imported(case))))
    with tvm.target.Target("llvm"):
        for run in FOLDED if case.run is drop_index_guards else EARLIER:
            mod = run(mod)
    return relax.transform.DeadCodeElimination()(mod)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_operators(case):
    frame = words("mean take" if re.search(r"\bx\b", case.body) else "mean")
    before = base(case)
    assert operators(before) - frame == words(case.before)
    assert operators(case.run(before)) - frame == words(case.after)


def test_rms_norm_of_rsqrt():
    """The form that ONNX cannot say."""
    x = relax.Var("x", relax.TensorType((1, 4, WIDTH), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            mean = builder.emit(relax.op.mean(builder.emit(relax.op.multiply(x, x)), axis=2, keepdims=True))
            root = builder.emit(relax.op.rsqrt(builder.emit(relax.op.add(mean, relax.const(1e-5, "float32")))))
            unit = builder.emit(relax.op.multiply(x, root))
            out = builder.emit_output(relax.op.multiply(relax.const(normal(WIDTH)), unit))
        builder.emit_func_output(out)
    mod = fuse_rms_norm(builder.finalize())
    assert operators(mod) == words("nn.rms_norm")
    norm = Dataflow(mod).bindings[0][1]
    assert norm.attrs.epsilon == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("widths", "value", "expected"),
    [
        ([0, 0, 0, 0, 3, 0], 0, "nn.conv1d"),
        ([0, 0, 0, 0, 3, 0], 1, "nn.pad nn.conv1d"),
        ([0, 0, 0, 0, 3, 1], 0, "nn.pad nn.conv1d"),
        ([0, 0, 1, 0, 3, 0], 0, "nn.pad nn.conv1d"),
    ],
)
def test_a_pad_of_its_own_moves_into_the_convolution(widths, value, expected):
    """The importer writes Pad as TIR, so ONNX does not come here yet."""
    channels = WIDTH + sum(widths[2:4])
    x = relax.Var("x", relax.TensorType((1, WIDTH, 9), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            padded = builder.emit(relax.op.nn.pad(x, widths, pad_value=value))
            conv = relax.op.nn.conv1d(padded, relax.const(normal(channels, 1, 4)), groups=channels)
            out = builder.emit_output(conv)
        builder.emit_func_output(out)
    mod = pad_causally(builder.finalize())
    assert operators(mod) == words(expected)
    (conv,) = [value for _, value in Dataflow(mod).bindings if op_name(value) == "nn.conv1d"]
    assert [int(p) for p in conv.attrs.padding] == ([3, 0] if expected == "nn.conv1d" else [0, 0])


def test_constants_are_laid_out_anew_without_llvm():
    """Transposed and reshaped constants, to the bit as TVM folds them; what is no constant is left."""
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType([1, 5, WIDTH], "float32"))
    weight, bias = relax.const(normal(8, WIDTH)), relax.const(normal(8))
    with builder.function("main", [x]):
        with builder.dataflow():
            transposed = builder.emit(relax.op.permute_dims(weight))
            wide = builder.emit(relax.op.reshape(bias, (1, 1, 8)))
            made = builder.emit(relax.op.add(builder.emit(relax.op.matmul(x, transposed)), wide))
            rows = builder.emit(relax.op.permute_dims(made, (0, 2, 1)))
            out = builder.emit_output(relax.op.reshape(rows, (1, 40)))
        builder.emit_func_output(out)
    mod = builder.finalize()
    ours = fold_layouts(mod)
    assert operators(ours) == words("matmul add permute_dims reshape")

    def constants(mod):
        values = (constant(a) for _, call in Dataflow(mod).bindings for a in getattr(call, "args", []))
        return [v for v in values if v is not None]

    tvms = relax.transform.DeadCodeElimination()(relax.transform.FoldConstant()(mod))
    assert [v.shape for v in constants(ours)] == [(WIDTH, 8), (1, 1, 8)]
    for found, expected in zip(constants(ours), constants(tvms), strict=True):
        assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def outputs(mod):
    machine = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())
    return lambda ids: machine["main"](tvm.runtime.tensor(np.asarray([ids], np.int32))).numpy().reshape(-1)


def onnx_outputs(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda ids: session.run(None, {"ids": np.asarray([ids], np.int64)})[0].reshape(-1)


@pytest.mark.parametrize("case", [c for c in CASES if "stays" not in c.name], ids=lambda c: c.name)
def test_the_values_stay(case):
    model = imported(case)
    mine, theirs = outputs(simplify(import_onnx(model))), onnx_outputs(model)
    for length in (1, 2, 7, 20):
        ids = some_ids(length)
        np.testing.assert_allclose(mine(ids), theirs(ids), rtol=2e-4, atol=2e-5, err_msg=f"length {length}")


def test_embbert_keeps_its_values():
    from embbert_tvm.models.reference import Reference

    mine, theirs = outputs(simplified()), Reference(small.folder() / "model.onnx")
    for length in (1, 2, 7, 48):
        ids = some_ids(length, 70)
        np.testing.assert_allclose(mine(ids), theirs(ids), rtol=1e-3, atol=1e-4)


def test_embbert_reads_as_its_equations():
    mod = import_onnx(small.onnx_of_folder())
    embedding = "take*2 strided_slice matmul*2 add*2"
    segments = "equal astype*2 cumsum greater add"
    block = "nn.rms_norm permute_dims*2 matmul*5 add*5 nn.softmax nn.conv1d nn.silu"
    head = "take matmul add"
    # Before a first row alone is asked of the last block.
    with tvm.target.Target("llvm"):
        for run in SIMPLIFICATION[: SIMPLIFICATION.index(fold_scales) + 1]:
            mod = run(mod)
    assert operators(mod) == sum(map(words, (embedding, segments, block, block, head)), words(""))


def test_ids_become_32_bits():
    graph = Dataflow(simplified())
    assert dtype(graph.function.params[0]) == "int32"
    assert all(dtype(var) != "int64" for var, _ in graph.bindings)


def test_a_constant_that_does_not_fit_is_refused():
    model = classifier(
        EMBED + "big = Constant<value_int=3000000000>()\nb = Less(ids, big)\nf = Cast<to=1>(b)\n"
        "last = Constant<value_ints=[2]>()\nu = Unsqueeze(f, last)\ny = Mul(x, u)" + POOL,
        emb__weight=normal(40, WIDTH),
    )
    with pytest.raises(InputError, match="3000000000, which does not fit in 32 bits"):
        simplify(import_onnx(model))


def test_a_shape_that_is_computed_with_is_refused():
    model = classifier(
        EMBED + "m = Constant<value_int=-1>()\nlogits = Gather<axis=1>(x, m)", emb__weight=normal(40, WIDTH)
    )
    onnx.helper.set_model_props(model, {NORMAL: "1 0 text"})
    with pytest.raises(InputError, match="computes with the shape of emb"):
        simplify(import_onnx(model))


class TestNames:
    def test_bindings_are_named_after_parameters(self):
        names = [var.name for var, _ in Dataflow(simplified()).bindings]
        assert len(set(names)) == len(names)
        for name in ("embedder_token", "blocks_0_query", "blocks_0_attention_out", "blocks_1_conv_out", "head"):
            assert name in names

    def test_the_same_twice(self):
        first, second = (simplify(import_onnx(small.onnx_of_folder())) for _ in range(2))
        assert [v.name for v, _ in Dataflow(first).bindings] == [v.name for v, _ in Dataflow(second).bindings]

    def test_a_name_is_an_identifier(self):
        model = classifier(
            EMBED + "m = MatMul(x, odd__weight)\ny = Relu(m)" + POOL,
            emb__weight=normal(40, WIDTH),
            odd__weight=normal(WIDTH, 4),
        )
        for tensor in model.graph.initializer:
            tensor.name = tensor.name.replace("odd", "/a b-*/é")
        for node in model.graph.node:
            node.input[:] = [n.replace("odd", "/a b-*/é") for n in node.input]
        names = [var.name for var, _ in Dataflow(import_onnx(model)).bindings]
        assert "_a_b____" in names
        assert all(name.isidentifier() and name.isascii() for name in names)

    def test_equal_weights_have_no_scope(self):
        """Two layers of the same content cannot be told apart; their names stay unique."""
        same = normal(WIDTH, WIDTH)
        model = classifier(
            EMBED + "a = MatMul(x, a__weight)\nr = Relu(a)\ny = MatMul(r, b__weight)" + POOL,
            emb__weight=normal(40, WIDTH), a__weight=same, b__weight=same,
        )  # fmt: skip
        names = [var.name for var, _ in Dataflow(simplify(import_onnx(model))).bindings]
        assert len(set(names)) == len(names)
        assert calibrate(simplify(import_onnx(model)), [[1, 2, 3]], "x").tensors.keys() <= set(names)
