"""A model with those rows alone of its token table that a smaller vocabulary has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from embbert_tvm.errors import InputError
from embbert_tvm.graph.door.probe import IDS

_PASSED = ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten")
_SHAPES = ("Shape", "Size")


def keep_rows(model: onnx.ModelProto, kept: Sequence[int]) -> onnx.ModelProto:
    """The model of ids that are numbered anew: what was kept[n] is n.

    Args:
        model: one that has come through the door; stays as it is.
        kept: the former ids, ascending.

    Raises:
        InputError: for a model that does with ids more than look them up and compare them.
    """
    made = onnx.ModelProto.FromString(model.SerializeToString())
    graph = made.graph
    constants = {t.name: t for t in graph.initializer}
    rows, reached = np.asarray(kept), {IDS}
    for node in graph.node:
        of_ids = [k for k, name in enumerate(node.input) if name in reached]
        if not of_ids or node.op_type in _SHAPES:
            continue
        if node.op_type in _PASSED and of_ids == [0]:
            reached.update(node.output)
        elif node.op_type == "Gather" and of_ids == [1] and node.input[0] in constants and _axis(node) == 0:
            node.input[0] = _sliced(graph, constants, node.input[0], rows)
        elif node.op_type == "Equal" and len(of_ids) == 1 and node.input[1 - of_ids[0]] in constants:
            other = 1 - of_ids[0]
            node.input[other] = _renumbered(graph, constants, node.input[other], rows)
        else:
            raise InputError(
                f"the vocabulary cannot be pruned: {node.name or node.output[0]} ({node.op_type}) computes with token "
                "ids, which pruning numbers anew"
            )
    _drop_unread(graph)
    return made


def _axis(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "axis"), 0)


def _sliced(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto], name: str, rows: np.ndarray) -> str:
    """The name of a table's kept rows."""
    table = numpy_helper.to_array(constants[name])
    if rows.max(initial=0) >= len(table):
        raise InputError(f"the vocabulary cannot be pruned: {name} has {len(table)} rows, the tokenizer more tokens")
    return _added(graph, constants, name, table[rows])


def _renumbered(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto], name: str, rows: np.ndarray) -> str:
    """The name of ids as they are now; -1 for one that is no more."""
    old = numpy_helper.to_array(constants[name])
    new = np.searchsorted(rows, old)
    found = np.where((new < len(rows)) & (rows[np.minimum(new, len(rows) - 1)] == old), new, -1)
    return _added(graph, constants, name, found.astype(old.dtype))


def _added(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto], name: str, value: np.ndarray) -> str:
    readers = sum(name in node.input for node in graph.node)
    if readers == 1:
        constants[name].CopyFrom(numpy_helper.from_array(value, name))
        return name
    made = f"{name}.pruned"
    if made not in constants:
        graph.initializer.append(numpy_helper.from_array(value, made))
        constants[made] = graph.initializer[-1]
    return made


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [t for t in graph.initializer if t.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
