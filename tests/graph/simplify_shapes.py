"""Cases of the passes that simplify: the second half, and all."""

from __future__ import annotations

import numpy as np
from simplify_cases import (
    BIAS,
    CONV,
    CONV_WEIGHTS,
    CUT,
    GAIN,
    GELU,
    HALF,
    LAYER_NORM,
    LAYER_NORM_WEIGHTS,
    NORMS_AND_INDICES,
    ROOT,
    WIDTH,
    Case,
    rms_norm,
)
from small import normal

from embbert_tvm.graph.passes.activations import fuse_activations
from embbert_tvm.graph.passes.causal_conv import pad_causally
from embbert_tvm.graph.passes.fold_scales import fold_scales
from embbert_tvm.graph.passes.index_guards import drop_index_guards
from embbert_tvm.graph.passes.layer_norm import fuse_layer_norm
from embbert_tvm.graph.passes.plain_rows import find_plain_rows
from embbert_tvm.graph.passes.position_slice import slice_positions
from embbert_tvm.graph.passes.rms_norm import fuse_rms_norm
from embbert_tvm.graph.passes.silu import fuse_silu


def _norms(mod):
    """Both passes, in the pipeline's order."""
    return fuse_layer_norm(fuse_rms_norm(mod))


CASES = [
    *NORMS_AND_INDICES,
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
                "of a product, sides transposed",
                "s = Mul(d, d)\nv = ReduceMean<keepdims=1>(s, last)\ne = Add(v, eps)\n"
                "r = Sqrt(e)\nn = Div(d, r)\nw = Mul(g__weight, n)\ny = Add(g__bias, w)",
                "mean*2 subtract multiply*2 add*2 sqrt divide",
            ),
        ]
    ),
    *(
        Case(
            f"layer_norm of what is an rms_norm of centred rows, {name}",
            _norms,
            f"{LAYER_NORM}s = Pow(d, two)\nv = ReduceMean<keepdims=1>(s, last)\ne = Add(v, eps)\n{body}\n"
            "w = Mul(n, g__weight)\ny = Add(w, g__bias)",
            before,
            "nn.layer_norm",
            LAYER_NORM_WEIGHTS,
        )
        for name, body, before in [
            ("a quotient", "r = Sqrt(e)\nn = Div(d, r)", "mean*2 subtract power add*2 sqrt divide multiply"),
            ("a reciprocal", f"{ROOT}\nn = Mul(d, q)", "mean*2 subtract power add*2 sqrt divide multiply*2"),
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
                "with a scalar gain",
                ("Mul(x, x)", ROOT, "u = Mul(x, q)", "Mul(u, eps)"),
                "multiply*3 mean add sqrt divide",
                "nn.rms_norm multiply",
            ),
            (
                "as a quotient",
                ("Mul(x, x)", "r = Sqrt(e)", "u = Div(x, r)", "Mul(u, g__weight)"),
                "multiply*2 mean add sqrt divide",
                "nn.rms_norm",
            ),
            (
                "without a gain",
                ("Mul(x, x)", "r = Sqrt(e)", "u = Div(x, r)", "Neg(u)"),
                "multiply mean add sqrt divide negative",
                "nn.rms_norm negative",
            ),
            (
                "by a power",
                (
                    "Pow(x, two)",
                    "h = Constant<value = float {-0.5}>()\nq = Pow(e, h)",
                    "u = Mul(x, q)",
                    "Mul(u, g__weight)",
                ),
                "power*2 mean add multiply*2",
                "nn.rms_norm",
            ),
            (
                "divided by another's root stays",
                ("Mul(x, x)", "r = Sqrt(e)", "z = Neg(x)\nu = Div(z, r)", "Mul(u, g__weight)"),
                "multiply*2 mean add sqrt divide negative",
                "multiply*2 mean add sqrt divide negative",
            ),
        ]
    ),
    Case("silu", fuse_silu, "s = Sigmoid(x)\ny = Mul(x, s)", "sigmoid multiply", "nn.silu"),
    Case("silu transposed", fuse_silu, "s = Sigmoid(x)\ny = Mul(s, x)", "sigmoid multiply", "nn.silu"),
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
    Case(
        "rows that are transposed twice are themselves",
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
]
