"""The PrimFuncs that the ONNX importer writes for Pad where a dimension is symbolic: by how much they pad.

Relax's own nn.pad would leave L - 1 + 1 rows, which is not known to be L.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import sym, tirx
from tvm.ir import Call, TensorLoad

from embbert_tvm.graph.dataflow import number


def pad_widths(kernel: tirx.PrimFunc, given: Sequence[Any], made: Sequence[Any]) -> list[tuple[int, int]] | None:
    """(before, after) by axis, where a kernel of tensors of the shapes `given` and `made` pads by zeros; None of
    another kernel, which does not store out[i] = in_bounds(i) ? x[i - before] : 0."""
    store = kernel.body
    while not isinstance(store, tirx.BufferStore):
        store = store.block.body if hasattr(store, "block") else getattr(store, "body", None)
        if store is None:
            return None
    if not isinstance(store.value, Call) or not str(store.value.op.name).endswith("if_then_else"):
        return None
    _, inside, value = store.value.args
    if not isinstance(inside, TensorLoad) or not isinstance(value, tirx.FloatImm) or float(value.value):
        return None
    simplify = sym.Analyzer().simplify
    widths = []
    for i, j, before_pad, after_pad in zip(store.indices, inside.indices, given, made, strict=True):
        before = number(simplify(i - j))
        after = None if before is None else number(simplify(after_pad - before_pad - before))
        if before is None or after is None:
            return None
        widths.append((before, after))
    return widths
