"""What a model's inputs mean, and one input `ids` (1, L) in their place."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from embbert_tvm.errors import InputError
from embbert_tvm.graph.door.probe import IDS

_INTEGERS = (TensorProto.INT64, TensorProto.INT32)
_BY_NAME = (
    ("mask", re.compile(r"mask", re.I)),
    ("types", re.compile(r"token_?type|segment|type_?ids", re.I)),
    ("positions", re.compile(r"position", re.I)),
    (IDS, re.compile(r"input_?ids|token|^ids$|^inputs?$|^x$|words?$|text", re.I)),
)
# What an index goes through on its way to a table.
_PLAIN = ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Where", "Add", "Flatten", "Clip", "Max")
_MOST_TYPES = 16  # rows of a table of token types


@dataclass(frozen=True)
class Meaning:
    """What each input of a model is: "ids", "mask", "types" or "positions"."""

    of: dict[str, str]

    @property
    def ids(self) -> str:
        return next(name for name, meaning in self.of.items() if meaning == IDS)


def describe(value: onnx.ValueInfoProto) -> str:
    """An input or output as its owner knows it: name, element type, dimensions."""
    tensor = value.type.tensor_type
    kind = TensorProto.DataType.Name(tensor.elem_type).lower()
    dims = ", ".join(d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in tensor.shape.dim)
    return f"{value.name} {kind} ({dims})"


def real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are given at run time: those that no initializer has."""
    initialized = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return [i for i in graph.input if i.name not in initialized]


def meaning_of(graph: onnx.GraphProto) -> Meaning:
    """The meaning of each input by its name, else by the table that it looks up. Raises InputError where unclear."""
    inputs = real_inputs(graph)
    listed = ", ".join(describe(i) for i in inputs) or "none"
    needed = f"a model takes token ids, and may take a mask, token types and positions; this one takes {listed}"
    if not inputs:
        raise InputError(needed)
    rows = {i.name: _rows_looked_up(graph, i.name) for i in inputs}
    integers = [i for i in inputs if i.type.tensor_type.elem_type in _INTEGERS]
    if len(inputs) == 1 and integers:
        return Meaning({inputs[0].name: IDS})
    found: dict[str, str] = {}
    for value in inputs:
        named = next((meaning for meaning, pattern in _BY_NAME if pattern.search(value.name)), None)
        found[value.name] = named or _by_use(value, rows, integers)
        if found[value.name] != "mask" and value not in integers:
            raise InputError(f"the input {describe(value)} holds no integers: {needed}")
    meanings = list(found.values())
    if meanings.count(IDS) != 1 or any(meanings.count(m) > 1 for m in meanings):
        raise InputError(f"it is not clear which input holds the token ids: {needed}")
    return Meaning(found)


def _by_use(value: onnx.ValueInfoProto, rows: dict[str, int | None], integers: list) -> str:
    """An unnamed input's meaning: the largest table is the vocabulary's, a tiny one is of token types."""
    own = rows[value.name]
    if own is None:
        return "mask"
    if own == max(r for r in rows.values() if r is not None):
        return IDS
    return "types" if own <= _MOST_TYPES else "positions"


def _rows_looked_up(graph: onnx.GraphProto, name: str) -> int | None:
    """The rows of the table whose index is made from an input; None where it is no index."""
    rows = {t.name: t.dims[0] for t in graph.initializer if len(t.dims) == 2}
    reached, found = {name}, []
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in rows and node.input[1] in reached:
            found.append(rows[node.input[0]])
        elif node.op_type in _PLAIN and reached.intersection(node.input):
            reached.update(node.output)
    return max(found, default=None)


def fixed_length(value: onnx.ValueInfoProto) -> int | None:
    """The one length that an input of ids takes; None where the length is dynamic. Raises InputError for its rank."""
    dims = value.type.tensor_type.shape.dim
    if not value.type.tensor_type.HasField("shape"):
        return None
    if len(dims) not in (1, 2):
        raise InputError(f"the input {describe(value)} holds no token ids: they have the shape (1, L)")
    if len(dims) == 2 and dims[0].HasField("dim_value") and dims[0].dim_value != 1:
        if dims[1].HasField("dim_value") and dims[1].dim_value == 1:
            return dims[0].dim_value
        raise InputError(
            f"the input {describe(value)} takes {dims[0].dim_value} texts at once: "
            "export it with the batch as a dynamic axis, or with a batch of 1"
        )
    return dims[-1].dim_value if dims[-1].HasField("dim_value") else None


