"""A linear layer whose rows are float32 on both sides and integers inside (kernels/row_product.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from embbert_tvm.graph.dataflow import Dataflow, Expr, constant, op_name, shape
from embbert_tvm.graph.names import plain
from embbert_tvm.graph.quantize import row_slice
from embbert_tvm.graph.quantize.quantizer import Kernel, Quantizer, Rows
from embbert_tvm.graph.quantize.weights import per_channel
from embbert_tvm.kernels.row_product import RowProduct, most_columns, row_product

# By the precision's activations: the kernel's dtype, static and threshold.
KINDS = {
    "rows": {"dtype": "int8"},
    "outliers": {"dtype": "int8", "threshold": 6.0},
    "int16": {"dtype": "int16", "static": True},
}


@dataclass(frozen=True)
class Match:
    """x (1, L, k) or (1, k); weight (k, n) and bias (n,), real."""

    x: Expr
    weight: np.ndarray
    bias: np.ndarray


def match(graph: Dataflow, expr: Expr) -> Match | None:
    made, bias = graph.producer(expr), None
    if op_name(made) == "add":
        bias = next((value for a in made.args if (value := constant(a)) is not None), None)
        rest = [a for a in made.args if constant(a) is None]
        if bias is None or len(rest) != 1 or graph.uses(rest[0]) != 1:
            return None
        made = graph.producer(rest[0])
    if op_name(made) != "matmul" or (weight := constant(made.args[1])) is None or weight.ndim != 2:
        return None
    x, (k, n), dims = made.args[0], weight.shape, shape(expr)
    if constant(x) is not None or dims[0] != 1 or len(dims) not in (2, 3) or len(shape(x)) != len(dims):
        return None
    if k > min(most_columns(kind["dtype"]) for kind in KINDS.values()):
        return None
    bias = np.zeros(n) if bias is None else bias.reshape(-1)
    fits = len(bias) == n and (len(dims) == 2 or dims[1] == 1 or not isinstance(dims[1], int))
    return Match(x, weight, bias) if fits else None


def dequantized(q: Quantizer, expr: Expr, found: Match) -> Expr:
    kind = KINDS[q.plan.precision(expr.name).activations]
    k, n = found.weight.shape
    x, dims = q.dequantized(found.x), shape(expr)
    rows = dims[1] if len(dims) == 3 else 1
    if len(dims) == 2:
        x = q.builder.emit(relax.op.reshape(x, (1, 1, k)), name_hint=f"{plain(expr.name)}_row")
    channels = per_channel(found.weight.T, np.zeros(n))
    spec = RowProduct(k, n, isinstance(rows, int), **kind)
    args: list = [x]
    if spec.static:
        sliced = row_slice.match(q.graph, found.x)
        name = (found.x if sliced is None else sliced.tensor).name
        # So many steps need no saturation.
        step = replace(q.calibration, method=lambda tensor: "minmax").scale(name, spec.levels)
        args.append(np.array([step], np.float32))
    args += [channels.weight, channels.scale.astype(np.float32), found.bias.astype(np.float32)]
    names = dict(zip(range(1, len(args)), (["step"] if spec.static else []) + ["weight", "scale", "bias"], strict=True))
    reason = f"a linear layer of {spec.dtype} rows between float32"
    made = q.kernel(
        Kernel(row_product(spec), spec, spec.dtype), plain(expr.name), args, ([1, rows, n], "float32"), reason, names
    )
    return made if len(dims) == 3 else q.builder.emit(relax.op.reshape(made, expr.ty.shape), name_hint=expr.name)


def quantized(q: Quantizer, expr: Expr, found: Match) -> Rows:
    """Quantize what it gives in float32, for a consumer in int8."""
    return q.quantize_float(expr)


def inputs(graph: Dataflow, found: Match) -> list[Expr]:
    """What the operator reads."""
    return [found.x]


def precision_source(found: Match) -> None:
    """The plan says how this is computed."""
