"""A convolution padded by k - 1 on both sides and cut to its first L outputs pads on the left only.

Handles the slice standing behind the bias, and the pad standing as an operator of its own.
"""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import Call
from tvm_ffi import structural_equal

from embbert_tvm.graph.dataflow import Rebuilder, number, op_name, rewrite, shape


def _left_padded(conv: Call, data: relax.Expr, left: int) -> relax.Expr:
    a = conv.attrs
    return relax.op.nn.conv1d(
        data, conv.args[1], [int(s) for s in a.strides], [left, 0], [int(d) for d in a.dilation],
        int(a.groups), a.data_layout, a.kernel_layout, a.out_layout,
    )  # fmt: skip


def _cut_to_length(call: Call, graph: Rebuilder) -> relax.Expr | None:
    """slice(conv(x) [+ bias], 0:L) on the time axis, L the length of x."""
    data, axes, begin, _, strides = call.args[:5]
    if [[number(v) for v in part.fields] for part in (axes, begin, strides)] != [[2], [0], [1]]:
        return None
    bias = graph.match(data, "add")
    conv = graph.match(bias.args[0] if bias is not None else data, "nn.conv1d")
    if conv is None or not graph.single_use(data):
        return None
    x, kernel = conv.args
    before, after = (int(p) for p in conv.attrs.padding)
    if after == 0 or before != (shape(kernel)[2] - 1) * int(conv.attrs.dilation[0]):
        return None
    if not structural_equal(x.ty.shape.values[2], graph.typed(call).ty.shape.values[2]):
        return None
    if bias is None:
        return _left_padded(conv, x, before)
    if shape(bias.args[1])[-1] != 1:
        return None
    return relax.op.add(graph.emit(_left_padded(conv, x, before), graph.name_of(data)), bias.args[1])


def _padded(call: Call, graph: Rebuilder) -> relax.Expr | None:
    """conv(pad(x, left)) without padding of its own."""
    pad = graph.match(call.args[0], "nn.pad")
    if pad is None or any(int(p) for p in call.attrs.padding) or pad.attrs.pad_mode != "constant":
        return None
    *others, left, right = (int(w) for w in pad.attrs.pad_width)
    if any(others) or right or float(pad.attrs.pad_value):
        return None
    return _left_padded(call, pad.args[0], left)


def pad_causally(mod: IRModule) -> IRModule:
    rules = {"strided_slice": _cut_to_length, "nn.conv1d": _padded}

    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        handler = rules.get(op_name(call) or "")
        return handler(call, graph) if handler else None

    return rewrite(mod, rule)
