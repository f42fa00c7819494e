"""Fold what only lays a constant out anew, in numpy: TVM's FoldConstant compiles each by LLVM, 20 ms apiece."""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Expr, Rebuilder, constant, op_name, rewrite, shape


def fold_layouts(mod: IRModule) -> IRModule:
    """The module with transposed and reshaped constants in the place of what makes them."""

    def rule(call: Call, graph: Rebuilder) -> Expr | None:
        name = op_name(call)
        value = constant(call.args[0]) if name in ("permute_dims", "reshape") else None
        if value is None:
            return None
        if name == "permute_dims":
            axes = call.attrs.axes
            return relax.const(value.transpose(None if axes is None else [int(axis) for axis in axes]))
        dims = shape(graph.typed(call))
        return relax.const(value.reshape(dims)) if all(isinstance(d, int) for d in dims) else None

    return rewrite(mod, rule)
