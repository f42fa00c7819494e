"""Quantization: which kernels are chosen, how exact the weights are, and logits against the float model."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st
from small import classifier, normal, some_ids

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import Calibration, calibrate
from embbert_tvm.graph.dataflow import Dataflow, op_name
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.names import fingerprint
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.quantize import keep_float, quantize
from embbert_tvm.graph.quantize.weights import per_channel, per_tensor
from embbert_tvm.models.reference import Reference

EMBED = "x = Gather(emb__weight, ids)\n"
FIRST = "\nzero = Constant<value_int=0>()\np = Gather<axis=1>(y, zero)\nlogits = MatMul(p, head__weight)"
POOL = "\npool = Constant<value_ints=[1]>()\np = {}<keepdims=0>(y, pool)\nlogits = MatMul(p, head__weight)"
WEIGHTS = {"emb__weight": normal(40, 16, scale=0.5), "head__weight": normal(8, 3)}
FC = {"fc__weight": normal(16, 8), "fc__bias": normal(8)}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 40), st.floats(1e-6, 1e6))
def test_a_weight_is_half_a_step_off_at_most(seed, n, k, size):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((n, k)) * size * rng.uniform(0.01, 1, (n, 1))
    bias = rng.standard_normal(n) * size
    channels = per_channel(weight, bias)
    assert channels.weight.dtype == np.int8
    assert np.abs(channels.weight).max() == 127
    assert (np.abs(channels.weight * channels.scale[:, None] - weight) <= channels.scale[:, None] * 0.5000001).all()
    assert (np.abs(channels.bias * channels.scale - bias) <= channels.scale * 0.5000001).all()
    np.testing.assert_allclose(channels.scale, np.abs(weight).max(axis=1) / 127)


def test_a_channel_of_zeros_has_a_scale():
    channels = per_channel(np.zeros((2, 3)), np.array([0.0, 1.0]))
    assert (channels.scale > 0).all()
    assert not channels.weight.any()
    assert channels.bias[1] * channels.scale[1] == pytest.approx(1)


def test_a_bias_too_large_is_clipped():
    assert per_channel(np.full((1, 1), 1e-9), np.array([1e9])).bias.tolist() == [2**31 - 1]


def test_a_table_of_zeros():
    steps, scale = per_tensor(np.zeros((3, 2)))
    assert not steps.any()
    assert scale > 0


def texts(mod, count: int = 24):
    return calibrate(mod, [some_ids(1 + n % 20, seed=n) for n in range(count)], "x")


def compared(model, statistics=None):
    """The quantized module, and by how much its logits differ from ONNX's, at worst, of the largest logit."""
    mod = simplify(import_onnx(model))
    quantized = quantize(mod, statistics or texts(mod))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    run = llvm_runner(quantized.mod)
    worst = largest = 0.0
    for n in range(24):
        ids = some_ids(1 + n % 20, seed=n)
        theirs = session.run(None, {"ids": np.array([ids])})[0].reshape(-1)
        worst, largest = max(worst, np.abs(run(ids) - theirs).max()), max(largest, np.abs(theirs).max())
    return quantized, worst / largest


def kernels(quantized) -> list[str]:
    return [f"{c.kernel} {c.precision}" for c in quantized.choices]


