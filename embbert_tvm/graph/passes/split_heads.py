"""Multi-head attention becomes a sum of attentions of one head each, every one on its share of the weights.

The columns of the query, key and value maps that a head reads, and the rows of the output map that it feeds, are cut
out as constants: no tensor of four dimensions is left, and no head is gathered from or scattered to anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, constant, op_name, rewrite, shape


@dataclass(frozen=True)
class _Linear:
    """rows @ weight + bias; bias may be None."""

    rows: relax.Expr
    weight: np.ndarray
    bias: np.ndarray | None

    def columns(self, part: slice, graph: Rebuilder, name: str) -> relax.Expr:
        product = relax.op.matmul(self.rows, relax.const(self.weight[:, part]))
        if self.bias is None:
            return graph.emit(product, name)
        made = graph.emit(product, f"{name}_matmul")
        return graph.emit(relax.op.add(made, relax.const(self.bias[part])), name)


@dataclass(frozen=True)
class _Heads:
    """A linear map's rows by head, (1, heads, L, width), times `factor`, or with the last two axes `transposed`."""

    linear: _Linear
    count: int
    width: int
    transposed: bool
    factor: float


def _linear(expr: relax.Expr, graph: Rebuilder) -> _Linear | None:
    if not graph.single_use(expr):
        return None
    bias = None
    if (total := graph.match(expr, "add")) is not None:
        for part, other in (total.args, reversed(total.args)):
            if constant(other) is not None and constant(other).ndim == 1 and graph.single_use(part):
                expr, bias = part, constant(other)
    product = graph.match(expr, "matmul")
    weight = constant(product.args[1]) if product is not None else None
    if weight is None or weight.ndim != 2 or len(shape(product.args[0])) != 3:
        return None
    if bias is not None and bias.shape != weight.shape[1:]:
        return None
    return _Linear(product.args[0], weight, bias)


def _transposed(expr: relax.Expr, axes: list[int], graph: Rebuilder) -> relax.Expr | None:
    made = graph.match(expr, "permute_dims")
    same = made is not None and [int(a) for a in made.attrs.axes] == axes
    return made.args[0] if same and graph.single_use(expr) else None


def _unscaled(expr: relax.Expr, graph: Rebuilder) -> tuple[relax.Expr, float]:
    """(x, c), where `expr` is c * x."""
    factor = 1.0
    while op_name(scaled := graph.producer(expr)) in ("multiply", "divide") and graph.single_use(expr):
        sides = [scaled.args, scaled.args[::-1]] if op_name(scaled) == "multiply" else [scaled.args]
        values = [(x, constant(graph.producer(other))) for x, other in sides]
        found = next(((x, v) for x, v in values if v is not None and v.size == 1), None)
        if found is None:
            break
        expr, number = found[0], float(found[1].reshape(()))
        factor *= number if op_name(scaled) == "multiply" else 1 / number
    return expr, factor


def _heads(expr: relax.Expr, graph: Rebuilder) -> _Heads | None:
    transposed = False
    expr, factor = _unscaled(expr, graph)
    if (swapped := _transposed(expr, [0, 1, 3, 2], graph)) is not None:
        expr, transposed = swapped, True
    apart = _transposed(expr, [0, 2, 1, 3], graph)
    if apart is None and not transposed:
        apart, transposed = _transposed(expr, [0, 2, 3, 1], graph), True
    if apart is not None:
        apart, more = _unscaled(apart, graph)
        factor *= more
    cut = graph.match(apart, "reshape") if apart is not None else None
    if cut is None or not graph.single_use(apart) or len(shape(apart)) != 4:
        return None
    count, width = shape(apart)[2:]
    rows, more = _unscaled(cut.args[0], graph)
    linear = _linear(rows, graph)
    if linear is None or not isinstance(count, int) or linear.weight.shape[1] != count * width:
        return None
    return _Heads(linear, count, width, transposed, factor * more)


@dataclass(frozen=True)
class _Scores:
    """factor * queries @ keys, and beside it, where `bias` is not None, table[:, at] of a take (heads, m) at (L, L)."""

    queries: relax.Expr
    keys: relax.Expr
    factor: float
    bias: Call | None = None


