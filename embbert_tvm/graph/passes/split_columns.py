"""A linear map whose columns are read in parts becomes as many linear maps, each with its part of the weights.

A split, or slices of the last axis, of one product: the parts of a fused query, key and value, of a gate, or of what a
state space is selected by. No part is copied, and each is rounded by its own scale.
"""

from __future__ import annotations

from itertools import pairwise

from tvm import IRModule, relax
from tvm.ir import Call, TupleGetItem, Var

from embbert_tvm.graph.dataflow import Dataflow, Rebuilder, constant, op_name, rewrite, shape, variables


def _part(call: Call, graph: Dataflow | Rebuilder) -> list[tuple[int, int]] | None:
    """The columns (first, end) of each part of its first argument's last axis that `call` makes."""
    x = call.args[0] if op_name(call) in ("split", "strided_slice") else None
    if x is None or constant(x) is not None or not isinstance(shape(x)[-1], int):
        return None
    rank, width = len(shape(x)), shape(x)[-1]
    if op_name(call) == "split":
        if int(call.attrs.axis) % rank != rank - 1:
            return None
        found = call.attrs.indices_or_sections
        count = int(found) if isinstance(found, int) or hasattr(found, "value") else None
        cuts = found if count is None else [width // count * (i + 1) for i in range(count - 1)]
        bounds = [0, *(int(c) for c in cuts), width]
        return list(pairwise(bounds))
    axes, begin, end = ([getattr(v, "value", None) for v in part.fields] for part in call.args[1:4])
    steps = [int(v) for v in call.args[4].fields] if len(call.args) > 4 else [1]
    if None in (*axes, *begin, *end) or [int(a) % rank for a in axes] != [rank - 1] or steps != [1]:
        return None
    first, last = int(begin[0]) % (width + 1), min(int(end[0]), width)
    last = last + width if last < 0 else last
    return [(first, last)] if 0 <= first < last else None


def _is_linear(graph: Dataflow, var: Var) -> bool:
    made = graph.producer(var)
    if op_name(made) == "add":
        bias = [constant(a) for a in made.args if constant(a) is not None]
        rest = [a for a in made.args if constant(a) is None]
        if len(bias) != 1 or bias[0].ndim != 1 or bias[0].size != shape(var)[-1] or graph.uses(rest[0]) != 1:
            return False
        made = graph.producer(rest[0])
    weight = constant(made.args[1]) if op_name(made) == "matmul" else None
    return weight is not None and weight.ndim == 2 and constant(made.args[0]) is None


def _read_in_parts(graph: Dataflow) -> set[Var]:
    """The linear maps that are read in parts and in no other way."""
    parts: dict[Var, int] = {}
    for _, value in graph.bindings:
        if isinstance(value, Call) and _part(value, graph) is not None:
            for used in dict.fromkeys(variables(value.args[0])):
                parts[used] = parts.get(used, 0) + 1
    return {var for var, count in parts.items() if graph.uses(var) == count and _is_linear(graph, var)}


def split_columns(mod: IRModule) -> IRModule:
    source = Dataflow(mod)
    cut = _read_in_parts(source)
    names = {}  # of the parts of a split, by where it stands
    for var, value in source.bindings:
        if isinstance(value, TupleGetItem):
            names[value.tuple_value, int(value.index)] = var.name
    splits = {value.args[0]: var for var, value in source.bindings if op_name(value) == "split"}

    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        bounds = _part(call, graph) if isinstance(call.op, relax.Expr) and call.args else None
        origin = graph.origin(call.args[0]) if bounds is not None else None
        if origin is None or origin not in cut:
            return None
        made = graph.producer(call.args[0])
        bias = None
        if op_name(made) == "add":
            bias = next(constant(a) for a in made.args if constant(a) is not None)
            made = graph.producer(next(a for a in made.args if constant(a) is None))
        x, weight = made.args[0], constant(made.args[1])
        parts = []
        for number, (first, end) in enumerate(bounds):
            product = relax.op.matmul(x, relax.const(weight[:, first:end]))
            if op_name(call) == "strided_slice" and bias is None:
                return product
            name = names.get((splits.get(origin), number), f"{graph.name_of(call.args[0])}_part{number}")
            if bias is not None:
                product = relax.op.add(graph.emit(product, f"{name}_matmul"), relax.const(bias[first:end]))
            if op_name(call) == "strided_slice":
                return product
            parts.append(graph.emit(product, name))
        return relax.Tuple(parts)

    return rewrite(mod, rule) if cut else mod
