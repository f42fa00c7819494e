"""(x - mean) / sqrt(mean((x - mean)^2) + eps) * g + b, as exporters of old opsets write it, becomes layer_norm."""

from __future__ import annotations

import numpy as np
from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, constant, op_name, rewrite, shape


def _scalar(expr: relax.Expr, graph: Rebuilder) -> float | None:
    value = constant(graph.producer(expr))
    return float(value.reshape(())) if value is not None and value.size == 1 else None


def _mean(expr: relax.Expr, graph: Rebuilder) -> relax.Expr | None:
    """x, where `expr` is its mean over the last axis."""
    mean = graph.match(expr, "mean")
    if mean is None or not mean.attrs.keepdims or mean.attrs.axis is None or len(mean.attrs.axis) != 1:
        return None
    rank = len(mean.args[0].ty.shape.values)
    return mean.args[0] if int(mean.attrs.axis[0]) in (-1, rank - 1) else None


def _centred(expr: relax.Expr, graph: Rebuilder) -> relax.Expr | None:
    """x, where `expr` is x less its mean."""
    less = graph.match(expr, "subtract")
    x = _mean(less.args[1], graph) if less is not None else None
    return x if x is not None and graph.producer(x).same_as(graph.producer(less.args[0])) else None


def _deviation(expr: relax.Expr, graph: Rebuilder) -> tuple[relax.Expr, float] | None:
    """(x, eps), where `expr` is the square root of x's variance and eps."""
    root = graph.match(expr, "sqrt")
    if root is None and (power := graph.match(expr, "power")) is not None and _scalar(power.args[1], graph) == 0.5:
        root = power
    total = graph.match(root.args[0], "add") if root is not None else None
    if total is None or (eps := _scalar(total.args[1], graph)) is None:
        return None
    squares = _mean(total.args[0], graph)
    power = graph.match(squares, "power") if squares is not None else None
    if power is not None and _scalar(power.args[1], graph) == 2.0:
        x = _centred(power.args[0], graph)
    else:
        square = graph.match(squares, "multiply") if squares is not None else None
        twice = square is not None and graph.producer(square.args[0]).same_as(graph.producer(square.args[1]))
        x = _centred(square.args[0], graph) if twice else None
    return None if x is None else (x, eps)


def _normalized(call: Call, graph: Rebuilder) -> relax.Expr | None:
    """layer_norm without gain and bias, where `call` divides centred rows by their deviation."""
    x = _centred(call.args[0], graph)
    found = _deviation(call.args[1], graph) if x is not None else None
    width = shape(x)[-1] if x is not None else None
    if found is None or not isinstance(width, int) or not graph.producer(found[0]).same_as(graph.producer(x)):
        return None
    ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
    return relax.op.nn.layer_norm(x, relax.const(ones), relax.const(zeros), axes=-1, epsilon=found[1])


def _of_centred(call: Call, graph: Rebuilder) -> relax.Expr | None:
    """layer_norm without a bias, where `call` is an rms_norm of centred rows: by whatever roots and divisions it was
    written, that pass has found it (passes/rms_norm.py)."""
    x, gain = _centred(call.args[0], graph), call.args[1]
    value = constant(gain)
    if x is None or value is None:
        return None
    zeros = relax.const(np.zeros(value.shape, np.float32))
    return relax.op.nn.layer_norm(x, gain, zeros, axes=-1, epsilon=float(call.attrs.epsilon))


def _with(call: Call, graph: Rebuilder) -> relax.Expr | None:
    """A gain or a bias behind a layer_norm that has none, taken into it."""
    for rows, other in (call.args, reversed(call.args)):
        norm, value = graph.match(rows, "nn.layer_norm"), constant(graph.producer(other))
        if norm is None or value is None or value.ndim != 1 or not graph.single_use(rows):
            continue
        x, gain, bias = norm.args
        if value.shape != constant(gain).shape:
            continue
        if op_name(call) == "multiply" and not constant(bias).any():
            gain = relax.const(constant(gain) * value)
        elif op_name(call) == "add" and not constant(bias).any():
            bias = relax.const(value)
        else:
            continue
        return relax.op.nn.layer_norm(x, gain, bias, axes=-1, epsilon=float(norm.attrs.epsilon))
    return None


def fuse_layer_norm(mod: IRModule) -> IRModule:
    rules = {"divide": _normalized, "nn.rms_norm": _of_centred, "multiply": _with, "add": _with}

    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        handler = rules.get(op_name(call))
        return handler(call, graph) if handler else None

    return rewrite(mod, rule)
