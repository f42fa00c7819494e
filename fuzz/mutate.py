"""Inputs that are nearly right: bytes, JSON, YAML and ONNX with something in them changed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import onnx
import yaml

_BYTES = (b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\t", b'"', b"\\", b"\xed\xa0\x80", b"{", b"]", b"9" * 5000)
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "\0", "\n", "x" * 300, "\ud800", "☃", "../../x", "/dev/null", "$(touch x)", "9" * 5000, "NULL", [], {}, [[]],
    [None], {"": None}, ["a", 1, {}],
)  # fmt: skip
_NAMES = ("", " ", "a b", "NULL", "ids", "logits", "☃", "a\nb", "x" * 300, "int8_t", "*/", "\0")
_DIMENSIONS = (0, 1, -1, 2, 7, 2**31, 2**40, 2**62)


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four small changes."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(content) + 1)
        kind = rng.randrange(7)
        if kind == 0 and content:
            content[min(at, len(content) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[at:at] = rng.choice(_BYTES)
        elif kind == 2:
            del content[at : at + rng.choice((1, 2, 8, 64))]
        elif kind == 3:
            del content[at:]
        elif kind == 4:
            content[at:at] = content[at : at + rng.choice((1, 8, 64, 1024))]
        elif kind == 5:
            content[at : at + 1] = bytes([rng.randrange(256)])
        else:
            content[at:at] = rng.randbytes(rng.choice((1, 4, 16)))
    return bytes(content)


def _places(node: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    stack = [node]
    while stack:
        here = stack.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        for key in keys:
            found.append((here, key))
            stack.append(here[key])
    return found


def _of_document(document: Any, rng: random.Random) -> Any:
    if rng.random() < 0.03:
        return rng.choice(_VALUES)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = _places(document)
        if not places:
            return document
        # Few of the places of a long list, so that what is named is changed as often.
        short = [place for place in places if not (isinstance(place[0], list) and len(place[0]) > 8)]
        holder, key = rng.choice(short if short and rng.random() < 0.8 else places)
        kind = rng.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice(("", "x", key + "x"))] = holder.pop(key)
        elif kind == 2 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif kind == 3:
            other, where = rng.choice(places)
            if (isinstance(other, list) and where < len(other)) or (isinstance(other, dict) and where in other):
                holder[key] = json.loads(json.dumps(other[where]))
        else:
            holder[key] = rng.choice(_VALUES)
    return document


def of_json(data: bytes, rng: random.Random) -> bytes:
    """JSON of another shape or with other values, or bytes that are none."""
    if rng.random() < 0.2:
        return of_bytes(data, rng)
    text = json.dumps(_of_document(json.loads(data), rng))
    return (text if rng.random() < 0.9 else text.replace("1", "1" * 5000, 1)).encode()


def of_lines(data: bytes, rng: random.Random) -> bytes:
    """Lines of JSON, one of them changed."""
    lines = data.splitlines(keepends=True)
    if not lines or rng.random() < 0.3:
        return of_bytes(data, rng)
    at = rng.randrange(len(lines))
    lines[at] = of_json(lines[at], rng).rstrip() + b"\n"
    return b"".join(lines)


def of_yaml(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return of_bytes(data, rng)
    return json.dumps(_of_document(yaml.safe_load(data), rng)).encode()


def _rename(model: onnx.ModelProto, rng: random.Random) -> None:
    name = rng.choice(_NAMES)
    graph = model.graph
    kind = rng.randrange(4)
    if kind == 0:
        node = rng.choice(graph.node)
        old = rng.choice([*node.input, *node.output, ""])
    elif kind == 1 and graph.initializer:
        old = rng.choice(graph.initializer).name
    else:
        old = rng.choice([*graph.input, *graph.output]).name
    for node in graph.node:
        node.input[:] = [name if x == old else x for x in node.input]
        node.output[:] = [name if x == old else x for x in node.output]
    for item in (*graph.initializer, *graph.input, *graph.output):
        item.name = name if item.name == old else item.name


def _change_shape(model: onnx.ModelProto, rng: random.Random) -> None:
    kind = rng.randrange(3)
    if kind == 0 and model.graph.initializer:
        tensor = rng.choice(model.graph.initializer)
        if tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_DIMENSIONS)
        else:
            tensor.dims.append(rng.choice(_DIMENSIONS))
    else:
        value = rng.choice([*model.graph.input, *model.graph.output]).type.tensor_type
        if kind == 1:
            value.elem_type = rng.randrange(24)
        elif value.shape.dim:
            dimension = rng.choice(value.shape.dim)
            dimension.dim_param = rng.choice(_NAMES)
            if rng.random() < 0.5:
                dimension.dim_value = rng.choice(_DIMENSIONS)


def _change_node(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = model.graph.node
    at = rng.randrange(len(nodes))
    node, kind = nodes[at], rng.randrange(7)
    if kind == 0:
        node.op_type = rng.choice(("Add", "Div", "Reshape", "Gather", "If", "Loop", "Sqrt", "Cast", "Nonsense", ""))
    elif kind == 1:
        del nodes[at]
    elif kind == 2:
        nodes.add().CopyFrom(node)
    elif kind == 3 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice([x for n in nodes for x in (*n.input, *n.output)])
    elif kind == 4 and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif kind == 5 and node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.i = rng.choice(_DIMENSIONS)
        attribute.type = rng.randrange(12)
    else:
        node.attribute.add(name=rng.choice(("axis", "perm", "to", "x")), i=rng.choice(_DIMENSIONS), type=2)


def _change_data(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.initializer:
        return
    tensor = rng.choice(model.graph.initializer)
    kind = rng.randrange(4)
    if kind == 0:
        tensor.raw_data = of_bytes(tensor.raw_data, rng)
    elif kind == 1:
        tensor.data_type = rng.randrange(27)
    elif kind == 2:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=rng.choice(("x", "../x", "/etc/passwd", "", "x\0", "☃")))
    else:
        at = 4 * rng.randrange(len(tensor.raw_data) // 4 + 1)
        tensor.raw_data = tensor.raw_data[:at] + b"\0\0\xc0\x7f" + tensor.raw_data[at + 4 :]


def of_onnx(data: bytes, rng: random.Random) -> bytes:
    """A protobuf that is no model, or a model with other names, shapes, nodes or data."""
    if rng.random() < 0.25:
        return of_bytes(data, rng)
    model = onnx.load_from_string(data)
    changes: tuple[Callable[[onnx.ModelProto, random.Random], None], ...]
    changes = (_rename, _change_shape, _change_node, _change_node, _change_data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not model.graph.node or not model.graph.input or not model.graph.output:
            break
        rng.choice(changes)(model, rng)
    return model.SerializeToString()
