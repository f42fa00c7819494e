"""Simplification, a pass at a time: the operators that `main` holds before and after, and the same values as ONNX."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
import pytest
import small
import tvm
from small import classifier, normal, operators, simplified, some_ids, words
from tvm import relax

from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import calibrate
from embbert_tvm.graph.dataflow import Dataflow, constant, dtype, op_name
from embbert_tvm.graph.door.normalize import NORMAL
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.passes.activations import fuse_activations
from embbert_tvm.graph.passes.batch_of_one import keep_batch
from embbert_tvm.graph.passes.causal_conv import pad_causally
from embbert_tvm.graph.passes.fold_layouts import fold_layouts
from embbert_tvm.graph.passes.fold_scales import fold_scales
from embbert_tvm.graph.passes.importer_tir import raise_importer_tir
from embbert_tvm.graph.passes.index_guards import drop_index_guards
from embbert_tvm.graph.passes.layer_norm import fuse_layer_norm
from embbert_tvm.graph.passes.narrow_integers import narrow_integers
from embbert_tvm.graph.passes.plain_rows import find_plain_rows
from embbert_tvm.graph.passes.position_slice import slice_positions
from embbert_tvm.graph.passes.rms_norm import fuse_rms_norm
from embbert_tvm.graph.passes.silu import fuse_silu
from embbert_tvm.graph.passes.softplus import fuse_softplus
from embbert_tvm.graph.passes.split_columns import split_columns
from embbert_tvm.graph.passes.split_heads import split_heads
from embbert_tvm.graph.passes.take_in_bounds import take_in_bounds
from embbert_tvm.graph.pipeline import SIMPLIFICATION, simplify

WIDTH = 16
EMBED = "x = Gather(emb__weight, ids)\n"
POOL = "\npool = Constant<value_ints=[1]>()\nlogits = ReduceMean<keepdims=0>(y, pool)"
NORM_HEAD = """
two = Constant<value = float {2.0}>()
last = Constant<value_ints=[-1]>()
eps = Constant<value = float {0.001}>()
one = Constant<value = float {1.0}>()
"""


@dataclass(frozen=True)
class Case:
    """body: from x (1, L, 16) to y. before, after: the operators around `run`, without what EMBED and POOL make."""

    name: str
    run: object
    body: str
    before: str
    after: str
    weights: dict = field(default_factory=dict)


def rms_norm(square: str, root: str, scale: str, gain: str) -> str:
    return f"{NORM_HEAD}s = {square}\nm = ReduceMean<keepdims=1>(s, last)\ne = Add(m, eps)\n{root}\n{scale}\ny = {gain}"


CONV = "t = Transpose<perm=[0,2,1]>(x)\n{conv}\ny = Transpose<perm=[0,2,1]>(c)"
CUT = """
n = Shape<start=1, end=2>(x)
zero = Constant<value_ints=[0]>()
axis = Constant<value_ints=[2]>()
c = Slice({0}, zero, n, axis)"""
CONV_WEIGHTS = {"conv__weight": normal(WIDTH, 1, 4), "conv__bias": normal(WIDTH)}
BIAS = {"fc__weight": normal(WIDTH, 8), "fc__bias": normal(8)}
GAIN = {"g__weight": normal(WIDTH)}
HALF = "c = Constant<value = float {0.5}>()\n"
ROOT = "r = Sqrt(e)\nq = Reciprocal(r)"

GELU = """
one = Constant<value = float {1.0}>()
half = Constant<value = float {0.5}>()
r = Constant<value = float {1.41421354}>()
i = Constant<value = float {0.707106769}>()
three = Constant<value = float {3.0}>()
c = Constant<value = float {0.044715}>()
k = Constant<value = float {0.797884583}>()
"""
LAYER_NORM = f"{NORM_HEAD}m = ReduceMean<keepdims=1>(x, last)\nd = Sub(x, m)\n"
LAYER_NORM_WEIGHTS = {"g__weight": normal(WIDTH), "g__bias": normal(WIDTH, seed=1)}

HEADS = {f"{w}__weight": normal(WIDTH, WIDTH, seed=n, scale=0.4) for n, w in enumerate("qkvo")}
HEADS |= {"q__bias": normal(WIDTH), "v__bias": normal(WIDTH, seed=1)}


def heads(keys: str, scaled: str) -> str:
    return (
        "q0 = MatMul(x, q__weight)\nq = Add(q0, q__bias)\nk = MatMul(x, k__weight)\nv0 = MatMul(x, v__weight)\n"
        "v = Add(v__bias, v0)\napart = Constant<value_ints=[0,-1,2,8]>()\njoined = Constant<value_ints=[0,-1,16]>()\n"
        "q4 = Reshape(q, apart)\nk4 = Reshape(k, apart)\nv4 = Reshape(v, apart)\nqt = Transpose<perm=[0,2,1,3]>(q4)\n"
        f"{keys}\nvt = Transpose<perm=[0,2,1,3]>(v4)\ns = MatMul(qt, kt)\nd = Constant<value_float=2.828>()\n{scaled}\n"
        "a = Softmax<axis=-1>(s2)\no = MatMul(a, vt)\not = Transpose<perm=[0,2,1,3]>(o)\no3 = Reshape(ot, joined)\n"
        "y = MatMul(o3, o__weight)"
    )


CASES = [
    Case(
        "two heads",
        split_heads,
        heads("kt = Transpose<perm=[0,2,3,1]>(k4)", "s2 = Div(s, d)"),
        "matmul*6 add*2 reshape*4 permute_dims*4 divide nn.softmax",
        "matmul*12 add*5 permute_dims*2 multiply*2 nn.softmax*2",
        HEADS,
    ),
    Case(
        "two heads, keys turned after they are apart",
        split_heads,
        heads("k5 = Transpose<perm=[0,2,1,3]>(k4)\nkt = Transpose<perm=[0,1,3,2]>(k5)", "s2 = Mul(s, d)"),
        "matmul*6 add*2 reshape*4 permute_dims*5 multiply nn.softmax",
        "matmul*12 add*5 permute_dims*2 multiply*2 nn.softmax*2",
        HEADS,
    ),
    Case(
        "scores that something is added to stay whole",
        split_heads,
        heads("kt = Transpose<perm=[0,2,3,1]>(k4)", "s2 = Add(s, d)"),
        "matmul*6 add*3 reshape*4 permute_dims*4 nn.softmax",
        "matmul*6 add*3 reshape*4 permute_dims*4 nn.softmax",
        HEADS,
    ),
    Case("softplus", fuse_softplus, "y = Softplus(x)", "maximum add*2 log exp negative abs", "nn.softplus"),
    Case(
        "softplus with a threshold",
        fuse_softplus,
        "large = Constant<value_float=20.0>()\nz = Softplus(x)\ng = Greater(x, large)\ny = Where(g, x, z)",
        "maximum add*2 log exp negative abs greater where",
        "nn.softplus",
    ),
    Case(
        "a threshold where softplus is not x yet",
        fuse_softplus,
        "low = Constant<value_float=2.0>()\nz = Softplus(x)\ng = Greater(x, low)\ny = Where(g, x, z)",
        "maximum add*2 log exp negative abs greater where",
        "nn.softplus greater where",
    ),
    Case(
        "a split of a linear map with a bias",
        split_columns,
        "m = MatMul(x, w__weight)\na = Add(m, w__bias)\np, q = Split<axis=-1>(a, parts)\ny = Concat<axis=-1>(q, p)",
        "matmul add split concat",
        "matmul*2 add*2 concat",
        {"w__weight": normal(WIDTH, 6), "w__bias": normal(6), "parts": np.array([2, 4])},
    ),
    Case(
        "a split of what is read whole as well",
        split_columns,
        "m = MatMul(x, w__weight)\np, q = Split<axis=-1, num_outputs=2>(m)\ny = Concat<axis=-1>(q, p, m)",
        "matmul split concat",
        "matmul split concat",
        {"w__weight": normal(WIDTH, 6)},
    ),
    Case(
        "slices of a linear map",
        split_columns,
        "m = MatMul(x, w__weight)\np = Slice(m, zero, two, last)\nq = Slice(m, two, six, last)\n"
        "y = Concat<axis=-1>(q, p)",
        "matmul strided_slice*2 concat",
        "matmul*2 concat",
        {
            "w__weight": normal(WIDTH, 6),
            **{k: np.array([v]) for k, v in {"zero": 0, "two": 2, "six": 6, "last": -1}.items()},
        },
    ),
    Case(
        "two heads, queries and keys scaled each by itself",
        split_heads,
        heads(
            "k5 = Mul(k4, d)\nkt = Transpose<perm=[0,2,3,1]>(k5)",
            "s2 = Identity(s)",
        )
        .replace("d = Constant<value_float=2.828>()\n", "")
        .replace("kt0", "kt")
        .replace("q4 = Reshape(q, apart)", "d = Constant<value_float=0.6>()\nq5 = Reshape(q, apart)\nq4 = Mul(d, q5)"),
        "matmul*6 add*2 reshape*4 permute_dims*4 multiply*2 nn.softmax",
        "matmul*12 add*5 permute_dims*2 multiply*2 nn.softmax*2",
        HEADS,
    ),
    Case(
        "a transposition without the batch",
        keep_batch,
        "four = Constant<value_ints=[0,-1,2,8]>()\nthree = Constant<value_ints=[-1,2,8]>()\n"
        "back = Constant<value_ints=[1,2,-1,8]>()\na = Reshape(x, four)\nb = Reshape(a, three)\n"
        "c = Transpose<perm=[1,0,2]>(b)\nd = Reshape(c, back)\none = Constant<value_ints=[1]>()\n"
        "y = ReduceMean<keepdims=0>(d, one)",
        "reshape*3 permute_dims mean",
        "reshape permute_dims mean",
    ),
    *(
        Case(
            f"gelu as {name}",
            fuse_activations,
            f"{GELU}{body}",
            before,
            "nn.gelu_tanh" if "tanh" in name else "nn.gelu",
        )
        for name, body, before in [
            (
                "x (1 + erf) / 2",
                "e = Div(x, r)\nf = Erf(e)\ng = Add(f, one)\nh = Mul(x, g)\ny = Mul(h, half)",
                "divide erf add multiply*2",
            ),
            (
                "x / 2 (1 + erf)",
                "e = Mul(x, i)\nf = Erf(e)\ng = Add(one, f)\nh = Mul(half, x)\ny = Mul(h, g)",
                "multiply*3 erf add",
            ),
            (
                "tanh of a power",
                "p = Pow(x, three)\nq = Mul(p, c)\ns = Add(x, q)\nt = Mul(s, k)\nu = Tanh(t)\n"
                "g = Add(u, one)\nh = Mul(x, half)\ny = Mul(h, g)",
                "power multiply*4 add*2 tanh",
            ),
            (
                "tanh of products",
                "p = Mul(x, x)\np2 = Mul(p, x)\nq = Mul(c, p2)\ns = Add(x, q)\nt = Mul(k, s)\n"
                "u = Tanh(t)\ng = Add(one, u)\nh = Mul(half, x)\ny = Mul(g, h)",
                "multiply*6 add*2 tanh",
            ),
        ]
    ),
    Case(
        "a function that is nearly gelu stays",
        fuse_activations,
        GELU + "e = Mul(x, half)\nf = Erf(e)\ng = Add(f, one)\nh = Mul(x, g)\ny = Mul(h, half)",
        "multiply*3 erf add",
        "multiply*3 erf add",
    ),
    *(
        Case(f"layer_norm {name}", fuse_layer_norm, LAYER_NORM + body, before, "nn.layer_norm", LAYER_NORM_WEIGHTS)
        for name, body, before in [
            (
                "of a power",
                "s = Pow(d, two)\nv = ReduceMean<keepdims=1>(s, last)\ne = Add(v, eps)\nr = Sqrt(e)\n"
                "n = Div(d, r)\nw = Mul(n, g__weight)\ny = Add(w, g__bias)",
                "mean*2 subtract power add*2 sqrt divide multiply",
            ),
            (
                "of a product, sides turned",
                "s = Mul(d, d)\nv = ReduceMean<keepdims=1>(s, last)\ne = Add(v, eps)\n"
                "r = Sqrt(e)\nn = Div(d, r)\nw = Mul(g__weight, n)\ny = Add(g__bias, w)",
                "mean*2 subtract multiply*2 add*2 sqrt divide",
            ),
        ]
    ),
    Case(
        "rows over the deviation of other rows are no layer_norm",
        fuse_layer_norm,
        LAYER_NORM + "o = Neg(x)\ns = Pow(o, two)\nv = ReduceMean<keepdims=1>(s, last)\ne = Add(v, eps)\n"
        "r = Sqrt(e)\ny = Div(d, r)",
        "mean*2 subtract negative power add sqrt divide",
        "mean*2 subtract negative power add sqrt divide",
    ),
    Case("index from ids", drop_index_guards, "y = Identity(x)", "less add where", ""),
    Case(
        "index from a cumsum",
        drop_index_guards,
        "four = Constant<value_int=4>()\nb = Equal(ids, four)\ni = Cast<to=7>(b)\naxis = Constant<value_int=1>()\n"
        "s = CumSum(i, axis)\ny = Gather(seg__weight, s)",
        "equal astype cumsum less add where take",
        "equal astype cumsum take",
        {"seg__weight": normal(20, WIDTH)},
    ),
    Case(
        "an index that may be negative keeps its guard",
        drop_index_guards,
        "three = Constant<value_int=3>()\nd = Sub(ids, three)\ny = Gather(seg__weight, d)",
        "subtract less add where take",
        "subtract less add where take",
        {"seg__weight": normal(40, WIDTH)},
    ),
    Case(
        "a product with a negative keeps its guard",
        drop_index_guards,
        "m = Constant<value_int=-1>()\nd = Mul(ids, m)\ny = Gather(seg__weight, d)",
        "multiply less add where take",
        "multiply less add where take",
        {"seg__weight": normal(40, WIDTH)},
    ),
    Case(
        "slice of the positions",
        slice_positions,
        "n = Shape<start=1, end=2>(ids)\nzero = Constant<value_ints=[0]>()\no = Constant<value_ints=[0]>()\n"
        "at = Slice(range__weight, zero, n, o)\np = Gather(pos__weight, at)\ny = Add(x, p)",
        "strided_slice take add",
        "strided_slice add",
        {"range__weight": np.arange(20), "pos__weight": normal(20, WIDTH)},
    ),
    Case(
        "positions in another order stay",
        slice_positions,
        "n = Shape<start=1, end=2>(ids)\nzero = Constant<value_ints=[0]>()\no = Constant<value_ints=[0]>()\n"
        "at = Slice(range__weight, zero, n, o)\np = Gather(pos__weight, at)\ny = Add(x, p)",
        "strided_slice take add",
        "strided_slice take add",
        {"range__weight": np.arange(20)[::-1].copy(), "pos__weight": normal(20, WIDTH)},
    ),
    *(
        Case(f"rms_norm {name}", fuse_rms_norm, rms_norm(*parts), before, after, GAIN)
        for name, parts, before, after in [
            (
                "power, divide, gain right",
                ("Pow(x, two)", "r = Sqrt(e)\nq = Div(one, r)", "u = Mul(x, q)", "Mul(u, g__weight)"),
                "power mean add sqrt divide multiply*2",
                "nn.rms_norm",
            ),
            (
                "product, reciprocal, gain left",
                ("Mul(x, x)", ROOT, "u = Mul(q, x)", "Mul(g__weight, u)"),
                "multiply*3 mean add sqrt divide",
                "nn.rms_norm",
            ),
            (
                "of another's square stays",
                ("Mul(x, x)", ROOT, "z = Neg(x)\nu = Mul(z, q)", "Mul(u, g__weight)"),
                "multiply*3 mean add sqrt divide negative",
                "multiply*3 mean add sqrt divide negative",
            ),
            (
                "with a scalar gain stays",
                ("Mul(x, x)", ROOT, "u = Mul(x, q)", "Mul(u, eps)"),
                "multiply*3 mean add sqrt divide",
                "multiply*3 mean add sqrt divide",
            ),
        ]
    ),
    Case(
        "rows that are turned twice are themselves",
        find_plain_rows,
        "t = Transpose<perm=[1,0,2]>(x)\nu = Transpose<perm=[1,0,2]>(t)\ny = Sigmoid(u)",
        "permute_dims*2 sigmoid",
        "sigmoid",
    ),
    Case(
        "two directions side by side are pooled apart",
        find_plain_rows,
        "a = Sigmoid(x)\nb = Tanh(x)\nf = Constant<value_ints=[-1,1,1,16]>()\nr = Reshape(a, f)\ns = Reshape(b, f)\n"
        "c = Concat<axis=1>(r, s)\nt = Transpose<perm=[0,2,1,3]>(c)\nj = Constant<value_ints=[1,-1,32]>()\n"
        "y = Reshape(t, j)",
        "sigmoid tanh reshape*3 concat permute_dims",
        "sigmoid tanh concat mean",
    ),
    Case(
        "halves of a row that change places stay",
        find_plain_rows,
        "f = Constant<value_ints=[1,-1,2,8]>()\nr = Reshape(x, f)\nt = Transpose<perm=[0,2,1,3]>(r)\n"
        "j = Constant<value_ints=[1,-1,16]>()\ny = Reshape(t, j)",
        "reshape*2 permute_dims",
        "reshape*2 permute_dims",
    ),
    Case("silu", fuse_silu, "s = Sigmoid(x)\ny = Mul(x, s)", "sigmoid multiply", "nn.silu"),
    Case("silu turned", fuse_silu, "s = Sigmoid(x)\ny = Mul(s, x)", "sigmoid multiply", "nn.silu"),
    Case(
        "a gate of another value is no silu",
        fuse_silu,
        "z = Neg(x)\ns = Sigmoid(z)\ny = Mul(x, s)",
        "negative sigmoid multiply",
        "negative sigmoid multiply",
    ),
    Case(
        "causal convolution cut",
        pad_causally,
        CONV.format(conv="d = Conv<group=16, pads=[3,3]>(t, conv__weight, conv__bias)" + CUT.format("d")),
        "permute_dims*2 nn.conv1d add strided_slice",
        "permute_dims*2 nn.conv1d add",
        CONV_WEIGHTS,
    ),
    Case(
        "causal convolution cut, no bias",
        pad_causally,
        CONV.format(conv="d = Conv<group=16, pads=[3,3]>(t, conv__weight)" + CUT.format("d")),
        "permute_dims*2 nn.conv1d strided_slice",
        "permute_dims*2 nn.conv1d",
        CONV_WEIGHTS,
    ),
    Case(
        "a convolution of the future stays",
        pad_causally,
        CONV.format(conv="d = Conv<group=16, pads=[1,3]>(t, conv__weight)" + CUT.format("d")),
        "permute_dims*2 nn.conv1d strided_slice",
        "permute_dims*2 nn.conv1d strided_slice",
        CONV_WEIGHTS,
    ),
    Case(
        "a factor of a linear map",
        fold_scales,
        HALF + "m = MatMul(x, fc__weight)\na = Add(m, fc__bias)\ny = Mul(c, a)",
        "matmul add multiply",
        "matmul add",
        BIAS,
    ),
    Case(
        "a divisor of scores",
        fold_scales,
        HALF + "q = MatMul(x, fc__weight)\nk = MatMul(x, k__weight)\nt = Transpose<perm=[0,2,1]>(k)\n"
        "s = MatMul(q, t)\nd = Div(s, c)\np = Softmax(d)\ny = MatMul(p, x)",
        "matmul*4 permute_dims divide nn.softmax",
        "matmul*4 permute_dims nn.softmax",
        {**BIAS, "k__weight": normal(WIDTH, 8, seed=1)},
    ),
    Case(
        "a difference of linear maps",
        fold_scales,
        "a = MatMul(x, fc__weight)\nb = MatMul(x, k__weight)\nbb = Add(b, fc__bias)\ny = Sub(a, bb)",
        "matmul*2 add subtract",
        "matmul*2 add*2",
        {**BIAS, "k__weight": normal(WIDTH, 8, seed=1)},
    ),
    Case(
        "a factor of a table",
        fold_scales,
        HALF + "y = Mul(x, c)",
        "multiply",
        "",
    ),
    Case(
        "arithmetic on ids stays",
        fold_scales,
        "three = Constant<value_int=3>()\nd = Sub(ids, three)\ntwo = Constant<value_int=2>()\nm = Mul(d, two)\n"
        "f = Cast<to=1>(m)\nlast = Constant<value_ints=[2]>()\nu = Unsqueeze(f, last)\ny = Add(x, u)",
        "subtract multiply astype expand_dims add",
        "subtract multiply astype expand_dims add",
    ),
    Case(
        "what is used twice keeps its factor",
        fold_scales,
        HALF + "m = MatMul(x, fc__weight)\ns = Mul(m, c)\ny = Add(s, m)",
        "matmul multiply add",
        "matmul multiply add",
        BIAS,
    ),
    Case(
        "a factor stops at what is not linear",
        fold_scales,
        HALF + "m = MatMul(x, fc__weight)\nr = Relu(m)\ny = Mul(r, c)",
        "matmul nn.relu multiply",
        "matmul nn.relu multiply",
        BIAS,
    ),
]

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
            turned = builder.emit(relax.op.permute_dims(weight))
            wide = builder.emit(relax.op.reshape(bias, (1, 1, 8)))
            made = builder.emit(relax.op.add(builder.emit(relax.op.matmul(x, turned)), wide))
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
