"""Padding with zeros, read from the PrimFunc that the ONNX importer writes for Pad, and what it says of rows."""

from __future__ import annotations

from tvm import sym, tirx
from tvm.ir import Call, TensorLoad

from embbert_tvm.graph.dataflow import Dataflow, Expr, number, shape


def _zeros_before(func: tirx.PrimFunc) -> list[int] | None:
    """How many zeros stand before the elements of what a PrimFunc pads, by axis: all that it stores is an element of
    its input, so many places before, or 0. None of any other PrimFunc."""
    store = func.body
    while store is not None and not isinstance(store, tirx.BufferStore):
        store = getattr(store, "block", None) or getattr(store, "body", None)
    if store is None or not isinstance(store.value, Call) or len(store.value.args) != 3:
        return None
    _, element, filling = store.value.args
    if not isinstance(element, TensorLoad) or not isinstance(filling, tirx.FloatImm) or filling.value:
        return None
    simplify = sym.Analyzer().simplify
    before = [number(simplify(at - i)) for at, i in zip(store.indices, element.indices, strict=True)]
    return None if None in before else before


def shifted_rows(graph: Dataflow, expr: Expr) -> tuple[Expr, int]:
    """(x, s), where row i of `expr` is row i + s of x (1, L, k), and 0 where x has no such row; at least itself, 0."""
    pad = graph.match(expr, "call_tir")
    if pad is None or not pad.args[0].name_hint.startswith("pad") or len(pad.args[1].fields) != 1:
        return expr, 0
    cut = graph.match(pad.args[1].fields[0], "strided_slice")
    before = _zeros_before(graph.kernel(pad))
    if cut is None or before is None or len(cut.args) != 5 or len(before) != 3:
        return expr, 0
    axes, begin, _, strides = ([number(v) for v in field.fields] for field in cut.args[1:])
    x = cut.args[0]
    alike = [str(d) for d in shape(x)] == [str(d) for d in shape(expr)] and before[::2] == [0, 0]
    if not alike or axes != [1] or strides != [1] or begin[0] is None:
        return expr, 0
    # Rows that are cut off at one end alone, and filled up at the other.
    shift, rows = begin[0] - before[1], shape(pad.args[1].fields[0])[1]
    whole = begin[0] * before[1] == 0 and sym.Analyzer().can_prove_equal(rows + abs(shift), shape(x)[1])
    return (x, shift) if whole else (expr, 0)
