"""Control flow that no token decides: the branch of an If in its place, the turns of a Loop one after another.

A batch of 1 makes such Loops of one turn, as nn.EmbeddingBag is exported.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from embbert_tvm.errors import InputError
from embbert_tvm.graph.door.inputs import fixed_length, rename
from embbert_tvm.graph.door.lengths import of_the_length
from embbert_tvm.graph.door.probe import Probe, ProbeError, live_nodes, random_ids

_LENGTHS = (11, 7, 23, 64)
_MOST_TURNS = 16


def inline_control_flow(model: onnx.ModelProto, vocabulary: int) -> None:
    """Replace every If and Loop, in place. Raises InputError for one whose path or turns depend on the text."""
    while (node := next((n for n in model.graph.node if n.op_type in ("If", "Loop")), None)) is not None:
        made = _branch(model, node, vocabulary) if node.op_type == "If" else _turns(model, node, vocabulary)
        _put(model.graph, node, made, keep=False)
    _join_sequences(model.graph)
    live = live_nodes(model.graph, [o.name for o in model.graph.output])
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in live]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _put(graph: onnx.GraphProto, at: onnx.NodeProto, nodes: list[onnx.NodeProto], keep: bool) -> onnx.NodeProto:
    """Put nodes before one, which stays or goes; gives that one as it stands in the changed graph."""
    where = next(k for k, n in enumerate(graph.node) if n is at or list(n.output) == list(at.output))
    everything = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend([*everything[:where], *copies, *everything[where + (0 if keep else 1) :]])
    return graph.node[where + len(copies)] if keep else at


def _known(model: onnx.ModelProto, name: str, vocabulary: int, what: str) -> int:
    """The one value that a condition or a count has at every length."""
    initial = {t.name: t for t in model.graph.initializer}
    if name in initial:
        return int(numpy_helper.to_array(initial[name]).reshape(-1)[0])
    if name not in of_the_length(model.graph)[0]:
        raise InputError(f"{what} depends on the text, which is not compiled")
    probe, found = Probe(model, [name]), set()
    fixed = fixed_length(model.graph.input[0])
    for length in _LENGTHS if fixed is None else (fixed,):
        try:
            found.add(int(np.reshape(probe(random_ids(length, vocabulary))[name], -1)[0]))
        except ProbeError:
            continue
    if len(found) != 1:
        raise InputError(f"{what} depends on the length of the text, which is not compiled")
    return found.pop()


def _branch(model: onnx.ModelProto, node: onnx.NodeProto, vocabulary: int) -> list[onnx.NodeProto]:
    name = node.name or node.output[0]
    taken = _known(model, node.input[0], vocabulary, f"the path that the model takes at {name}, an If,")
    branch = helper.get_node_attr_value(node, "then_branch" if taken else "else_branch")
    model.graph.initializer.extend(branch.initializer)
    ends = [
        helper.make_node("Identity", [made.name], [out], name=f"{name}.{out}")
        for made, out in zip(branch.output, node.output, strict=True)
    ]
    return [*branch.node, *ends]


def _turns(model: onnx.ModelProto, node: onnx.NodeProto, vocabulary: int) -> list[onnx.NodeProto]:
    """The turns of a Loop: all but what gives its outputs is put before it in the graph."""
    name, graph = node.name or node.output[0], model.graph
    body = helper.get_node_attr_value(node, "body")
    count, condition, *states = node.input
    scans: list[list[str]] = []
    what = f"how often the model goes round {name}, a Loop,"
    for turn in range(_MOST_TURNS + 1):
        ended = condition and not _known(model, condition, vocabulary, what)
        if ended or (count and turn >= _known(model, count, vocabulary, what)):
            break
        if turn == _MOST_TURNS:
            raise InputError(f"the model goes round {name}, a Loop, more than {_MOST_TURNS} times: not compiled")
        made = _turn(graph, body, f"{name}.turn{turn}", turn, states)
        node = _put(graph, node, list(made.node), keep=True)
        condition, *outputs = (o.name for o in made.output)
        states, scanned = outputs[: len(states)], outputs[len(states) :]
        scans.append(scanned)
    ends = [helper.make_node("Identity", [s], [out]) for s, out in zip(states, node.output, strict=False) if out]
    for index, out in enumerate(node.output[len(states) :]):
        if not out or not scans:
            continue
        axis = _constant(graph, f"{name}.axis", np.array([0]))
        rows = [f"{scanned[index]}.row" for scanned in scans]
        ends += [
            helper.make_node("Unsqueeze", [scanned[index], axis], [row])
            for scanned, row in zip(scans, rows, strict=True)
        ]
        ends.append(helper.make_node("Concat", rows, [out], axis=0))
    return ends


def _turn(graph: onnx.GraphProto, body: onnx.GraphProto, suffix: str, turn: int, states: list[str]) -> onnx.GraphProto:
    """A copy of a Loop's body for one turn, its own names made unique; its initializers go to the graph."""
    copy = onnx.GraphProto.FromString(body.SerializeToString())
    number, going = (
        _constant(graph, f"{suffix}.number", np.array(turn)),
        _constant(graph, f"{suffix}.go", np.array(True)),
    )
    given = dict(zip((i.name for i in body.input), (number, going, *states), strict=True))
    own = [t.name for t in body.initializer] + [name for n in body.node for name in n.output if name]
    for old in own:
        rename(copy, old, f"{suffix}.{old}")
    for old, new in given.items():
        rename(copy, old, new)
    graph.initializer.extend(copy.initializer)
    return copy


def _constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> str:
    if all(t.name != name for t in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _join_sequences(graph: onnx.GraphProto) -> None:
    """Sequences that are filled and joined as what they join."""
    producers = {name: n for n in graph.node for name in n.output}

    def elements(name: str) -> list[str] | None:
        made = producers.get(name)
        if made is None or made.op_type not in ("SequenceEmpty", "SequenceInsert", "Identity", "SequenceConstruct"):
            return None
        if made.op_type in ("SequenceEmpty", "SequenceConstruct"):
            return list(made.input)
        before = elements(made.input[0])
        if made.op_type == "Identity" or before is None or len(made.input) > 2:
            return before if made.op_type == "Identity" else None
        return [*before, made.input[1]]

    for node in graph.node:
        if node.op_type != "ConcatFromSequence" or not (parts := elements(node.input[0])):
            continue
        if any(a.name == "new_axis" and a.i for a in node.attribute):
            continue
        axis = helper.get_node_attr_value(node, "axis")
        node.CopyFrom(helper.make_node("Concat", parts, list(node.output), name=node.name, axis=axis))
