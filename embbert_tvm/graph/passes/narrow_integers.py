"""Make int64 arithmetic on ids and indices int32: a microcontroller has no use for the upper half.

ONNX indices are int64 by convention; token ids and positions are far below 2**31. Constants that do not fit are
refused.
"""

from __future__ import annotations

import numpy as np
from tvm import IRModule, relax
from tvm.ir import Call, Var

from embbert_tvm.errors import InputError
from embbert_tvm.graph.dataflow import Dataflow, Rebuilder, constant, dtype, op_name, shape

_LIMITS = np.iinfo(np.int32)


def _narrow(expr: relax.Expr) -> relax.Expr:
    value = constant(expr)
    if value is None or value.dtype != np.int64:
        return expr
    # Slices to the end carry the largest int64; they mean "as far as there is".
    if value.size and (value.min() < _LIMITS.min or value.max() > _LIMITS.max):
        raise InputError(f"the graph holds the integer constant {value.max()}, which does not fit in 32 bits")
    return relax.const(value.astype(np.int32))


def narrow_integers(mod: IRModule) -> IRModule:
    params = []
    for param in Dataflow(mod).function.params:
        if dtype(param) == "int64":
            param = Var(param.name, relax.TensorType(shape(param), "int32"))
        params.append(param)

    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) == "astype" and str(call.attrs.dtype) == "int64":
            (source,) = call.args
            return source if dtype(source) == "int32" else relax.op.astype(source, "int32")
        name = op_name(call)
        if name is None:
            return None
        narrow = graph.typed(Call(call.op, [_narrow(a) for a in call.args], call.attrs, call.ty_args))
        if not isinstance(narrow.ty, relax.TensorType) or dtype(narrow) != "int64":
            return narrow
        # What makes int64 of its own accord, a shape as a tensor for one.
        return relax.op.astype(graph.emit(narrow, name), "int32")

    return Rebuilder(mod, params).run(rule)
