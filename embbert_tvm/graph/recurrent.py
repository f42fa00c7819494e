"""LSTM and GRU of ONNX in Relax: a product of all tokens with the weights of their gates, then a kernel of ours.

TVM's importer knows neither. What an initial state other than zero, a clip or other activations would need is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from embbert_tvm.errors import InputError
from embbert_tvm.graph.dataflow import constant
from embbert_tvm.kernels.recurrent import GATES, Recurrent, recurrent

_ACTIVATIONS = {"lstm": ["Sigmoid", "Tanh", "Tanh"], "gru": ["Sigmoid", "Tanh"]}


def _weights(inputs: Any, params: Any, index: int) -> np.ndarray | None:
    found = inputs[index] if index < len(inputs) else None
    found = onnx_frontend.get_constant(found, params) if found is not None else None
    return None if found is None else constant(found)


def _direction(bb: relax.BlockBuilder, x: relax.Expr, spec: Recurrent, w, r, b) -> relax.Expr:
    """The states (1, L, width) of one direction. w (gates * width, inputs); r; b (2 * gates * width)."""
    size = GATES[spec.kind] * spec.width
    given, inner = b[:size].copy(), b[size:].copy()
    if spec.kind == "lstm":
        given, inner = given + inner, np.zeros_like(inner)
    rows = bb.normalize(relax.op.matmul(x, relax.const(np.ascontiguousarray(w.T))))
    rows = bb.normalize(relax.op.add(bb.emit(rows), relax.const(given)))
    func = recurrent(spec)
    kernel = bb.add_func(func, func.attrs["embbert.kernel"])
    shape = [1, x.ty.shape.values[1], spec.width]
    made = relax.call_tir(
        kernel, [bb.emit(rows), relax.const(r), relax.const(inner)], relax.TensorType(shape, "float32")
    )
    return bb.emit(made)


def _converted(kind: str, bb: relax.BlockBuilder, inputs: Any, attr: Any, params: Any) -> relax.Expr:
    name = kind.upper()
    w, r = _weights(inputs, params, 1), _weights(inputs, params, 2)
    if w is None or r is None:
        raise InputError(f"the {name}'s weights are not constants")
    directions, width = r.shape[0], r.shape[2]
    b = _weights(inputs, params, 3)
    b = np.zeros((directions, 2 * w.shape[1]), np.float32) if b is None else b
    states = [_weights(inputs, params, index) for index in (5, 6, 7)]
    given = [index for index in (5, 6, 7) if index < len(inputs) and inputs[index] is not None]
    if len(given) != sum(s is not None for s in states) or any(s is not None and s.any() for s in states):
        raise InputError(f"the {name} begins with a state other than zero, which is not compiled")
    order = attr.get("direction", b"forward")
    order = order.decode() if isinstance(order, bytes) else order
    activations = [a.decode() if isinstance(a, bytes) else a for a in attr.get("activations", [])]
    if activations and activations != _ACTIVATIONS[kind] * directions:
        raise InputError(f"the {name} has the activations {', '.join(activations)}, which are not compiled")
    if attr.get("clip") or attr.get("input_forget"):
        raise InputError(f"the {name} has a clip or a coupled forget gate, which is not compiled")
    if len(inputs) > 4 and inputs[4] is not None:
        raise InputError(f"the {name} is given the lengths of its texts, which is not compiled: export it without")
    x = inputs[0]
    if not attr.get("layout", 0):  # (L, 1, inputs)
        x = bb.emit(relax.op.permute_dims(x, [1, 0, 2]))
    after = kind == "lstm" or bool(attr.get("linear_before_reset", 0))
    made = []
    for index in range(directions):
        backward = order == "reverse" or index == 1
        made.append(_direction(bb, x, Recurrent(kind, width, backward, after), w[index], r[index], b[index]))
    return _outputs(bb, made, width, bool(attr.get("layout", 0)), order, kind)


def _outputs(bb: relax.BlockBuilder, made: list, width: int, batch_first: bool, order: str, kind: str) -> relax.Expr:
    """Y and the last state, in the layout that ONNX gives them."""
    length = made[0].ty.shape.values[1]
    rows = [bb.emit(relax.op.reshape(m, (length, 1, 1, width))) for m in made]
    every = rows[0] if len(rows) == 1 else bb.emit(relax.op.concat(rows, axis=1))
    last = []
    for index, states in enumerate(made):
        first = order == "reverse" or index == 1
        begin = 0 if first else length - 1
        cut = relax.op.strided_slice(states, [1], [begin], [begin + 1], [1], assume_inbound=True)
        last.append(bb.emit(relax.op.reshape(bb.emit(cut), (1, 1, width))))
    final = last[0] if len(last) == 1 else bb.emit(relax.op.concat(last, axis=0))
    if batch_first:
        every = bb.emit(relax.op.permute_dims(every, [2, 0, 1, 3]))
        final = bb.emit(relax.op.permute_dims(final, [1, 0, 2]))
    return relax.Tuple([every, final])


class Lstm(onnx_frontend.OnnxOpConverter):
    @classmethod
    def _impl_v1(cls, bb: relax.BlockBuilder, inputs: Any, attr: Any, params: Any) -> relax.Expr:
        return _converted("lstm", bb, inputs, attr, params)


class Gru(onnx_frontend.OnnxOpConverter):
    @classmethod
    def _impl_v1(cls, bb: relax.BlockBuilder, inputs: Any, attr: Any, params: Any) -> relax.Expr:
        return _converted("gru", bb, inputs, attr, params)


CONVERTERS = {"LSTM": Lstm, "GRU": Gru}
