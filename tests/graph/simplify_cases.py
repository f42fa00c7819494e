"""Cases of the passes that simplify: what a graph holds before and after; the first half."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from small import normal

from embbert_tvm.graph.passes.activations import fuse_activations
from embbert_tvm.graph.passes.batch_of_one import keep_batch
from embbert_tvm.graph.passes.softplus import fuse_softplus
from embbert_tvm.graph.passes.split_columns import split_columns
from embbert_tvm.graph.passes.split_heads import split_heads

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


NORMS_AND_INDICES = [
    Case(
        "two heads",
        split_heads,
        heads("kt = Transpose<perm=[0,2,3,1]>(k4)", "s2 = Div(s, d)"),
        "matmul*6 add*2 reshape*4 permute_dims*4 divide nn.softmax",
        "matmul*12 add*5 permute_dims*2 multiply*2 nn.softmax*2",
        HEADS,
    ),
    Case(
        "two heads, keys transposed after they are apart",
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
]