MODELS = [
    (
        "linear maps and a first row",
        EMBED + "m = MatMul(x, fc__weight)\ny = Add(m, fc__bias)" + FIRST,
        FC,
        ["product_row_dequantize"],
        0.04,
    ),
    (
        "an activation in the product",
        EMBED + "m = MatMul(x, fc__weight)\na = Add(m, fc__bias)\ny = Tanh(a)" + FIRST,
        FC,
        ["product_row_activate", "product_row_dequantize"],
        0.04,
    ),
    (
        "an operator without a kernel between two with one",
        EMBED
        + "m = MatMul(x, fc__weight)\ns = Sin(m)\nn = MatMul(s, sq__weight)\ny = Relu(n)"
        + POOL.format("ReduceMax"),
        {**FC, "sq__weight": normal(8, 8)},
        ["product_dequantize", "sin float32", "quantize", "product_activate", "pool_max_8 int8"],
        0.05,
    ),
    (
        "a mean of all rows",
        EMBED + "m = MatMul(x, fc__weight)\ny = Relu(m)" + POOL.format("ReduceMean"),
        FC,
        ["product_activate", "pool_mean_8 int8", "product_row_dequantize"],
        0.04,
    ),
    (
        "a pooler behind the first row",
        EMBED + "zero = Constant<value_int=0>()\nf = Gather<axis=1>(x, zero)\nm = MatMul(f, fc__weight)\n"
        "t = Tanh(m)\nlogits = MatMul(t, head__weight)",
        FC,
        ["product_row_activate", "product_row_dequantize"],
        0.04,
    ),
    (
        "a row and all rows in one sum",
        EMBED + "m = MatMul(x, fc__weight)\nzero = Constant<value_int=0>()\nf = Gather<axis=1>(x, zero)\n"
        "n = MatMul(f, sq__weight)\ny = Add(m, n)" + POOL.format("ReduceMax"),
        {**FC, "sq__weight": normal(16, 8, seed=4)},
        ["product_dequantize", "add float32"],
        0.04,
    ),
    (
        "a split",
        EMBED + "m = MatMul(x, fc__weight)\na, b = Split<axis=-1, num_outputs=2>(m)\ng = Mul(a, b)\n"
        "y = Concat<axis=-1>(g, a)" + POOL.format("ReduceMax"),
        FC,
        ["product_requantize_16x4 int8", "gate_4 int8", "pool_max_4 int8"],
        0.05,
    ),
    (
        "a convolutional classifier",
        EMBED + "t = Transpose<perm=[0,2,1]>(x)\nc3 = Conv<pads=[1,1]>(t, a__weight, a__bias)\nr3 = Relu(c3)\n"
        "c4 = Conv<pads=[3,0]>(t, b__weight)\nr4 = Tanh(c4)\nlast = Constant<value_ints=[2]>()\n"
        "p3 = ReduceMax<keepdims=0>(r3, last)\np4 = ReduceMean<keepdims=0>(r4, last)\n"
        "p = Concat<axis=1>(p3, p4)\nlogits = MatMul(p, fc__weight)",
        {
            **FC, "a__weight": normal(6, 16, 3, scale=0.3), "a__bias": normal(6),
            "b__weight": normal(10, 16, 4, scale=0.2),
        },
        ["product_activate_3tapsafter1of16x6 int8", "product_activate_4tapsafter0of16x10 int8", "pool_max_6 int8",
         "pool_mean_10 int8", "product_row_dequantize_6_10x8 int8"],
        0.05,
    ),
    (
        "a convolution upon a convolution, dilated and depthwise",
        EMBED + "t = Transpose<perm=[0,2,1]>(x)\nc = Conv<pads=[2,2],dilations=[2]>(t, a__weight)\nr = Relu(c)\n"
        "d = Conv<pads=[1,2],group=6>(r, b__weight, b__bias)\ng = Sigmoid(d)\ny = Transpose<perm=[0,2,1]>(g)\n"
        "z = MatMul(y, f__weight)\nlast = Constant<value_ints=[1]>()\np = ReduceMean<keepdims=0>(z, last)\n"
        "logits = MatMul(p, head__weight)",
        {"a__weight": normal(6, 16, 3, scale=0.3), "b__weight": normal(12, 1, 4), "b__bias": normal(12),
         "f__weight": normal(12, 8)},
        ["product_activate_3tapsevery2after2of16x6", "depthwise_conv_activate_4x12_by2_after2", "pool_mean_8"],
        0.05,
    ),
    (
        "two heads of attention and layer norms",
        EMBED + "q = MatMul(x, q__weight)\nk = MatMul(x, k__weight)\nv = MatMul(x, v__weight)\n"
        "apart = Constant<value_ints=[0,-1,2,8]>()\njoined = Constant<value_ints=[0,-1,16]>()\n"
        "q4 = Reshape(q, apart)\nk4 = Reshape(k, apart)\nv4 = Reshape(v, apart)\n"
        "qt = Transpose<perm=[0,2,1,3]>(q4)\nkt = Transpose<perm=[0,2,3,1]>(k4)\nvt = Transpose<perm=[0,2,1,3]>(v4)\n"
        "s = MatMul(qt, kt)\nd = Constant<value_float=2.828>()\ns2 = Div(s, d)\na = Softmax<axis=-1>(s2)\n"
        "o = MatMul(a, vt)\not = Transpose<perm=[0,2,1,3]>(o)\no3 = Reshape(ot, joined)\nr = MatMul(o3, o__weight)\n"
        "rb = Add(r, x)\nn = LayerNormalization(rb, ln__weight, ln__bias)\ny = MatMul(n, fc__weight)" + FIRST,
        {
            **FC,
            **{f"{w}__weight": normal(16, 16, seed=n, scale=0.4) for n, w in enumerate("qkvo")},
            "ln__weight": normal(16), "ln__bias": normal(16, seed=1),
        },
        ["attention_row_8 int8", "product_row_layer_norm", "product_row_requantize"],
        0.06,
    ),
]  # fmt: skip


