"""Multi-head attention becomes a sum of attentions of one head each, every one on its share of the weights.

The columns of the query, key and value maps that a head reads, and the rows of the output map that it feeds, are cut
out as constants: no tensor of four dimensions is left, and no head is gathered from or scattered to anything.
Rotary positions rotate pairs of columns by an angle a row: what rotates them is a linear map too, so that a head's
queries are q * cos + (q rotated) * sin, two maps of the same rows, each times rows of a table (rotary.py). What scores
gather by distance from products of queries or keys with constants (relative.py) is split likewise.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, constant, op_name, rewrite, shape, summands
from embbert_tvm.graph.passes.relative import Gathered, find_gathered, unstacked
from embbert_tvm.graph.passes.rotary import find_one_of_several, find_rotated


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

    def times(self, factor: float) -> _Linear:
        scaled = [None if v is None else (v.astype(np.float64) * factor).astype(v.dtype) for v in self.values]
        return _Linear(self.rows, *scaled)

    def of(self, part: slice) -> _Linear:
        """The map to some of the columns."""
        return _Linear(self.rows, *(None if v is None else v[..., part] for v in self.values))

    def rotated(self, first: np.ndarray, second: np.ndarray) -> _Linear:
        """(-second, first) of the columns."""
        values = [None if v is None else np.concatenate([-v[..., second], v[..., first]], -1) for v in self.values]
        return _Linear(self.rows, *values)

    @property
    def values(self) -> tuple[np.ndarray, np.ndarray | None]:
        return self.weight, self.bias


@dataclass(frozen=True)
class _Heads:
    """A linear map's rows by head, (1, heads, L, width), times `factor`, or with the last two axes `transposed`. by:
    the tables (L, width) of cosines and sines that rotate them."""

    linear: _Linear
    count: int
    width: int
    transposed: bool
    factor: float
    by: tuple[relax.Expr, relax.Expr] | None = None

    def head(self, number: int, graph: Rebuilder, name: str, factor: float = 1.0) -> relax.Expr:
        """The rows (1, L, width) of one head times `factor`."""
        part = slice(number * self.width, (number + 1) * self.width)
        linear, half = self.linear if factor == 1 else self.linear.times(factor), self.width // 2
        if self.by is None:
            return linear.columns(part, graph, name)
        columns = np.arange(part.start, part.stop)
        plain = linear.columns(part, graph, f"{name}_plain")
        rotated = linear.rotated(columns[:half], columns[half:]).columns(slice(None), graph, f"{name}_rotated")
        parts = [
            graph.emit(relax.op.multiply(rows, by), f"{graph.name_of(rows)}_by")
            for rows, by in zip((plain, rotated), self.by, strict=True)
        ]
        return graph.emit(relax.op.add(*parts), name)


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
    for axes in ([0, 1, 3, 2], [0, 2, 1]):
        if (swapped := _transposed(expr, axes, graph)) is not None:
            expr, transposed = swapped, True
    expr = unstacked(expr, graph)
    rotated = find_rotated(expr, graph)
    apart = _transposed(expr, [0, 2, 1, 3], graph) if rotated is None else _by_rows(rotated.rows, graph)
    if apart is None and rotated is None and not transposed:
        apart, transposed = _transposed(expr, [0, 2, 3, 1], graph), True
    if apart is not None:
        apart, more = _unscaled(apart, graph)
        factor *= more
    if apart is None or len(shape(apart)) != 4:
        return None
    count, width = shape(apart)[2:]
    by = None if rotated is None else (rotated.cosines, rotated.sines)
    if (one := find_one_of_several(apart, graph)) is not None:
        linear = _linear(one.rows, graph)
        if linear is None or linear.weight.shape[1] != one.count * count * width:
            return None
        part = slice(one.number * count * width, (one.number + 1) * count * width)
        return _Heads(linear.of(part), count, width, transposed, factor, by)
    cut = graph.match(apart, "reshape")
    if cut is None or not graph.single_use(apart):
        return None
    rows, more = _unscaled(cut.args[0], graph)
    linear = _linear(rows, graph)
    if linear is None or not isinstance(count, int) or linear.weight.shape[1] != count * width:
        return None
    return _Heads(linear, count, width, transposed, factor * more, by)


def _by_rows(expr: relax.Expr, graph: Rebuilder) -> relax.Expr | None:
    """(1, L, heads, width), of which `expr` (1, heads, L, width) is the transposition."""
    made = graph.match(expr, "permute_dims")
    return made.args[0] if made is not None and [int(a) for a in made.attrs.axes] == [0, 2, 1, 3] else None


@dataclass(frozen=True)
class _Scores:
    """factor * queries @ keys, and beside it, where `bias` is not None, table[:, at] of a take (heads, m), or of (m,)
    for all heads, at (L, L); gathered: what else is added."""

    queries: relax.Expr
    keys: relax.Expr
    factor: float
    bias: Call | None = None
    gathered: tuple[Gathered, ...] = ()


def _scores(expr: relax.Expr, graph: Rebuilder) -> _Scores | None:
    bias, gathered, products = None, [], []
    for part in summands(graph, unstacked(expr, graph)):
        if (found := _by_head(part, graph)) is not None and bias is None:
            bias = found
            continue
        part, factor = _unscaled(part, graph)
        if (taken := find_gathered(part, graph)) is not None:
            gathered.append(replace(taken, factor=factor))
            continue
        product = graph.match(part, "matmul")
        if product is None or not graph.single_use(part):
            return None
        products.append((*product.args, factor))
    return _Scores(*products[0], bias, tuple(gathered)) if len(products) == 1 else None


def _by_head(expr: relax.Expr, graph: Rebuilder) -> Call | None:
    """The take of a table (heads, m) or (m,), with the same places (L, L) for all heads, that `expr` is."""
    made = graph.match(expr, "take")
    table = constant(made.args[0]) if made is not None else None
    if table is None or made.attrs.axis is None or len(shape(made.args[1])) != 2:
        return None
    return made if int(made.attrs.axis) == table.ndim - 1 and table.ndim in (1, 2) else None


@dataclass(frozen=True)
class _Attention:
    """softmax(scores) @ values of all heads, side by side, times `weight`."""

    scores: _Scores
    queries: _Heads
    keys: _Heads
    values: _Heads
    weight: np.ndarray

    @property
    def factor(self) -> float:
        """What the products of queries and keys are multiplied by."""
        return self.scores.factor * self.queries.factor * self.keys.factor

    @property
    def scales_queries(self) -> bool:
        """Whether the factor is the queries', as it is not alone what lies between them and the softmax."""
        return self.queries.by is not None or bool(self.scores.gathered)


