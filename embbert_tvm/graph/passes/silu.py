"""x * sigmoid(x) becomes silu(x)."""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, op_name, rewrite


def fuse_silu(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) != "multiply":
            return None
        for x, gate in (call.args, reversed(call.args)):
            sigmoid = graph.match(gate, "sigmoid")
            if sigmoid is not None and sigmoid.args[0].same_as(x):
                return relax.op.nn.silu(x)
        return None

    return rewrite(mod, rule)
