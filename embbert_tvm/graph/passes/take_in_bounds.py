"""Let no take read outside its table: the importer's `fast` mode trusts every index, `clip` takes the nearest row."""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, op_name, rewrite


def take_in_bounds(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) != "take" or call.attrs.mode != "fast":
            return None
        axis = None if call.attrs.axis is None else int(call.attrs.axis)
        return relax.op.take(*call.args, axis=axis, mode="clip")

    return rewrite(mod, rule)
