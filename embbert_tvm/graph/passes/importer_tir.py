"""Give the PrimFuncs that the ONNX importer writes for Min and Max their Relax operators back."""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, op_name, rewrite

_OPERATORS = {"minimum": relax.op.minimum, "maximum": relax.op.maximum}


def raise_importer_tir(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) != "call_tir":
            return None
        operator = _OPERATORS.get(call.args[0].name_hint.rstrip("0123456789"))
        return operator(*call.args[1].fields) if operator and len(call.args[1].fields) == 2 else None

    return rewrite(mod, rule)
