"""x * (1 / sqrt(mean(x^2) + eps)) * g, as the importer writes it, becomes rms_norm(x, g, eps)."""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, constant, op_name, rewrite


def _scalar(expr: relax.Expr, graph: Rebuilder) -> float | None:
    value = constant(graph.producer(expr))
    return float(value) if value is not None and value.size == 1 else None


def _mean_square(expr: relax.Expr, graph: Rebuilder) -> relax.Expr | None:
    """x, where `expr` is the mean of x^2 over the last axis."""
    mean = graph.match(expr, "mean")
    if mean is None or not mean.attrs.keepdims or len(mean.attrs.axis) != 1:
        return None
    rank = len(mean.args[0].ty.shape.values)
    if int(mean.attrs.axis[0]) not in (-1, rank - 1):
        return None
    if (power := graph.match(mean.args[0], "power")) is not None:
        return power.args[0] if _scalar(power.args[1], graph) == 2.0 else None
    square = graph.match(mean.args[0], "multiply")
    return square.args[0] if square is not None and square.args[0].same_as(square.args[1]) else None


def _reciprocal_rms(expr: relax.Expr, graph: Rebuilder) -> tuple[relax.Expr, float] | None:
    """(x, eps), where `expr` is 1 / sqrt(mean(x^2) + eps)."""
    if (rsqrt := graph.match(expr, "rsqrt")) is not None:
        inside = rsqrt.args[0]
    else:
        divide = graph.match(expr, "divide")
        if divide is None or _scalar(divide.args[0], graph) != 1.0:
            return None
        root = graph.match(divide.args[1], "sqrt")
        if root is None:
            return None
        inside = root.args[0]
    total = graph.match(inside, "add")
    if total is None or (eps := _scalar(total.args[1], graph)) is None:
        return None
    x = _mean_square(total.args[0], graph)
    return None if x is None else (x, eps)


def _normalized(expr: relax.Expr, graph: Rebuilder) -> tuple[relax.Expr, float] | None:
    """(x, eps), where `expr` is x over its root mean square."""
    product = graph.match(expr, "multiply")
    if product is None:
        return None
    for x, scale in (product.args, reversed(product.args)):
        found = _reciprocal_rms(scale, graph)
        if found is not None and graph.producer(found[0]).same_as(graph.producer(x)):
            return x, found[1]
    return None


def fuse_rms_norm(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) != "multiply":
            return None
        for x, gain in (call.args, reversed(call.args)):
            weight = constant(graph.producer(gain))
            if weight is None or weight.ndim != 1:
                continue
            found = _normalized(x, graph)
            if found is not None:
                return relax.op.nn.rms_norm(found[0], relax.const(weight), axes=-1, epsilon=found[1])
        return None

    return rewrite(mod, rule)