def _scores(expr: relax.Expr, graph: Rebuilder) -> _Scores | None:
    total = graph.match(expr, "add")
    for product, beside in (total.args, reversed(total.args)) if total is not None else ():
        bias = _by_head(beside, graph)
        if bias is not None and graph.single_use(product) and (found := _scores(product, graph)) is not None:
            return replace(found, bias=bias)
    expr, factor = _unscaled(expr, graph)
    product = graph.match(expr, "matmul")
    return _Scores(*product.args, factor) if product is not None and graph.single_use(expr) else None


def _by_head(expr: relax.Expr, graph: Rebuilder) -> Call | None:
    """The take of a table (heads, m), with the same places (L, L) for all heads, that `expr` is."""
    made = graph.match(expr, "take")
    table = constant(made.args[0]) if made is not None else None
    one = table is not None and table.ndim == 2 and made.attrs.axis is not None and int(made.attrs.axis) == 1
    return made if one and len(shape(made.args[1])) == 2 else None


def split_heads(mod: IRModule) -> IRModule:
    biases: dict[tuple[Call, int], relax.Expr] = {}  # what layers share is made once

    def bias_of(taken: Call, head: int, name: str, graph: Rebuilder) -> relax.Expr:
        if (taken, head) not in biases:
            table = relax.const(constant(taken.args[0])[head : head + 1])
            biases[taken, head] = graph.emit(Call(taken.op, [table, taken.args[1]], taken.attrs), name)
        return biases[taken, head]

    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        weight = constant(call.args[1]) if op_name(call) == "matmul" else None
        joined = graph.match(call.args[0], "reshape") if weight is not None and weight.ndim == 2 else None
        if joined is None or not graph.single_use(call.args[0]):
            return None
        context = _transposed(joined.args[0], [0, 2, 1, 3], graph)
        attended = graph.match(context, "matmul") if context is not None else None
        softmax = graph.match(attended.args[0], "nn.softmax") if attended is not None else None
        if softmax is None or int(softmax.attrs.axis) not in (-1, 3) or not graph.single_use(attended.args[0]):
            return None
        found = _scores(softmax.args[0], graph)
        if found is None or not graph.single_use(softmax.args[0]) or not graph.single_use(context):
            return None
        queries, keys, values = (_heads(e, graph) for e in (found.queries, found.keys, attended.args[1]))
        if queries is None or keys is None or values is None:
            return None
        if queries.transposed or values.transposed or not keys.transposed:
            return None
        if not queries.count == keys.count == values.count or len(weight) != values.count * values.width:
            return None
        if queries.count == 1 and queries.width != keys.width:
            return None
        factor = found.factor * queries.factor * keys.factor
        if values.factor != 1 or (found.bias is not None and len(constant(found.bias.args[0])) != queries.count):
            return None
        name = graph.name_of(call.args[0]).removesuffix("_reshape")
        total = None
        for head in range(queries.count):
            part = slice(head * queries.width, (head + 1) * queries.width)
            query = queries.linear.columns(part, graph, f"{name}_query{head}")
            key = keys.linear.columns(part, graph, f"{name}_key{head}")
            mine = slice(head * values.width, (head + 1) * values.width)
            value = values.linear.columns(mine, graph, f"{name}_value{head}")
            key = graph.emit(relax.op.permute_dims(key, [0, 2, 1]), f"{name}_key{head}_permute_dims")
            score = graph.emit(relax.op.matmul(query, key), f"{name}_head{head}_matmul")
            score = graph.emit(relax.op.multiply(score, relax.const(np.float32(factor))), f"{name}_head{head}_multiply")
            if found.bias is not None:
                bias = bias_of(found.bias, head, f"{name}_head{head}_bias", graph)
                score = graph.emit(relax.op.add(score, bias), f"{name}_head{head}_biased")
            share = graph.emit(relax.op.nn.softmax(score, -1), f"{name}_head{head}_softmax")
            rows = graph.emit(relax.op.matmul(share, value), f"{name}_head{head}")
            out = relax.op.matmul(rows, relax.const(weight[mine]))
            if total is not None:
                total = relax.op.add(graph.emit(total, f"{name}_out"), graph.emit(out, f"{name}_out"))
            else:
                total = out
        return total

    return rewrite(mod, rule)
