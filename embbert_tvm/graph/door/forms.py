"""What a file may say in several ways, in one: functions, opset, element types, initializers; and finite constants."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper, version_converter

from embbert_tvm.errors import InputError
from embbert_tvm.graph.door.probe import names_read
from embbert_tvm.graph.selective_scan import DOMAIN

OPSET = 18  # from which on axes are inputs and Shape takes a part
_WIDE = {TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
_REAL = _WIDE | {TensorProto.FLOAT}


def to_plain_form(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """A copy in float32 with the standard's operators of one version, and what its owner should know of that.

    Raises InputError for a constant that is not finite.
    """
    plain, notes = onnx.ModelProto(), []
    plain.CopyFrom(model)
    check_finite(plain)
    others = [(f.domain, f.name) for f in plain.functions if f.domain != DOMAIN]
    if others:
        plain = inliner.inline_selected_functions(plain, others)
    graph = plain.graph
    initialized = {t.name for t in graph.initializer}
    given = [i for i in graph.input if i.name not in initialized]
    del graph.input[:]
    graph.input.extend(given)
    constants_to_initializers(graph)
    if kinds := _to_float32(graph):
        notes.append(f"the model is in {', '.join(sorted(kinds))}: it is compiled in float32")
    return _at_opset(plain), notes


# What an infinite constant would make of a text; a mask or a floor may hold -inf.
_MULTIPLYING = {
    "MatMul", "Gemm", "Conv", "Mul", "Div", "LSTM", "GRU", "RNN", "LayerNormalization", "Einsum",
}  # fmt: skip


def check_finite(model: onnx.ModelProto) -> None:
    """Raises InputError for a constant that holds NaN, or weights that hold an infinity, by its name."""
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in names_read(node):
            readers.setdefault(name, set()).add(node.op_type)
    for name, tensor in _constants(model.graph):
        if tensor.data_type not in _REAL:
            continue
        value = numpy_helper.to_array(tensor).astype(np.float64)
        if np.isnan(value).any():
            raise InputError(f"{name} holds NaN: the model has no answer; train or export it again")
        infinite, read = np.isinf(value), readers.get(name, set())
        is_mask = not (value[~infinite] != 0).any()
        if infinite.any() and (read & _MULTIPLYING or (read & {"Add", "Gather"} and not is_mask)):
            raise InputError(f"{name} holds an infinity: the model has no answer; train or export it again")


def _constants(graph: onnx.GraphProto):
    """(name, tensor) of every constant, those of graphs inside nodes too."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and node.op_type == "Constant":
                yield node.output[0], attribute.t
            for inner in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
                yield from _constants(inner)


_NUMBERS = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}


def plain_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with no Constant but tensors, which is the one form that TVM's importer reads."""
    if not any(n.op_type == "Constant" and n.attribute[0].name in _NUMBERS for n in model.graph.node):
        return model
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    constants_to_initializers(plain.graph)
    return plain


def constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Make every Constant node an initializer, in place: the one form of a constant that there then is."""
    kept = []
    for node in graph.node:
        attribute = node.attribute[0] if node.op_type == "Constant" and node.attribute else None
        if attribute is not None and attribute.name == "value":
            tensor = attribute.t
        elif attribute is not None and attribute.name in _NUMBERS:
            value = helper.get_attribute_value(attribute)
            tensor = numpy_helper.from_array(np.array(value, _NUMBERS[attribute.name]))
        else:
            kept.append(node)
            continue
        made = graph.initializer.add()
        made.CopyFrom(tensor)
        made.name = node.output[0]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
    del graph.node[:]
    graph.node.extend(copies)


def _to_float32(graph: onnx.GraphProto) -> set[str]:
    """Make float64 and narrow floating point float32, in place; the names of the types that there were."""
    found = set()
    for _, tensor in _constants(graph):
        if tensor.data_type in _WIDE:
            found.add(TensorProto.DataType.Name(tensor.data_type).lower())
            name, value = tensor.name, numpy_helper.to_array(tensor)
            if value.dtype == ml_dtypes.bfloat16 or value.dtype.kind == "f":
                tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in _WIDE:
            found.add(TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower())
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i in _WIDE:
                attribute.i = TensorProto.FLOAT
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type in _WIDE:
                attribute.t.CopyFrom(
                    numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float32), attribute.t.name)
                )
            for inner in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
                found |= _to_float32(inner)
    return found


def _at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model at OPSET or a newer one."""
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if version >= OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter raises whatever its adapters do
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"opset {version} cannot be read ({lines[-1]}): export the model with opset {OPSET}") from None
