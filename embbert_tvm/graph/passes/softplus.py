"""max(x, 0) + log(1 + exp(-abs(x))), as the importer writes it, becomes softplus(x), with or without the choice of x
itself where x is large."""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, constant, op_name, rewrite

# From here on softplus(x) is x in float32.
_LARGE = 15.0


def _scalar(expr: relax.Expr, graph: Rebuilder) -> float | None:
    value = constant(graph.producer(expr))
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None


def _either(call: Call, is_first, graph: Rebuilder) -> relax.Expr | None:
    """The other operand of a call of two, where one is what `is_first` says."""
    for first, other in (call.args, reversed(call.args)):
        if is_first(first):
            return other
    return None


def _is(number: float, graph: Rebuilder):
    return lambda expr: _scalar(expr, graph) == number


def _logarithm(expr: relax.Expr, graph: Rebuilder) -> relax.Expr | None:
    """x, where `expr` is log(1 + exp(-abs(x)))."""
    log = graph.match(expr, "log")
    total = graph.match(log.args[0], "add") if log is not None else None
    inside = _either(total, _is(1.0, graph), graph) if total is not None else None
    exp = graph.match(inside, "exp") if inside is not None else None
    negative = graph.match(exp.args[0], "negative") if exp is not None else None
    size = graph.match(negative.args[0], "abs") if negative is not None else None
    return None if size is None else size.args[0]


def _softplus(call: Call, graph: Rebuilder) -> relax.Expr | None:
    """x, where `call` is the sum."""
    for first, second in (call.args, reversed(call.args)):
        largest = graph.match(first, "maximum")
        x = _either(largest, _is(0.0, graph), graph) if largest is not None else None
        inside = _logarithm(second, graph)
        if x is not None and inside is not None and graph.producer(x).same_as(graph.producer(inside)):
            return x
    return None


def fuse_softplus(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) == "add":
            x = _softplus(call, graph)
            return None if x is None else relax.op.nn.softplus(x)
        if op_name(call) != "where":
            return None
        test, x, otherwise = call.args
        greater, known = graph.match(test, "greater"), graph.match(otherwise, "nn.softplus")
        if greater is None or known is None or not graph.producer(known.args[0]).same_as(graph.producer(x)):
            return None
        bound = _scalar(greater.args[1], graph)
        same = graph.producer(greater.args[0]).same_as(graph.producer(x))
        return relax.op.nn.softplus(x) if same and bound is not None and bound >= _LARGE else None

    return rewrite(mod, rule)