def _attention(call: Call, graph: Rebuilder) -> _Attention | None:
    """What `call`, the product of joined contexts with the output's weights, computes; None where it is none such."""
    weight = constant(call.args[1]) if op_name(call) == "matmul" else None
    joined = graph.match(call.args[0], "reshape") if weight is not None and weight.ndim == 2 else None
    if joined is None or not graph.single_use(call.args[0]):
        return None
    context = _transposed(joined.args[0], [0, 2, 1, 3], graph)
    context = context if context is None else unstacked(context, graph)
    attended = graph.match(context, "matmul") if context is not None else None
    weights = unstacked(attended.args[0], graph) if attended is not None else None
    softmax = graph.match(weights, "nn.softmax") if weights is not None else None
    if softmax is None or int(softmax.attrs.axis) not in (-1, len(shape(weights)) - 1):
        return None
    if not graph.single_use(weights) or not graph.single_use(attended.args[0]):
        return None
    scores = _scores(softmax.args[0], graph)
    if scores is None or not graph.single_use(softmax.args[0]) or not graph.single_use(context):
        return None
    queries, keys, values = (_heads(e, graph) for e in (scores.queries, scores.keys, attended.args[1]))
    if queries is None or keys is None or values is None:
        return None
    gathered = [_of_rows(one, keys if one.transposed else queries, graph) for one in scores.gathered]
    if any(one is None for one in gathered):
        return None
    scores = replace(scores, gathered=tuple(gathered))
    found = _Attention(scores, queries, keys, values, weight)
    return found if _fits(found) else None


def _of_rows(found: Gathered, rows: _Heads, graph: Rebuilder) -> Gathered | None:
    """What is gathered from the products of `rows`, whose own factor is left out of it; None where it is of others."""
    read = _heads(found.rows, graph)
    if read is None or read.transposed or read.by is not None or (read.count, read.width) != found.weight.shape[:2]:
        return None
    alike = all(np.array_equal(a, b) for a, b in zip(read.linear.values, rows.linear.values, strict=True))
    same = alike and read.linear.rows.same_as(rows.linear.rows)
    return replace(found, factor=found.factor * read.factor) if same else None


