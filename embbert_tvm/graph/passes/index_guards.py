"""Remove the importer's guards for negative indices where an index cannot be negative.

The ONNX importer wraps every Gather's index in `where(i < 0, i + n, i)`. A graph input is never negative: the
entry point refuses such an id. What is computed from it is followed back to its source.
"""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import Call, Var

from embbert_tvm.graph.dataflow import Rebuilder, constant, op_name, rewrite

_KEEP_SIGN = {
    "astype",
    "take",
    "strided_slice",
    "reshape",
    "cumsum",
    "permute_dims",
    "squeeze",
    "expand_dims",
}
_COMBINE = {"add", "multiply", "minimum", "maximum"}
_TRUTH = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_not"}


def non_negative(expr: relax.Expr, graph: Rebuilder) -> bool:
    made = graph.producer(expr)
    value = constant(made)
    if value is not None:
        return bool((value >= 0).all())
    if isinstance(made, Var):
        return True
    name = op_name(made)
    if name in _TRUTH:
        return True
    if name in _KEEP_SIGN:
        return non_negative(made.args[0], graph)
    return name in _COMBINE and all(non_negative(a, graph) for a in made.args)


def drop_index_guards(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) != "where":
            return None
        condition, wrapped, index = call.args
        test = graph.match(condition, "less")
        if test is None or graph.match(wrapped, "add") is None:
            # The condition of a constant index is a constant that the importer has folded already.
            folded = constant(graph.producer(condition))
            return index if folded is not None and not folded.any() else None
        bound = constant(graph.producer(test.args[1]))
        same = graph.producer(test.args[0]).same_as(graph.producer(index))
        return index if same and bound is not None and not bound.any() and non_negative(index, graph) else None

    return rewrite(mod, rule)
