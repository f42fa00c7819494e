"""The selective scan of a state space in ONNX, and its way into Relax.

ONNX has no such operator. An export holds it as a function of the model's own, whose body is a Scan, so that any
runtime computes it; the importer knows that very function and calls our kernel.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import parser
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from embbert_tvm.errors import InputError
from embbert_tvm.graph.dataflow import shape
from embbert_tvm.kernels.selective_scan import SelectiveScan, selective_scan

DOMAIN, NAME = "embbert", "SelectiveScan"

_FUNCTION = """
<domain: "embbert", opset_import: ["" : 18]>
SelectiveScan (u, step, decay, into, out_of) => (rows)
{
    start = Sub(decay, decay)
    last, rows = Scan<
        body = token (float[C,N] h, float[1,C] u_t, float[1,C] step_t, float[1,N] into_t, float[1,N] out_of_t)
            => (float[C,N] h_next, float[1,C] row)
        {
            column = Constant<value_ints = [-1, 1]>()
            line = Constant<value_ints = [1, -1]>()
            step_column = Reshape(step_t, column)
            exponent = Mul(step_column, decay)
            share = Exp(exponent)
            kept = Mul(share, h)
            entering = Mul(step_t, u_t)
            entering_column = Reshape(entering, column)
            added = Mul(entering_column, into_t)
            h_next = Add(kept, added)
            out_of_column = Reshape(out_of_t, column)
            read = MatMul(h_next, out_of_column)
            row = Reshape(read, line)
        },
        num_scan_inputs = 4, scan_input_axes = [1, 1, 1, 1], scan_output_axes = [1]
    >(start, u, step, into, out_of)
}
"""


def function() -> onnx.FunctionProto:
    """u, step (1, L, C); decay (C, N); into, out_of (1, L, N); rows (1, L, C)."""
    return parser.parse_function(_FUNCTION)


def declare(model: onnx.ModelProto) -> None:
    """Give a model that calls the scan its body."""
    if any(node.domain == DOMAIN for node in model.graph.node):
        model.functions.append(function())


def check(model: onnx.ModelProto) -> None:
    """InputError where a model means something else by the name of our scan."""
    for found in model.functions:
        ours = (found.domain, found.name) == (DOMAIN, NAME)
        if ours and found.SerializeToString(deterministic=True) != function().SerializeToString(deterministic=True):
            raise InputError(f"the model's function {DOMAIN}.{NAME} is not the one that this version exports")


class _Converter(onnx_frontend.OnnxOpConverter):
    @classmethod
    def _impl_v1(cls, bb: relax.BlockBuilder, inputs: Any, attr: Any, params: Any) -> relax.Expr:
        u, decay = inputs[0], inputs[2]
        channels, state = shape(decay)
        func = selective_scan(SelectiveScan(channels, state))
        kernel = bb.add_func(func, func.attrs["embbert.kernel"])
        return relax.call_tir(kernel, list(inputs), relax.TensorType(u.ty.shape, "float32"))


# For the ONNX importer, by the name of the operator.
CONVERTERS = {NAME: _Converter}
