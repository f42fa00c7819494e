"""What an ONNX file may be made of and is refused for by its own name, before the importer says something else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import onnx

from embbert_tvm.errors import InputError

# Operators that compute with integers of a layout of their own, as quantizing tools write them.
_INTEGERS = re.compile(
    r"QLinear\w+|QGemm|QAttention|QEmbed\w+|(Dynamic)?MatMul(Integer\w*|NBits|BnB4|Fp\w+)|ConvInteger"
    r"|DynamicQuantize\w+|GatherBlockQuantized|QMoE|QOrdered\w+"
)
_SMALL = re.compile(r"U?INT[24]|FLOAT4\w+|FLOAT8\w+")


def check_types(model: onnx.ModelProto, path: Path) -> None:
    """InputError for a file that is quantized in another way than QuantizeLinear and DequantizeLinear of 8 bits."""
    again = "compile the float model with --precision, or one with QuantizeLinear and DequantizeLinear of 8 bits"
    for node in _nodes(model.graph):
        if _INTEGERS.fullmatch(node.op_type):
            raise InputError(f"{path}: is quantized in operators of its own ({node.op_type}), not compiled: {again}")
    for tensor in model.graph.initializer:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        if _SMALL.fullmatch(kind):
            raise InputError(f"{path}: {tensor.name} is of type {kind.lower()}, not compiled: {again}")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)
