"""Running an ONNX graph at chosen lengths to learn what each of its tensors is.

Shape inference knows few of the shapes that exporters compute; a run of a small model knows all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from embbert_tvm.errors import InputError

IDS = "ids"


class ProbeError(InputError):
    """The model does not run at a length."""


def names_read(node: onnx.NodeProto) -> list[str]:
    """What a node reads: its inputs, and what the graphs inside it take from outside them."""
    found = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
            own = {i.name for i in graph.input} | {i.name for i in graph.initializer}
            own |= {name for n in graph.node for name in n.output}
            found += [name for n in graph.node for name in names_read(n) if name not in own]
            found += [o.name for o in graph.output if o.name not in own]
    return found


def live_nodes(graph: onnx.GraphProto, wanted: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that the tensors `wanted` are made by, in order."""
    needed, kept = set(wanted), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(names_read(node))
    return kept[::-1]


class Probe:
    """An ONNX model of one input `ids`, to be run by onnxruntime as it stands."""

    def __init__(self, model: onnx.ModelProto, outputs: Sequence[str] | None = None) -> None:
        """outputs: the tensors to give; by default the model's own outputs."""
        import onnxruntime

        self.outputs = [o.name for o in model.graph.output] if outputs is None else list(outputs)
        asked = onnx.ModelProto()
        asked.CopyFrom(model)
        nodes = live_nodes(model.graph, self.outputs)
        del asked.graph.node[:], asked.graph.output[:]
        asked.graph.node.extend(nodes)
        asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self.outputs)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(
                asked.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a class of its own for every failure
            raise InputError(f"onnxruntime cannot load this ONNX model: {one_line(error)}") from None

    def __call__(self, ids: np.ndarray) -> dict[str, Any]:
        """The tensors by name for ids (1, L). Raises ProbeError where the model does not take them."""
        try:
            found = self._session.run(self.outputs, {IDS: ids.astype(np.int64)})
        except Exception as error:  # likewise
            raise ProbeError(f"onnxruntime cannot run this model on {ids.shape[1]} tokens: {one_line(error)}") from None
        return dict(zip(self.outputs, found, strict=True))

    def runs(self, samples: Iterable[np.ndarray]) -> bool:
        """Whether the model takes all of these ids."""
        try:
            for ids in samples:
                self(ids)
        except ProbeError:
            return False
        return True

    def is_finite(self, ids: np.ndarray) -> bool:
        """Whether what the model gives for these ids holds neither NaN nor an infinity."""
        found = [np.asarray(value) for value in self(ids).values()]
        return all(bool(np.isfinite(value).all()) for value in found if value.dtype.kind == "f")


def one_line(error: Exception) -> str:
    """The last line of an error's text that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def random_ids(length: int, vocabulary: int, seed: int = 0) -> np.ndarray:
    """Token ids (1, length)."""
    return np.random.default_rng([seed, length]).integers(0, vocabulary, (1, length))


def all_equal(values: Mapping[int, np.ndarray]) -> bool:
    """Whether a tensor has one shape and one value at all lengths."""
    first, *others = values.values()
    return all(same(first, other) for other in others)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two tensors are equal, to a few last bits where they are floating point."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind == "f":
        return bool(np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=False))
    return bool(np.array_equal(a, b))
