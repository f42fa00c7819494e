"""softmax(q k^T) v in one kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tvm.ir import Call

from embbert_tvm.errors import InputError
from embbert_tvm.graph.dataflow import Dataflow, Expr, constant, op_name, shape, summands, transposed_of
from embbert_tvm.graph.distances import Relative, by_distance, gathered, relative
from embbert_tvm.graph.names import plain
from embbert_tvm.graph.quantize.quantizer import Kernel, Quantizer, Rows
from embbert_tvm.graph.shares import share_of
from embbert_tvm.kernels import attention as kernel
from embbert_tvm.kernels.fixed_point import multiplier


@dataclass(frozen=True)
class Match:
    """share: rows of queries for each of keys, of what is not one row. distances: real (2M - 1,), what scores of up to
    M rows have added by distance; relative: what queries and keys add by distance."""

    query: Expr
    key: Expr
    value: Expr
    share: int = 1
    distances: np.ndarray | None = None
    relative: Relative | None = None

    @property
    def by_distance(self) -> bool:
        """Whether scores have anything added by distance."""
        return self.distances is not None or self.relative is not None


def _scores(graph: Dataflow, expr: Expr) -> tuple[Call, np.ndarray | None, Relative | None] | None:
    """The product of queries and keys that `expr` is, and what it has added by distance."""
    product, distances, found = None, None, []
    for part in summands(graph, expr):
        if str(shape(part)) != str(shape(expr)):
            return None
        if (one := gathered(graph, part)) is not None:
            found.append(one)
        elif (scores := graph.match(part, "matmul")) is not None and product is None:
            product = scores
        elif distances is None and len(shape(part)) == 3 and (column := by_distance(graph, part)) is not None:
            distances = column
        else:
            return None
    if product is None or len({one.of_keys for one in found}) != len(found):
        return None
    query, key = product.args[0], transposed_of(graph, product.args[1])
    if any(not one.rows.same_as(query if one.of_keys else key) for one in found):
        return None
    return product, distances, relative(found) if found else None


def match(graph: Dataflow, expr: Expr) -> Match | None:
    context = graph.match(expr, "matmul")
    if context is None or constant(context.args[1]) is not None or len(shape(expr)) != 3:
        return None
    softmax = graph.match(context.args[0], "nn.softmax")
    if softmax is None:
        return None
    if int(softmax.attrs.axis) not in (-1, 2) or graph.uses(context.args[0]) != 1:
        return graph.refuse(expr, f"{context.args[0].name} is not a softmax of the last axis that this alone reads")
    found = _scores(graph, softmax.args[0])
    if found is None or graph.uses(softmax.args[0]) != 1:
        return graph.refuse(expr, f"{softmax.args[0].name} is not a product of queries and keys that this alone reads")
    scores, distances, by_places = found
    key = transposed_of(graph, scores.args[1])
    if key is None:
        return graph.refuse(expr, f"the keys {scores.args[1].name} are not transposed rows")
    query, value = scores.args[0], context.args[1]
    if str(shape(key)) != str(shape(value)) or shape(query)[2] != shape(key)[2] or not isinstance(shape(key)[2], int):
        return graph.refuse(expr, f"the keys {key.name} and values {value.name} are not as wide as {query.name}")
    # The kernel reads as many queries as it writes rows: all, or a row that was made as one.
    if isinstance(shape(key)[1], int) or op_name(graph.producer(query)) in ("strided_slice", "take"):
        return None
    if isinstance(shape(query)[1], int):
        return Match(query, key, value, distances=distances, relative=by_places)
    share = share_of(shape(query)[1], shape(key)[1], shape(graph.function.params[0])[1])
    made = None if share is None else Match(query, key, value, share, distances, by_places)
    if made is not None and made.share > 1 and made.by_distance:
        return graph.refuse(expr, f"{softmax.args[0].name} has something added by distance from keys that are shared")
    return made


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
    roles = ["exp", "score_multiplier", "ratio"]
    spec = kernel.Attention(width, one_row, share=found.share)
    if found.distances is not None:
        spec = replace(spec, distances=(len(found.distances) + 1) // 2)
        args.append(_in_steps(found.distances, query.scale * key.scale))
        roles.append("distances")
    if found.relative is not None:
        spec = replace(spec, relative=kernel.Places(found.relative.most, len(found.relative.of_keys)))
        args += _of_places(found.relative, query.scale, key.scale)
        roles += ["of_keys", "of_queries", "places"]
    name = f"{plain(expr.name)}_attention"
    made = q.kernel(
        Kernel(kernel.attention(spec), spec),
        name,
        args,
        ([shape(query.expr)[0], width], "int8"),
        "scores, softmax and context a row",
        dict(enumerate(roles, 3)),
    )
    return Rows(made, scale)


def _in_steps(distances: np.ndarray, step: float) -> np.ndarray:
    """int32 (1, 2M - 1). What is too far below any score, a mask, say, is as far as an int32 of scores can hold."""
    return np.rint(np.clip(distances.astype(np.float64) / step, -(2.0**29), 2.0**29)).astype(np.int32)[None]


def _of_places(found: Relative, query_scale: float, key_scale: float) -> list[np.ndarray]:
    """of_keys and of_queries int16 (1, P, width), in steps of keys and of queries, so that their products are in those
    of scores; places int16 (1, 2M - 1)."""
    tables = [
        np.clip(np.rint(values.astype(np.float64) / scale), -(2**15), 2**15 - 1).astype(np.int16)[None]
        for values, scale in ((found.of_keys, key_scale), (found.of_queries, query_scale))
    ]
    return [*tables, found.places.astype(np.int16)[None]]


def dequantized(q: Quantizer, expr: Expr, found: Match) -> None:
    """The driver converts the int8 rows."""