def _pre_norm(layers: int) -> tuple[str, dict[str, np.ndarray]]:
    """x = x + relu(rms_norm(x) W) V, layer after layer, and a row of the last norm."""
    body, weights = EMBED + "two = Constant<value_float=2.0>()\none = Constant<value_float=1.0>()\n", {}
    body += "axis = Constant<value_ints=[-1]>()\neps = Constant<value_float=1e-5>()\nx0 = Identity(x)\n"
    for n in range(layers + 1):
        body += (
            f"s{n} = Pow(x{n}, two)\nm{n} = ReduceMean<keepdims=1>(s{n}, axis)\ne{n} = Add(m{n}, eps)\n"
            f"r{n} = Sqrt(e{n})\ni{n} = Div(one, r{n})\nh{n} = Mul(x{n}, i{n})\nn{n} = Mul(h{n}, g{n}__weight)\n"
        )
        weights[f"g{n}__weight"] = normal(16, seed=n) + 2
        if n < layers:
            body += f"a{n} = MatMul(n{n}, w{n}__weight)\nb{n} = Relu(a{n})\nc{n} = MatMul(b{n}, v{n}__weight)\n"
            body += f"x{n + 1} = Add(x{n}, c{n})\n"
            weights |= {f"w{n}__weight": normal(16, 24, seed=n, scale=0.5), f"v{n}__weight": normal(24, 16, seed=9 + n)}
    body = body.replace("x0 = Identity(x)\n", "").replace("x0", "x")
    return body + f"y = MatMul(n{layers}, fc__weight)" + FIRST, {"fc__weight": normal(16, 8), **weights}


RMS = (
    "two = Constant<value_float=2.0>()\none = Constant<value_float=1.0>()\naxis = Constant<value_ints=[-1]>()\n"
    "eps = Constant<value_float={}>()\ns = Pow(m, two)\nq = ReduceMean<keepdims=1>(s, axis)\ne = Add(q, eps)\n"
    "r = Sqrt(e)\ni = Div(one, r)\nh = Mul(m, i)\nn = Mul(h, ln__weight)"
)
LAYER = "n = LayerNormalization<epsilon={}>(m, ln__weight)"


@pytest.mark.parametrize("norm", [RMS, LAYER])
@pytest.mark.parametrize("epsilon", [1e-5, 0.5, 20.0])
def test_a_norms_epsilon_weighs_as_much_as_in_float(norm, epsilon):
    """The kernels add n times epsilon to a sum of squares; a small epsilon would hide any factor before it."""
    body = f"{EMBED}m = MatMul(x, fc__weight)\n{norm.format(epsilon)}\ny = Relu(n)" + POOL.format("ReduceMean")
    quantized, difference = compared(classifier(body, **WEIGHTS, **FC, ln__weight=normal(8)))
    assert any("norm" in kernel for kernel in kernels(quantized)), kernels(quantized)
    assert difference < 0.04


def test_a_residual_path_that_grows_is_int16():
    body, weights = _pre_norm(4)
    every = {**WEIGHTS, **weights}
    quantized, away = compared(classifier(body, **{k: v for k, v in every.items() if k in body}))
    assert not [c for c in quantized.choices if c.precision == "float32"]
    wide = [c.kernel for c in quantized.choices if "requantize_wide" in c.kernel]
    assert len(wide) == 3, kernels(quantized)  # x1 to x3: the table is read as it is, x4 inside the last norm
    assert away <= 0.06


