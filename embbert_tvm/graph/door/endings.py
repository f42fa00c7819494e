"""Models that end in what makes scores of logits: the logits in its place, as the C makes the scores itself.

A softmax may be one operator or the several that an exporter writes for it, so what decides is a run: logits are the
tensor furthest from the output, behind nothing but such operators, of which softmax or sigmoid gives the output.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from embbert_tvm.data.metrics import softmax
from embbert_tvm.graph.door.probe import Probe, ProbeError, random_ids

SOFTMAX, SIGMOID = "softmax", "sigmoid"
# What stands between logits and scores, as one operator or in parts.
_PARTS = {
    "Softmax", "LogSoftmax", "Sigmoid", "Exp", "Log", "Sub", "Div", "Mul", "Neg", "Add", "Reciprocal", "ReduceMax",
    "ReduceSum", "ReduceLogSumExp", "Max", "Min", "Reshape", "Expand", "Identity", "Cast", "Squeeze", "Unsqueeze",
    "Clip",
}  # fmt: skip
_NONLINEAR = {"Softmax", "LogSoftmax", "Sigmoid", "Exp"}
_MOST_PARTS = 24


_ENDINGS: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
    (SOFTMAX, softmax),
    (SOFTMAX, lambda logits: np.log(softmax(logits))),
    (SIGMOID, lambda logits: 1 / (1 + np.exp(-logits))),
)


def to_logits(model: onnx.ModelProto, vocabulary: int, lengths: list[int]) -> str | None:
    """Make logits the output of a model, in place, where it gives scores: SOFTMAX or SIGMOID, else None.

    lengths: of the texts that are tried.
    """
    graph = model.graph
    output = graph.output[0].name
    candidates, nonlinear = _behind(graph, output)
    if not nonlinear or not candidates:
        return None
    try:
        probe = Probe(model, [output, *candidates])
        runs = [probe(random_ids(length, vocabulary)) for length in lengths]
    except (ProbeError, ValueError):
        return None
    for name in candidates:
        for ending, scores in _ENDINGS:
            if all(_gives(scores, run[name], run[output]) for run in runs):
                graph.output[0].CopyFrom(onnx.ValueInfoProto(name=name))
                return ending
    return None


def _behind(graph: onnx.GraphProto, output: str) -> tuple[list[str], bool]:
    """(tensors that the output is made of by parts of a softmax alone, furthest first; whether one of them bends)."""
    makers = {name: node for node in graph.node for name in node.output}
    constants = {t.name for t in graph.initializer}
    found: list[str] = []
    waiting, seen, bends = [output], {output}, False
    while waiting and len(found) < _MOST_PARTS:
        node = makers.get(waiting.pop(0))
        if node is None or node.op_type not in _PARTS:
            continue
        bends = bends or node.op_type in _NONLINEAR
        for name in node.input:
            if name and name not in seen and name not in constants:
                seen.add(name)
                found.append(name)
                waiting.append(name)
    return [name for name in found[::-1] if name in makers], bends


def _gives(scores: Callable[[np.ndarray], np.ndarray], logits: object, output: object) -> bool:
    """Whether the scores of `logits` are the output, of logits that are not all alike."""
    if not isinstance(logits, np.ndarray) or not isinstance(output, np.ndarray):
        return False
    if logits.shape != output.shape or logits.dtype.kind != "f" or logits.ndim == 0:
        return False
    with np.errstate(all="ignore"):
        made = scores(logits.astype(np.float64))
    scale = max(1e-3, float(np.abs(output).max(initial=0)))
    return bool(np.isfinite(made).all() and np.abs(made - output).max(initial=0) <= 1e-5 * scale)
