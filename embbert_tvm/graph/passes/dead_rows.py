"""Compute only the rows that are read.

A classifier reads one row of its last layer. The slice that picks it is pushed up through every operator that works
row by row, so that what made the other rows is never computed. It stops at a value that is used otherwise too, and at
operators that mix rows in a way not listed here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import IRModule, relax
from tvm.ir import Call, Var

from embbert_tvm.graph.dataflow import Rebuilder, constant, op_name, rewrite, shape

_ELEMENTWISE = {
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "nn.silu", "nn.relu", "nn.gelu", "sigmoid",
    "tanh", "exp", "sqrt", "rsqrt", "negative", "abs", "astype",
}  # fmt: skip
# Operators that treat each row of all but the last axis on its own.
_ALONG_LAST_AXIS = {"nn.rms_norm", "nn.layer_norm", "nn.softmax"}


@dataclass(frozen=True)
class _Slice:
    """Rows begin to end - 1 of an axis, counted from the last one: -2 of (1, L, K), -1 of (1, K, L)."""

    axis: int
    begin: int
    end: int


def _emit(expr: relax.Expr, cut: _Slice, graph: Rebuilder) -> relax.Expr:
    rank = len(shape(expr))
    sliced = relax.op.strided_slice(expr, [rank + cut.axis], [cut.begin], [cut.end], [1], assume_inbound=True)
    return graph.emit(sliced, f"{graph.name_of(expr)}_slice")


def _conv(conv: Call, cut: _Slice, graph: Rebuilder) -> relax.Expr | None:
    """Rows of a causal convolution need that many inputs and, near the start, only the last taps."""
    kernel = constant(conv.args[1])
    a = conv.attrs
    if kernel is None or int(a.strides[0]) != 1 or int(a.dilation[0]) != 1 or cut.axis != -1:
        return None
    taps = kernel.shape[2]
    if [int(p) for p in a.padding] != [taps - 1, 0] or cut.end - cut.begin != 1:
        return None
    first = max(0, cut.begin - taps + 1)
    data = _push(conv.args[0], _Slice(-1, first, cut.end), graph)
    used = relax.const(kernel[:, :, taps - (cut.end - first) :])
    return relax.op.nn.conv1d(
        data, used, [1], [0, 0], [1], int(a.groups), a.data_layout, a.kernel_layout, a.out_layout
    )  # fmt: skip


def _through(made: Call, cut: _Slice, graph: Rebuilder) -> relax.Expr | None:
    """The rows `cut` of what `made` makes, with the slice on its operands; None where that cannot be."""
    name = op_name(made)
    if name in _ELEMENTWISE:
        return Call(made.op, [_operand(a, cut, graph) for a in made.args], made.attrs)
    if name in _ALONG_LAST_AXIS and cut.axis == -2:
        return Call(made.op, [_push(made.args[0], cut, graph), *made.args[1:]], made.attrs)
    if name == "matmul" and cut.axis == -2:
        return relax.op.matmul(_push(made.args[0], cut, graph), made.args[1])
    if name == "permute_dims" and [int(x) for x in made.attrs.axes] == [0, 2, 1]:
        other = _Slice(-3 - cut.axis, cut.begin, cut.end)
        return relax.op.permute_dims(_push(made.args[0], other, graph), [0, 2, 1])
    if name == "nn.conv1d":
        return _conv(made, cut, graph)
    return None


def _operand(expr: relax.Expr, cut: _Slice, graph: Rebuilder) -> relax.Expr:
    """An operand of an elementwise operator: left as it is where it is broadcast over the sliced axis."""
    dims = shape(expr)
    if len(dims) < -cut.axis or dims[cut.axis] == 1:
        return expr
    return _push(expr, cut, graph)


def _push(expr: relax.Expr, cut: _Slice, graph: Rebuilder) -> relax.Expr:
    made = graph.producer(expr)
    # A transposition costs nothing twice.
    if isinstance(expr, Var) and (graph.single_use(expr) or op_name(made) == "permute_dims"):
        through = _through(made, cut, graph) if isinstance(made, Call) else None
        if through is not None:
            return graph.emit(through, graph.name_of(expr))
    return _emit(expr, cut, graph)


def drop_dead_rows(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) != "take" or call.attrs.axis is None or int(call.attrs.axis) != 1:
            return None
        data, index = call.args
        row = constant(index)
        # The first row alone: a text may be shorter than any other row's number.
        if row is None or row.size != 1 or int(row) != 0 or len(shape(data)) != 3 or shape(data)[1] == 1:
            return None
        kept = _push(data, _Slice(-2, 0, 1), graph)
        return relax.op.take(kept, relax.const(0, "int32"), axis=1, mode="clip")

    return rewrite(mod, rule)
