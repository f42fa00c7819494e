"""Call our running sum where TVM's own legalization of cumsum is no block that a schedule could touch."""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, dtype, op_name, rewrite, shape
from embbert_tvm.kernels.cumsum import Cumsum, cumsum
from embbert_tvm.kernels.specs import with_spec


def call_cumsum(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) != "cumsum":
            return None
        (x,) = call.args
        dims = shape(x)
        if len(dims) != 2 or dims[0] != 1 or int(call.attrs.axis) not in (1, -1) or bool(call.attrs.exclusive):
            return None
        spec = Cumsum(dtype(x))
        func = with_spec(cumsum(spec), spec)
        kernel = graph.builder.add_func(func, func.attrs["embbert.kernel"])
        return relax.call_tir(kernel, [x], relax.TensorType(dims, dtype(x)))

    return rewrite(mod, rule)
