"""A table that is multiplied by one-hot vectors of ids, as JAX and TensorFlow export it, as the look-up that it is."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from embbert_tvm.graph.door.probe import IDS

# What an index goes through on its way.
_PASSED = ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Expand")


def to_lookups(graph: onnx.GraphProto) -> None:
    """Replace such products, in place, by a Gather of the ids."""
    makers = {name: node for node in graph.node for name in node.output}
    constants = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in constants or len(constants[node.input[1]].dims) != 2:
            continue
        rows = constants[node.input[1]].dims[0]
        if _is_one_hot(_source(node.input[0], makers), rows, makers, constants):
            made = helper.make_node("Gather", [node.input[1], IDS], list(node.output), name=node.name, axis=0)
            node.CopyFrom(made)


def _source(name: str, makers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """What makes a tensor, seen through what changes no order."""
    node = makers.get(name)
    while node is not None and node.op_type in _PASSED:
        name = node.input[0]
        node = makers.get(name)
    return node


def _is_ids(name: str, makers: dict[str, onnx.NodeProto]) -> bool:
    while name != IDS:
        node = makers.get(name)
        if node is None or node.op_type not in _PASSED:
            return False
        name = node.input[0]
    return True


def _is_one_hot(
    node: onnx.NodeProto | None, rows: int, makers: dict[str, onnx.NodeProto], constants: dict[str, onnx.TensorProto]
) -> bool:
    """Whether a node gives 1 at the id and 0 elsewhere, over `rows` ids."""
    if node is None:
        return False
    if node.op_type == "OneHot":
        if not _is_ids(node.input[0], makers) or any(name not in constants for name in node.input[1:]):
            return False
        depth, values = (numpy_helper.to_array(constants[name]).reshape(-1) for name in node.input[1:])
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
        return int(depth[0]) == rows and values.tolist() == [0, 1] and axis in (-1, 2)
    if node.op_type != "Equal":
        return False
    for ids, numbers in ((0, 1), (1, 0)):
        tensor = constants.get(node.input[numbers])
        if tensor is not None and _is_ids(node.input[ids], makers):
            value = numpy_helper.to_array(tensor)
            return value.shape[-1:] == (rows,) and np.array_equal(value.reshape(-1), np.arange(rows))
    return False
