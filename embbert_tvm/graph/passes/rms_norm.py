"""x over sqrt(mean(x^2) + eps), times a gain or not, becomes rms_norm(x, g, eps).

Exporters write the division as one, as a product with 1 / sqrt or rsqrt, or by powers of 1/2 and -1/2.
"""

from __future__ import annotations

import numpy as np
from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, constant, op_name, rewrite, shape


def _scalar(expr: relax.Expr, graph: Rebuilder) -> float | None:
    value = constant(graph.producer(expr))
    return float(value.reshape(())) if value is not None and value.size == 1 else None


def _mean_square(expr: relax.Expr, graph: Rebuilder) -> relax.Expr | None:
    """x, where `expr` is the mean of x^2 over the last axis."""
    mean = graph.match(expr, "mean")
    if mean is None or not mean.attrs.keepdims or mean.attrs.axis is None or len(mean.attrs.axis) != 1:
        return None
    rank = len(mean.args[0].ty.shape.values)
    if int(mean.attrs.axis[0]) not in (-1, rank - 1):
        return None
    if (power := graph.match(mean.args[0], "power")) is not None:
        return power.args[0] if _scalar(power.args[1], graph) == 2.0 else None
    square = graph.match(mean.args[0], "multiply")
    if square is None or not graph.producer(square.args[0]).same_as(graph.producer(square.args[1])):
        return None
    return square.args[0]


def _power(expr: relax.Expr, root: str, exponent: float, graph: Rebuilder) -> relax.Expr | None:
    """x, where `expr` is x to the power of `exponent`, by the operator `root` or as a power."""
    if (found := graph.match(expr, root)) is not None:
        return found.args[0]
    power = graph.match(expr, "power")
    return power.args[0] if power is not None and _scalar(power.args[1], graph) == exponent else None


def _root(expr: relax.Expr, graph: Rebuilder) -> relax.Expr | None:
    """x, where `expr` is sqrt(x)."""
    return _power(expr, "sqrt", 0.5, graph)


def _reciprocal_root(expr: relax.Expr, graph: Rebuilder) -> relax.Expr | None:
    """x, where `expr` is 1 / sqrt(x)."""
    if (inside := _power(expr, "rsqrt", -0.5, graph)) is not None:
        return inside
    divide = graph.match(expr, "divide")
    if divide is not None and _scalar(divide.args[0], graph) == 1.0:
        return _root(divide.args[1], graph)
    return None


def _epsilon(square: relax.Expr | None, x: relax.Expr, graph: Rebuilder) -> float | None:
    """eps, where `square` is mean(x^2) + eps."""
    total = graph.match(square, "add") if square is not None else None
    for mean, other in (total.args, reversed(total.args)) if total is not None else ():
        eps, of = _scalar(other, graph), _mean_square(mean, graph)
        if eps is not None and of is not None and graph.producer(of).same_as(graph.producer(x)):
            return eps
    return None


def _normalized(call: Call, graph: Rebuilder) -> relax.Expr | None:
    """rms_norm without a gain, where `call` is x over its root mean square."""
    x, by = call.args
    if op_name(call) == "divide":
        found = _epsilon(_root(by, graph), x, graph)
    elif (found := _epsilon(_reciprocal_root(by, graph), x, graph)) is None:
        x, by = by, x
        found = _epsilon(_reciprocal_root(by, graph), x, graph)
    if found is None or not isinstance(width := shape(x)[-1], int):
        return None
    return relax.op.nn.rms_norm(x, relax.const(np.ones(width, np.float32)), axes=-1, epsilon=found)


def _with_gain(call: Call, graph: Rebuilder) -> relax.Expr | None:
    """A gain behind an rms_norm that has none, taken into it."""
    for rows, gain in (call.args, reversed(call.args)):
        norm, weight = graph.match(rows, "nn.rms_norm"), constant(graph.producer(gain))
        if norm is None or weight is None or weight.ndim != 1 or not graph.single_use(rows):
            continue
        known = constant(norm.args[1])
        if known is not None and known.shape == weight.shape and np.all(known == 1):
            epsilon = float(norm.attrs.epsilon)
            return relax.op.nn.rms_norm(norm.args[0], relax.const(weight), axes=-1, epsilon=epsilon)
    return None


def fuse_rms_norm(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) not in ("multiply", "divide"):
            return None
        made = _normalized(call, graph)
        return _with_gain(call, graph) if made is None and op_name(call) == "multiply" else made

    return rewrite(mod, rule)