def test_int8_rows_of_an_int16_path():
    """x1 is added to and read by a product, and is a sum with such a path in itself."""
    body = (
        EMBED + "two = Relu(x)\na = MatMul(two, a__weight)\nx1 = Add(x, a)\nb = Relu(x1)\nc = MatMul(b, b__weight)\n"
        "x2 = Add(x1, c)\nd = MatMul(x2, a__weight)\nx3 = Add(x2, d)\ny = MatMul(x3, fc__weight)"
        + POOL.format("ReduceMax")
    )  # fmt: skip
    weights = {"a__weight": normal(16, 16), "b__weight": normal(16, 16, seed=1), "fc__weight": normal(16, 8)}
    quantized, away = compared(classifier(body, **WEIGHTS, **weights))
    assert away <= 0.05
    assert {c.precision for c in quantized.choices if c.kernel.startswith("product")} == {"int8"}


def test_no_value_is_computed_twice():
    """y is read by an operator of float32 and by a product."""
    body = (
        EMBED + "m = MatMul(x, fc__weight)\ns = Sin(m)\nn = MatMul(m, sq__weight)\nt = MatMul(s, sq__weight)\n"
        "y = Add(n, t)" + POOL.format("ReduceMax")
    )
    quantized, away = compared(classifier(body, **WEIGHTS, fc__weight=FC["fc__weight"], sq__weight=normal(8, 8)))
    assert sum(name.startswith("product") and "16x8" in name for name in kernels(quantized)) == 1, kernels(quantized)
    assert away <= 0.06


@pytest.mark.parametrize(("name", "body", "weights", "chosen", "limit"), MODELS, ids=[m[0] for m in MODELS])
def test_any_encoder_compiles(name, body, weights, chosen, limit):
    every = {**WEIGHTS, **weights}
    quantized, away = compared(classifier(body, **{k: v for k, v in every.items() if k in body}))
    for kernel in chosen:
        assert any(found.startswith(kernel) for found in kernels(quantized)), (kernel, kernels(quantized))
    assert away <= limit


def test_a_convolution_that_reads_only_whole_windows():
    """Rows L - 2 of them, from a text of 3 tokens on."""
    body = (
        EMBED + "t = Transpose<perm=[0,2,1]>(x)\nc = Conv(t, a__weight, a__bias)\nr = Relu(c)\n"
        "last = Constant<value_ints=[2]>()\np = ReduceMax<keepdims=0>(r, last)\nlogits = MatMul(p, head__weight)"
    )
    model = classifier(body, **WEIGHTS, a__weight=normal(8, 16, 3, scale=0.3), a__bias=normal(8))
    mod = simplify(import_onnx(model))
    lengths = (3, 4, 9, 20)
    statistics = calibrate(mod, [some_ids(n, seed=k) for n in lengths for k in range(6)], "x")
    quantized = quantize(mod, statistics)
    assert "product_without2_activate_3tapsafter0of16x8 int8" in kernels(quantized)
    run, session = llvm_runner(quantized.mod), onnxruntime.InferenceSession(model.SerializeToString())
    assert np.isfinite(run(some_ids(1))).all()  # ONNX has no answer here
    for n in lengths:
        ids = some_ids(n, seed=50)
        theirs = session.run(None, {"ids": np.array([ids])})[0].reshape(-1)
        assert np.abs(run(ids) - theirs).max() <= 0.1 * np.abs(theirs).max()


def test_what_runs_in_float_says_why():
    quantized, _ = compared(
        classifier(EMBED + "y = Sin(x)" + FIRST, emb__weight=normal(40, 8), head__weight=normal(8, 3))
    )
    reasons = {c.name: c.reason for c in quantized.choices if c.precision == "float32"}
    assert "no int8 kernel takes sin with these operands" in reasons.values()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "m = MatMul(x, w__weight)\nn = ReduceMean<keepdims=1>(m, one)\ny = Mul(m, n)",
            "no int8 kernel takes multiply: w and w_mean are not rows of one shape",
        ),
        (
            "t = Transpose<perm=[0,2,1]>(x)\nc = Conv<pads=[1,1],group=16>(t, d__weight)\n"
            "y = Transpose<perm=[0,2,1]>(c)",
            "no int8 kernel takes permute_dims: d has 1 + 1 rows of padding around 4 taps, a stride of 1, "
            "16 groups of 16 channels",
        ),
        (
            "t = Transpose<perm=[0,2,1]>(x)\ns = MatMul(x, t)\nr = Relu(s)\na = Softmax<axis=-1>(r)\ny = MatMul(a, x)",
            "is not a product of queries and keys that this alone reads",
        ),
    ],
)
def test_the_reason_names_the_clause_that_failed(body, reason):
    weights = {"w__weight": normal(16, 16), "d__weight": normal(16, 1, 4), "one": np.array([1])}
    every = {"emb__weight": normal(40, 16), "head__weight": normal(16, 3), **weights}
    model = classifier(
        EMBED + body + POOL.format("ReduceMax"),
        **{k: v for k, v in every.items() if f"{k})" in body or f"{k.split('__')[0]}" in ("emb", "head")},
    )
    mod = simplify(import_onnx(model))
    quantized = quantize(mod, calibrate(mod, [some_ids(n) for n in range(4, 12)], "x"))
    found = [c.reason for c in quantized.choices if c.precision == "float32"]
    assert any(reason in why for why in found), found