def _fits(found: _Attention) -> bool:
    """Whether queries, keys and values are heads of one attention."""
    queries, keys, values, bias = found.queries, found.keys, found.values, found.scores.bias
    if queries.transposed or values.transposed or not keys.transposed:
        return False
    if not queries.count == keys.count == values.count or len(found.weight) != values.count * values.width:
        return False
    if queries.count == 1 and queries.width != keys.width:
        return False
    table = None if bias is None else constant(bias.args[0])
    if table is not None and table.ndim == 2 and len(table) != queries.count:
        return False
    if found.scores.gathered and queries.by is not None:
        return False
    return values.factor == 1 and values.by is None and (queries.by is None) == (keys.by is None)


@dataclass
class _ByDistance:
    """Rows of tables at (L, L), which layers and heads that share them share."""

    made: dict[tuple[bytes, relax.Expr], relax.Expr] = field(default_factory=dict)

    def of(self, row: np.ndarray, index: relax.Expr, name: str, graph: Rebuilder) -> relax.Expr:
        """(1, L, L) of a row (1, m)."""
        key = (row.tobytes(), index)
        if key not in self.made:
            self.made[key] = graph.emit(relax.op.take(relax.const(row), index, axis=1, mode="clip"), name)
        return self.made[key]


def _score(
    found: _Attention, head: int, rows: tuple[relax.Expr, relax.Expr], name: str, shared: _ByDistance, graph: Rebuilder
) -> relax.Expr:
    """The scores (1, L, L) of a head from `rows`, its queries and keys. Where there is anything but a bias beside, the
    queries have the factor of the scores."""
    query, key = rows
    factor, bias = found.factor, found.scores.bias
    transposed = graph.emit(relax.op.permute_dims(key, [0, 2, 1]), f"{graph.name_of(key)}_permute_dims")
    score = graph.emit(relax.op.matmul(query, transposed), f"{name}_matmul")
    if not found.scales_queries:
        score = graph.emit(relax.op.multiply(score, relax.const(np.float32(factor))), f"{name}_multiply")
    for one in found.scores.gathered:
        read, by, of = (key, 1.0, "key") if one.transposed else (query, 1 / factor, "query")
        weight = (one.weight[head].astype(np.float64) * (one.factor * by)).astype(one.weight.dtype)
        product = graph.emit(relax.op.matmul(read, relax.const(weight)), f"{name}_{of}_places_matmul")
        places = shared.of(one.column(head), one.index, f"{name}_places", graph)
        beside = graph.emit(relax.op.gather_elements(product, places, -1), f"{name}_{of}_places")
        if one.transposed:
            beside = graph.emit(relax.op.permute_dims(beside, [0, 2, 1]), f"{name}_{of}_places_permute_dims")
        score = graph.emit(relax.op.add(score, beside), f"{name}_with_{of}_places")
    if bias is not None:
        tables = np.atleast_2d(constant(bias.args[0]))
        head = min(head, len(tables) - 1)
        beside = shared.of(tables[head : head + 1], bias.args[1], f"{name}_bias", graph)
        score = graph.emit(relax.op.add(score, beside), f"{name}_biased")
    return score


def split_heads(mod: IRModule) -> IRModule:
    shared = _ByDistance()

    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        found = _attention(call, graph)
        if found is None:
            return None
        queries, keys, values = found.queries, found.keys, found.values
        name = graph.name_of(call.args[0]).removesuffix("_reshape")
        total = None
        for head in range(queries.count):
            query = queries.head(head, graph, f"{name}_query{head}", found.factor if found.scales_queries else 1.0)
            key = keys.head(head, graph, f"{name}_key{head}")
            value = values.head(head, graph, f"{name}_value{head}")
            score = _score(found, head, (query, key), f"{name}_head{head}", shared, graph)
            share = graph.emit(relax.op.nn.softmax(score, -1), f"{name}_head{head}_softmax")
            rows = graph.emit(relax.op.matmul(share, value), f"{name}_head{head}")
            mine = slice(head * values.width, (head + 1) * values.width)
            out = relax.op.matmul(rows, relax.const(found.weight[mine]))
            if total is not None:
                total = relax.op.add(graph.emit(total, f"{name}_out"), graph.emit(out, f"{name}_out"))
            else:
                total = out
        return total

    return rewrite(mod, rule)
