"""A transposition of a tensor whose batch of 1 is left out before it and put back behind it transposes the whole."""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, op_name, rewrite, shape


def keep_batch(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        transposed = graph.match(call.args[0], "permute_dims") if op_name(call) == "reshape" else None
        cut = graph.match(transposed.args[0], "reshape") if transposed is not None else None
        if cut is None or transposed.attrs.axes is None:
            return None
        whole, part = cut.args[0], shape(transposed.args[0])
        after = [str(d) for d in shape(graph.typed(call))]
        if [str(d) for d in shape(whole)] != ["1", *map(str, part)] or after != ["1", *map(str, shape(call.args[0]))]:
            return None
        return relax.op.permute_dims(whole, [0, *(int(a) % len(part) + 1 for a in transposed.attrs.axes)])

    return rewrite(mod, rule)
