"""The one output of a model, and which head it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx
from onnx import TensorProto, helper

from embbert_tvm.errors import InputError
from embbert_tvm.graph.door.inputs import describe, rename

LOGITS = "logits"
TEXT, TOKENS = "text", "tokens"  # what each row of the output is of
_AND = "+"  # between those of several outputs


def joined_heads(of_tokens: Iterable[bool]) -> str:
    """What each row of each output is of, in one word."""
    return _AND.join(TOKENS if each else TEXT for each in of_tokens)


def heads_in(word: str) -> list[str]:
    """What `joined_heads` joined; nothing for another word."""
    found = word.split(_AND)
    return found if set(found) <= {TEXT, TOKENS} else []


def one_output(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    """A graph's output. Raises InputError where it has none, or several."""
    outputs = list(graph.output)
    if len(outputs) != 1:
        listed = ", ".join(describe(o) for o in outputs) or "none"
        raise InputError(f"a model gives one tensor, logits or a vector; this one gives {listed}: export it with one")
    return outputs[0]


def head_of(name: str, found: Mapping[int, object]) -> str:
    """What a model answers of, by its output at several lengths: TEXT for (1, C), TOKENS for (1, L, C).

    Raises InputError for another.
    """
    shapes = {n: tuple(getattr(v, "shape", ())) for n, v in found.items()}
    kind = str(getattr(next(iter(found.values())), "dtype", "a sequence"))
    shown = f"the output {name} is {kind} {next(iter(shapes.values()))} at {next(iter(shapes))} tokens"
    if kind != "float32":
        raise InputError(f"{shown}, no logits: export the model without what follows them (an ArgMax?)")
    if len(set(shapes.values())) == 1:
        length, shape = next(iter(shapes.items()))
        if len(shapes) == 1 and len(shape) == 3 and shape[:2] == (1, length):
            return TOKENS
        # A batch of 1 may have been left out.
        if all(d == 1 for d in shape[:-1]) and len(shape) <= 2 and (not shape or shape[-1] > 0):
            return TEXT
    elif all(len(s) == 3 and s[:2] == (1, n) for n, s in shapes.items()) and len({s[2] for s in shapes.values()}) == 1:
        return TOKENS
    raise InputError(f"{shown}: neither logits of the text (1, C) nor of each token (1, L, C)")


def name_logits(graph: onnx.GraphProto, head: str, classes: int, fixed: int | None = None) -> None:
    """Call the one output `logits`, in place, of shape (1, C) or (1, L, C). fixed: L, where there is but one."""
    (output,) = graph.output
    if output.name != LOGITS:
        if any(LOGITS in (*n.input, *n.output) for n in graph.node):
            rename(graph, LOGITS, "door.own_logits")
        rename(graph, output.name, LOGITS)
    shape = [1, classes] if head == TEXT else [1, fixed or "L", classes]
    graph.output[0].CopyFrom(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, shape))
