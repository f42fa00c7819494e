"""Rows that are laid out anew and are the same rows after that: a recurrence's states, as ONNX has them.

A chain of reshapes and of transpositions that move dimensions of 1 alone leaves every element where it is, so what has
the shape (1, L, K) after it is what had it before. Two directions that are put side by side on the way are two parts of
each row. What pools the rows of such a concatenation pools its parts; what pools the rows that a table has for ids laid
out flat, as EmbeddingBag does, pools those for the ids themselves.
"""

from __future__ import annotations

from math import prod

from tvm import IRModule, relax, sym
from tvm.ir import Call, Var

from embbert_tvm.graph.dataflow import Expr, Rebuilder, constant, op_name, rewrite, shape

_LAYOUTS = ("reshape", "squeeze", "expand_dims", "permute_dims")
_POOLS = {"mean": relax.op.mean, "max": relax.op.max}


def find_plain_rows(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> Expr | None:
        if op_name(call) in _LAYOUTS:
            typed = graph.typed(call)
            if len(dims := shape(typed)) == 2 and dims[0] == 1 and isinstance(dims[1], int):
                return _row(graph, typed)
            if not _is_rows(typed):
                return None
            rows = _rows(graph, typed)
            return rows if rows is None or isinstance(rows, Var) else graph.typed(rows)
        if op_name(call) == "concat" and len(call.args[0].fields) == 1:
            return call.args[0].fields[0]
        return _pooled(call, graph) if op_name(call) in _POOLS else None

    return rewrite(mod, rule)


def _is_rows(expr: Expr) -> bool:
    dims = shape(expr)
    return len(dims) == 3 and dims[0] == 1 and not isinstance(dims[1], int) and isinstance(dims[2], int)


def _length(dims: list) -> Expr | None:
    """The one dimension that is not known, where those before it are 1."""
    unknown = [at for at, dim in enumerate(dims) if not isinstance(dim, int)]
    return dims[unknown[0]] if len(unknown) == 1 and prod(dims[: unknown[0]]) == 1 else None


def _rows(graph: Rebuilder, expr: Expr) -> Expr | None:
    """The rows (1, L, K) whose elements `expr` has in their order, but for itself; or a concatenation of such rows."""
    length = _length(shape(expr))
    made = graph.producer(expr)
    while length is not None:
        if op_name(made) == "concat" and not _is_rows(expr):
            return _beside(graph, made, length)
        if op_name(made) not in _LAYOUTS or not _keeps_order(made) or constant(made.args[0]) is not None:
            return None
        expr = made.args[0]
        if _is_rows(expr) and sym.Analyzer().can_prove_equal(shape(expr)[1], length):
            return expr
        made = graph.producer(expr)
    return None


def _keeps_order(call: Call) -> bool:
    """Whether no element has another place after a change of layout."""
    if op_name(call) != "permute_dims":
        return True
    dims, axes = shape(call.args[0]), call.attrs.axes
    axes = list(range(len(dims)))[::-1] if axes is None else [int(a) for a in axes]
    moved = [a for a in axes if dims[a] != 1]
    return moved == sorted(moved)


def _beside(graph: Rebuilder, made: Call, length: Expr) -> Expr | None:
    """The parts (1, L, K) of a concatenation after the rows' dimension, side by side."""
    found = []
    for part in made.args[0].fields:
        dims = shape(part)
        at, rows_at = (
            int(made.attrs.axis) % len(dims),
            next((i for i, d in enumerate(dims) if not isinstance(d, int)), 9),
        )
        if not isinstance(part, Var) or at <= rows_at or prod(dims[rows_at + 1 : at]) != 1:
            return None
        rows = part if _is_rows(part) else _rows(graph, part)
        if not isinstance(rows, Var) or not sym.Analyzer().can_prove_equal(shape(rows)[1], length):
            return None
        found.append(rows)
    return relax.op.concat(found, axis=2)


def _pooled(call: Call, graph: Rebuilder) -> Expr | None:
    """What pools rows that are laid out anew, or several side by side, by the rows themselves."""
    x, pool = call.args[0], _POOLS[op_name(call)]
    dims, axes = shape(x), [int(a) for a in call.attrs.axis or ()]
    if constant(x) is not None or len(axes) != 1 or isinstance(dims[axes[0]], int) or not graph.single_use(x):
        return None
    made = graph.producer(x)
    if _is_rows(x) and op_name(made) == "concat" and int(made.attrs.axis) % 3 == 2:
        rows = made
    else:
        rows = _looked_up(graph, x) if len(dims) == 2 else _rows(graph, x)
    if rows is None:
        return None
    parts = [rows] if isinstance(rows, Var) else list(rows.args[0].fields)
    if not all(isinstance(part, Var) for part in parts):
        return None

    def emit(expr: Call, name: str) -> Var:
        return graph.emit(graph.typed(expr), name)

    pooled = [emit(pool(part, axis=[1]), f"{graph.name_of(part)}_pooled") for part in parts]
    row = pooled[0] if len(pooled) == 1 else emit(relax.op.concat(pooled, axis=1), f"{graph.name_of(x)}_pooled")
    dims = shape(graph.typed(call))
    return row if dims == shape(row) else relax.op.reshape(row, dims)


def _looked_up(graph: Rebuilder, x: Expr) -> Var | None:
    """The rows (1, L, K) of a table for ids (1, L), where x (L, K) are those for the same ids laid out flat."""
    made = graph.producer(x)
    if op_name(made) != "take" or constant(made.args[0]) is None or made.attrs.axis != 0:
        return None
    flat = graph.producer(made.args[1])
    if op_name(flat) not in _LAYOUTS or not graph.single_use(x):
        return None
    ids = flat.args[0]
    if len(shape(ids)) != 2 or shape(ids)[0] != 1 or not sym.Analyzer().can_prove_equal(shape(ids)[1], shape(x)[0]):
        return None
    return graph.emit(graph.typed(Call(made.op, [made.args[0], ids], made.attrs)), graph.name_of(x))


def _row(graph: Rebuilder, expr: Expr) -> Expr | None:
    """The one row (1, K) that `expr` has the elements of, but for itself, or its parts side by side."""
    made, dims = expr, shape(expr)
    while op_name(made) in _LAYOUTS and _keeps_order(made) and constant(made.args[0]) is None:
        source = made.args[0]
        if isinstance(source, Var) and shape(source) == dims:
            return source
        made = graph.producer(source)
    if op_name(made) != "concat" or made.same_as(expr):
        return None
    parts = list(made.args[0].fields)
    sizes = [shape(part) for part in parts]
    at = int(made.attrs.axis) % len(sizes[0])
    known = all(isinstance(dim, int) for size in sizes for dim in size)
    if not known or any(prod(size[:at]) != 1 or constant(p) is not None for p, size in zip(parts, sizes, strict=True)):
        return None

    def as_row(part: Var, size: list[int]) -> Var:
        if len(size) == 2:
            return part
        return graph.emit(graph.typed(relax.op.reshape(part, (1, prod(size)))), f"{graph.name_of(part)}_row")

    return relax.op.concat([as_row(p, size) for p, size in zip(parts, sizes, strict=True)], axis=1)