def test_embbert_is_all_int8():
    chosen = small.quantized().choices
    assert {c.precision for c in chosen if c.kernel not in ("equal", "greater", "astype", "cumsum", "add")} == {"int8"}
    assert sum(c.kernel.startswith("attention") for c in chosen) == 2
    assert sum(c.kernel.startswith("depthwise_conv") for c in chosen) == 2
    assert sum("rms_norm" in c.kernel for c in chosen) == 2
    operators = {op_name(value) for _, value in Dataflow(small.quantized().mod).bindings}
    assert not operators & {"matmul", "nn.softmax", "nn.conv1d", "nn.rms_norm"}


def test_embbert_agrees_with_float():
    run, reference = llvm_runner(small.quantized().mod), Reference(small.folder() / "model.onnx")
    away, size = [], []
    for n in range(60):
        ids = some_ids(1 + n % 48, 70, n)
        mine, theirs = run(ids), reference(ids)
        away.append(np.abs(mine - theirs).max())
        size.append(np.abs(theirs).max())
    assert np.mean(away) <= 0.05 * np.mean(size)
    assert np.median(away) <= 0.03 * np.median(size)
    assert np.max(away) <= 0.15 * np.max(size)


def test_the_head_computes_one_row():
    """Its cost must not grow with the text."""
    (head,) = [c for c in small.quantized().choices if c.name == "head"]
    assert head.kernel.startswith("product_row_")


def test_constants_are_named_once():
    quantized = small.quantized()
    names = list(quantized.constants.values())
    assert len(set(names)) == len(names)
    for name in ("embedder_token_table", "blocks_0_query_weight", "blocks_0_query_bias", "head_scale"):
        assert name in names
    used = {
        fingerprint(field.value.numpy())
        for _, call in Dataflow(quantized.mod).bindings
        if op_name(call) == "call_tir"
        for field in call.args[1].fields
        if hasattr(field, "value")
    }
    assert used <= set(quantized.constants)


def test_scales_that_do_not_fit_are_met_by_coarser_ones():
    """Statistics of nothing but zeros: every output scale is far too fine for its accumulators."""
    mod = small.simplified()
    zero = calibrate(mod, [[1]], "x")
    flat = {name: type(h)(0.0, 0.0, h.counts) for name, h in zero.tensors.items()}
    run = llvm_runner(quantize(mod, Calibration("x", 1, flat)).mod)
    assert np.isfinite(run([1, 2, 3])).all()


def test_statistics_that_miss_a_tensor_are_refused():
    with pytest.raises(InputError, match="know no tensor"):
        quantize(small.simplified(), Calibration("x", 1, {}))


def test_float_is_kept_whole():
    quantized = keep_float(small.simplified())
    assert {c.reason for c in quantized.choices if c.precision == "float32"} == {"requested"}
    assert not quantized.constants
    run, reference = llvm_runner(quantized.mod), Reference(small.folder() / "model.onnx")
    for length in (1, 48):
        np.testing.assert_allclose(run(some_ids(length, 70)), reference(some_ids(length, 70)), rtol=1e-3, atol=1e-4)


def test_the_same_twice():
    from embbert_tvm.graph.calibrate import load_calibration, sha256

    statistics = load_calibration(small.folder() / "calibration.json", sha256(small.folder() / "model.onnx"))
    first, second = (quantize(small.simplified(), statistics) for _ in range(2))
    assert first.mod.script() == second.mod.script()
    assert first.choices == second.choices
    assert list(first.constants.items()) == list(second.constants.items())
