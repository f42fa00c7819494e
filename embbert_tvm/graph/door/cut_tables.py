"""Tables of positions with those rows alone that the longest text reads."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


def cut_tables(model: onnx.ModelProto, spared: int) -> onnx.ModelProto:
    """The model for texts that are `spared` tokens shorter than the longest that it knows.

    A table is cut where all that reads it takes its first rows, as many as there are tokens or a number more.

    Args:
        model: one that has come through the door; stays as it is.
        spared: tokens.
    """
    made = onnx.ModelProto.FromString(model.SerializeToString())
    graph = made.graph
    constants = {t.name: t for t in graph.initializer}
    for name, tensor in constants.items():
        readers = [node for node in graph.node if name in node.input]
        axes = [_axes(node, name, constants) for node in readers]
        if not axes or any(found is None or found != axes[0] for found in axes):
            continue
        value = numpy_helper.to_array(tensor)
        if any(value.shape[axis] <= spared for axis in axes[0]):
            continue
        keep = tuple(slice(0, size - spared if k in axes[0] else size) for k, size in enumerate(value.shape))
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value[keep]), name))
    return made


def _axes(node: onnx.NodeProto, table: str, constants: dict[str, onnx.TensorProto]) -> list[int] | None:
    """The axes along which a node takes as many of a table's first elements as the length says; else None."""
    if node.op_type != "Slice" or node.input[0] != table or len(node.input) != 4 or node.input[2] in constants:
        return None
    bounds = [constants.get(node.input[k]) for k in (1, 3)]
    if None in bounds:
        return None
    starts, axes = (numpy_helper.to_array(bound) for bound in bounds)
    return None if starts.any() else [int(axis) for axis in axes]
