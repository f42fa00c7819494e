"""softmax(q k^T) v in one kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embbert_tvm.errors import InputError
from embbert_tvm.graph.dataflow import Dataflow, Expr, constant, op_name, shape
from embbert_tvm.graph.names import plain
from embbert_tvm.graph.quantize.quantizer import Kernel, Quantizer, Rows
from embbert_tvm.graph.shares import share_of
from embbert_tvm.kernels import attention as kernel
from embbert_tvm.kernels.fixed_point import multiplier


@dataclass(frozen=True)
class Match:
    """share: rows of queries for each of keys, of what is not one row."""

    query: Expr
    key: Expr
    value: Expr
    share: int = 1


def match(graph: Dataflow, expr: Expr) -> Match | None:
    context = graph.match(expr, "matmul")
    if context is None or constant(context.args[1]) is not None or len(shape(expr)) != 3:
        return None
    softmax = graph.match(context.args[0], "nn.softmax")
    if softmax is None:
        return None
    if int(softmax.attrs.axis) not in (-1, 2) or graph.uses(context.args[0]) != 1:
        return graph.refuse(expr, f"{context.args[0].name} is not a softmax of the last axis that this alone reads")
    scores = graph.match(softmax.args[0], "matmul")
    if scores is None or graph.uses(softmax.args[0]) != 1:
        return graph.refuse(expr, f"{softmax.args[0].name} is not a product of queries and keys that this alone reads")
    transposed = graph.match(scores.args[1], "permute_dims")
    if transposed is None or [int(a) for a in transposed.attrs.axes] != [0, 2, 1]:
        return graph.refuse(expr, f"the keys {scores.args[1].name} are not transposed rows")
    query, key, value = scores.args[0], transposed.args[0], context.args[1]
    if str(shape(key)) != str(shape(value)) or shape(query)[2] != shape(key)[2] or not isinstance(shape(key)[2], int):
        return graph.refuse(expr, f"the keys {key.name} and values {value.name} are not as wide as {query.name}")
    # The kernel reads as many queries as it writes rows: all, or a row that was made as one.
    if isinstance(shape(key)[1], int) or op_name(graph.producer(query)) in ("strided_slice", "take"):
        return None
    if isinstance(shape(query)[1], int):
        return Match(query, key, value)
    share = share_of(shape(query)[1], shape(key)[1], shape(graph.function.params[0])[1])
    return None if share is None else Match(query, key, value, share)


def inputs(graph: Dataflow, found: Match) -> list[Expr]:
    """What the operator reads."""
    return [found.query, found.key, found.value]


def precision_source(found: Match) -> None:
    """The plan says how this is computed."""


def quantized(q: Quantizer, expr: Expr, found: Match) -> Rows:
    query, key, value = q.quantized(found.query), q.quantized(found.key), q.quantized(found.value)
    one_row = isinstance(shape(query.expr)[0], int)
    width = shape(expr)[-1]
    # An average of values is no larger than they are; 15 is as far as `ratio` reaches.
    scale = max(min(q.calibration.scale(expr.name), value.scale), value.scale / 15)
    score_multiplier = kernel.score_multiplier(query.scale * key.scale)
    if score_multiplier >= 0.5:
        raise InputError(
            f"{expr.name}: the scores of this attention are too large for int8 (one step of them is "
            f"{query.scale * key.scale:.3g}, 0.0108 is the most): compile with --precision fp32"
        )
    args = [
        query.expr,
        key.expr,
        value.expr,
        kernel.exp_table(),
        multiplier(np.array([score_multiplier])),
        multiplier(np.array([kernel.ratio_multiplier(value.scale, scale)])),
    ]
    name = f"{plain(expr.name)}_attention"
    names = {3: "exp", 4: "score_multiplier", 5: "ratio"}
    spec = kernel.Attention(width, one_row, share=found.share)
    made = q.kernel(
        Kernel(kernel.attention(spec), spec),
        name,
        args,
        ([shape(query.expr)[0], width], "int8"),
        "scores, softmax and context a row",
        names,
    )
    return Rows(made, scale)


def dequantized(q: Quantizer, expr: Expr, found: Match) -> None:
    """The driver converts the int8 rows."""
