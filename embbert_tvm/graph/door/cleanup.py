"""Operators that change nothing, once a mask is ones and a batch is 1."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from embbert_tvm.graph.door.inputs import rename
from embbert_tvm.graph.door.probe import live_nodes, names_read

Sizes = Mapping[str, Mapping[int, tuple[int, ...]]]


class _Graph:
    def __init__(self, graph: onnx.GraphProto, sizes: Sizes, kinds: Mapping[str, int]) -> None:
        self.graph, self.sizes, self.kinds = graph, sizes, kinds
        self.constants = {t.name: t for t in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}

    def same_shape(self, a: str, b: str) -> bool:
        return a in self.sizes and b in self.sizes and self.sizes[a] == self.sizes[b]

    def filled(self, name: str, value: float) -> bool:
        """Whether a tensor is a constant of nothing but `value`."""
        tensor = self.constants.get(name)
        return tensor is not None and bool((numpy_helper.to_array(tensor) == value).all())


def _unchanged(node: onnx.NodeProto, g: _Graph) -> str | None:
    """The input that an operator gives unchanged; None where it does something."""
    op, out = node.op_type, node.output[0]
    if op in ("Identity", "Dropout"):
        return node.input[0]
    if op == "Cast":
        attribute = helper.get_node_attr_value(node, "to")
        return node.input[0] if g.kinds.get(node.input[0]) == attribute else None
    if op in ("Expand", "Reshape", "Slice", "Squeeze", "Unsqueeze", "Tile", "Pad", "Flatten"):
        return node.input[0] if g.same_shape(node.input[0], out) and _keeps_order(node, g) else None
    if op == "Transpose" and node.attribute:
        order = list(node.attribute[0].ints)
        return node.input[0] if order == sorted(order) else None
    if op == "Where":
        return _chosen(node, g)
    neutral = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1, "Pow": 1}.get(op)
    if neutral is None:
        return None
    operands = [(0, 1)] if op in ("Sub", "Div", "Pow") else [(0, 1), (1, 0)]
    for kept, other in operands:
        if g.filled(node.input[other], neutral) and g.same_shape(node.input[kept], out):
            return node.input[kept]
    return None


def _keeps_order(node: onnx.NodeProto, g: _Graph) -> bool:
    """Whether a Slice goes forward; what else has the shape of its input has its order too."""
    if node.op_type != "Slice" or len(node.input) < 5:
        return True
    return g.filled(node.input[4], 1)


def _chosen(node: onnx.NodeProto, g: _Graph) -> str | None:
    """What a Where gives: one side by a constant, or what cannot be NaN behind a guard against it."""
    condition, then, other = node.input
    for side, value in ((then, True), (other, False)):
        if g.filled(condition, value) and g.same_shape(side, node.output[0]):
            return side
    test = g.producers.get(condition)
    if test is None or test.op_type != "IsNaN" or test.input[0] != other:
        return None
    # A row of attention sees its own token at least, so that no softmax is of -inf alone.
    made = g.producers.get(other)
    return other if made is not None and made.op_type == "Softmax" else None


def _mean(node: onnx.NodeProto, g: _Graph, counts: Mapping[str, int]) -> onnx.NodeProto | None:
    """sum(x) / L over the tokens' axis as a mean."""
    if node.op_type != "Div" or node.input[1] not in counts:
        return None
    total = g.producers.get(node.input[0])
    if total is None or total.op_type != "ReduceSum":
        return None
    given, out = g.sizes.get(total.input[0], {}), g.sizes.get(total.output[0], {})
    axes = _axes(total, g)
    if axes is None or len(axes) != 1 or not given or not g.same_shape(total.output[0], node.output[0]):
        return None
    if any(shape[axes[0]] != n for n, shape in given.items()):
        return None
    keep = len(next(iter(given.values()))) == len(next(iter(out.values())))
    return helper.make_node("ReduceMean", list(total.input), list(node.output), name=node.name, keepdims=int(keep))


def _axes(node: onnx.NodeProto, g: _Graph) -> list[int] | None:
    if len(node.input) > 1 and node.input[1] in g.constants:
        return numpy_helper.to_array(g.constants[node.input[1]]).tolist()
    return None


def clean(graph: onnx.GraphProto, sizes: Sizes, kinds: Mapping[str, int], counts: Mapping[str, int]) -> None:
    """Drop, in place, operators that give an input unchanged, and whatever nothing reads.

    Args:
        sizes: shapes of tensors at several lengths.
        kinds: element types of tensors.
        counts: tensors that hold nothing but the number of tokens.
    """
    outputs = {o.name for o in graph.output}
    g = _Graph(graph, sizes, kinds)
    nodes, instead = [], {}
    for node in graph.node:
        node.input[:] = [instead.get(x, x) for x in node.input]
        same = _unchanged(node, g)
        if same is not None and node.output[0] not in outputs:
            for name in [name for name, known in instead.items() if known == node.output[0]]:
                instead[name] = same
            instead[node.output[0]] = same
            continue
        mean = _mean(node, g, counts)
        nodes.append(node if mean is None else mean)
    for node in nodes:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
                for old, new in instead.items():
                    rename(inner, old, new)
    del graph.node[:]
    graph.node.extend(nodes)
    live = live_nodes(graph, outputs)
    del graph.node[:]
    graph.node.extend(live)
    drop_unread(graph)


def drop_unread(graph: onnx.GraphProto) -> None:
    """Drop initializers and last outputs that nothing reads, and what an exporter says of shapes."""
    read = {name for node in graph.node for name in names_read(node)} | {o.name for o in graph.output}
    kept = [t for t in graph.initializer if t.name in read]
    for node in graph.node:
        while len(node.output) > _least_outputs(node) and node.output[-1] not in read:
            del node.output[-1]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)


def element_types(found: Mapping[str, np.ndarray]) -> dict[str, int]:
    """ONNX's element types of arrays by name."""
    return {name: helper.np_dtype_to_tensor_dtype(v.dtype) for name, v in found.items()}


def _least_outputs(node: onnx.NodeProto) -> int:
    """How many outputs an operator must have."""
    if not onnx.defs.has(node.op_type, node.domain):
        return len(node.output)
    return max(1, onnx.defs.get_schema(node.op_type, node.domain).min_output)
