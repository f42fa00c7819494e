"""Fold scalar factors into the weights they end up multiplying.

`c * (x W + b)` becomes `x (c W) + c b`, `(q k^T) / c` scales q's own weights, and `a - b` becomes `a + (-1 * b)` where
the -1 folds. A factor moves only through values that are used once, so no work is added.
"""

from __future__ import annotations

import numpy as np
from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, constant, dtype, op_name, rewrite


def _scaled(value: np.ndarray, factor: float) -> relax.Expr:
    return relax.const((value.astype(np.float64) * factor).astype(np.float32))


def _push(factor: float, expr: relax.Expr, graph: Rebuilder) -> relax.Expr | None:
    """factor * expr with the factor folded into constants; None where it cannot."""
    if (value := constant(expr)) is not None:
        return _scaled(value, factor)
    if not graph.single_use(expr):
        return None
    made = graph.producer(expr)
    name = op_name(made)
    if name == "add":
        parts = [_push(factor, a, graph) for a in made.args]
        return None if any(p is None for p in parts) else graph.emit(relax.op.add(*parts), graph.name_of(expr))
    if name == "matmul":
        left, right = made.args
        if (matrix := constant(right)) is not None:
            return graph.emit(relax.op.matmul(left, _scaled(matrix, factor)), graph.name_of(expr))
        left = _push(factor, left, graph)
        return None if left is None else graph.emit(relax.op.matmul(left, right), graph.name_of(expr))
    if name == "take" and (table := constant(made.args[0])) is not None:
        return graph.emit(Call(made.op, [_scaled(table, factor), made.args[1]], made.attrs), graph.name_of(expr))
    return None


def _factor(call: Call) -> tuple[float, relax.Expr] | None:
    """(c, x) where `call` is c * x, x * c or x / c with a scalar c."""
    name = op_name(call)
    if name not in ("multiply", "divide"):
        return None
    left, right = call.args
    scalar = constant(right)
    if scalar is not None and scalar.size == 1:
        value = float(scalar.reshape(()))
        return (value if name == "multiply" else 1.0 / value), left
    scalar = constant(left)
    if name == "multiply" and scalar is not None and scalar.size == 1:
        return float(scalar.reshape(())), right
    return None


def fold_scales(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) not in ("multiply", "divide", "subtract") or dtype(call.args[0]) != "float32":
            return None
        if (found := _factor(call)) is not None:
            return _push(*found, graph)
        if op_name(call) == "subtract":
            negative = _push(-1.0, call.args[1], graph)
            return None if negative is None else relax.op.add(call.args[0], negative)
        return None

    return rewrite(mod, rule)