def _makers(
    graph: onnx.GraphProto, value: onnx.ValueInfoProto, meaning: str, separator: int | None, padding: int | None
) -> list:
    """Nodes that make an input from `ids`, in its shape and type. padding: an id that the mask leaves out."""
    name, kind = value.name, value.type.tensor_type.elem_type
    dims = value.type.tensor_type.shape.dim
    prefix = f"door.{meaning}"

    def constant(suffix: str, array: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(array, f"{prefix}.{suffix}"))
        return f"{prefix}.{suffix}"

    flat = constant("shape", np.array([-1] if len(dims) == 1 else [1, -1]))
    if len(dims) == 2 and dims[1].HasField("dim_value") and dims[1].dim_value == 1:
        flat = constant("column", np.array([-1, 1]))
    if meaning == "mask" and len(dims) > 2:
        raise InputError(f"the mask {describe(value)} has more than two dimensions: export it as (batch, length)")
    nodes = []
    if meaning == IDS:
        made = IDS
    elif meaning == "positions":
        nodes += [
            helper.make_node("Shape", [IDS], [f"{prefix}.dims"]),
            helper.make_node("Gather", [f"{prefix}.dims", constant("one", np.array(1))], [f"{prefix}.length"], axis=0),
            helper.make_node(
                "Range",
                [constant("from", np.array(0)), f"{prefix}.length", constant("step", np.array(1))],
                [f"{prefix}.range"],
            ),
        ]
        made = f"{prefix}.range"
    elif meaning == "types" and separator is not None:
        # What stands after a separator is of the second text.
        nodes += [
            helper.make_node("Equal", [IDS, constant("separator", np.array(separator))], [f"{prefix}.is_separator"]),
            helper.make_node("Cast", [f"{prefix}.is_separator"], [f"{prefix}.count"], to=TensorProto.INT64),
            helper.make_node("CumSum", [f"{prefix}.count", constant("axis", np.array(1))], [f"{prefix}.so_far"]),
            # One more than the token itself counts: a separator stood before it.
            helper.make_node("Greater", [f"{prefix}.so_far", f"{prefix}.count"], [f"{prefix}.made"]),
        ]
        made = f"{prefix}.made"
    elif meaning == "mask" and padding is not None:
        nodes += [
            helper.make_node("Equal", [IDS, constant("padding", np.array(padding))], [f"{prefix}.is_padding"]),
            helper.make_node("Not", [f"{prefix}.is_padding"], [f"{prefix}.made"]),
        ]
        made = f"{prefix}.made"
    else:
        fill = numpy_helper.from_array(np.array([1 if meaning == "mask" else 0]))
        nodes += [
            helper.make_node("Shape", [IDS], [f"{prefix}.dims"]),
            helper.make_node("ConstantOfShape", [f"{prefix}.dims"], [f"{prefix}.made"], value=fill),
        ]
        made = f"{prefix}.made"
    nodes.append(helper.make_node("Cast", [made], [f"{prefix}.cast"], to=kind))
    nodes.append(helper.make_node("Reshape", [f"{prefix}.cast", flat], [name]))
    return nodes


def with_one_input(
    model: onnx.ModelProto,
    meaning: Meaning,
    separator: int | None,
    fixed: int | None = None,
    padding: int | None = None,
) -> None:
    """Replace a model's inputs, in place, by `ids` int64 (1, L); every other is made from it.

    separator: the id after which a second text begins, where token types are to follow from it. fixed: the one length
    that the model takes, if it takes but one; padding: the id that fills a text up to it.
    """
    graph = model.graph
    inputs = real_inputs(graph)
    if any(i.name == IDS for i in inputs):
        rename(graph, IDS, "door.own_ids")
        meaning = Meaning({("door.own_ids" if k == IDS else k): v for k, v in meaning.of.items()})
        inputs = real_inputs(graph)
    filled = padding if fixed is not None else None
    nodes = [n for i in inputs for n in _makers(graph, i, meaning.of[i.name], separator, filled)]
    kept = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend([*nodes, *kept])
    graph.input.append(helper.make_tensor_value_info(IDS, TensorProto.INT64, [1, fixed or "L"]))


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Give a tensor another name wherever it is made and read, graphs inside nodes included."""
    for part in (graph.input, graph.output, graph.initializer, graph.value_info):
        for value in part:
            value.name = new if value.name == old else value.name
    for node in graph.node:
        node.input[:] = [new if x == old else x for x in node.input]
        node.output[:] = [new if x == old else x for x in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
                rename(inner, old, new)
