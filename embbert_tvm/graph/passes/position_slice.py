"""table[range(n)[0:L]] becomes table[0:L]."""

from __future__ import annotations

import numpy as np
from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Rebuilder, constant, op_name, rewrite


def slice_positions(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) != "take" or constant(call.args[0]) is None or call.attrs.axis not in (0, None):
            return None
        cut = graph.match(call.args[1], "strided_slice")
        if cut is None:
            return None
        order = constant(cut.args[0])
        if order is None or order.ndim != 1 or not np.array_equal(order, np.arange(order.size)):
            return None
        return Call(cut.op, [call.args[0], *cut.args[1:]], cut.attrs)

    return rewrite(mod, rule)
