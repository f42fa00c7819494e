"""Loops over elements, each of which comes of those of its place: what TVM makes of operators that have no kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.ir import TensorLoad, Var
from tvm.tirx.buffer import BufferType

from embbert_tvm.codegen.c_expressions import PROMOTED, Expressions
from embbert_tvm.codegen.slices import top_statements

_SUMS_AND_PRODUCTS = (tirx.Add, tirx.Sub, tirx.Mul)
_COMPARISONS = (tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.EQ)


@dataclass(frozen=True)
class Elements:
    """The one loop of a function. target: the parameter that it writes; value: what of, at its variable."""

    target: Var
    value: Any
    params: tuple[Var, ...]  # that are buffers, in order
    root: Callable[[Var], Var]  # the parameter that a buffer of the function is

    def equation(self, names: Sequence[str]) -> str:
        """What it computes, of whole tensors. names: of the parameters."""
        named = dict(zip(self.params, names, strict=True))
        written = Expressions(lambda buffer: named[self.root(buffer)], lambda buffer: True)
        return f"{named[self.target]} = {written(self.value)}"


def elements_of(func: tirx.PrimFunc, root: Callable[[Var], Var]) -> Elements | None:
    """The loop of a lowered PrimFunc that is nothing else and has an equation; None of any other."""
    parts = [part for part in top_statements(func) if not isinstance(part, tirx.DeclBuffer)]
    if len(parts) != 1 or not isinstance(parts[0], tirx.For):
        return None
    (loop,) = parts
    store = loop.body
    if not isinstance(loop.extent, (tirx.IntImm, Var)) or not isinstance(store, tirx.BufferStore):
        return None
    nodes = list(_nodes(store.value))
    loads = [node for node in nodes if isinstance(node, TensorLoad)]
    if not all(_is_at(place.indices, loop.loop_var) for place in (store, *loads)):
        return None
    if not all(map(_is_written, nodes)) or sum(isinstance(node, _COMPARISONS) for node in nodes) > 1:
        return None
    params = tuple(param for param in func.params if isinstance(param.ty, BufferType))
    named = {root(buffer) for buffer in (store.buffer, *(load.source for load in loads))}
    return Elements(root(store.buffer), store.value, params, root) if named == set(params) else None


def _is_at(indices: Any, var: Var) -> bool:
    return len(indices) == 1 and isinstance(indices[0], Var) and indices[0].same_as(var)


def _is_written(node: Any) -> bool:
    """Whether equations have it: of conversions, those of truth values alone, which C does unasked."""
    if isinstance(node, tirx.Cast):
        return str(node.value.ty.dtype) == "bool"
    if isinstance(node, _SUMS_AND_PRODUCTS):
        return str(node.ty.dtype) not in PROMOTED
    return isinstance(node, (TensorLoad, tirx.IntImm, *_COMPARISONS))


def _nodes(expr: Any) -> Iterator[Any]:
    """An expression and those that it is made of, but for indices."""
    yield expr
    for part in ("a", "b") if isinstance(expr, (*_SUMS_AND_PRODUCTS, *_COMPARISONS)) else ():
        yield from _nodes(getattr(expr, part))
    if isinstance(expr, tirx.Cast):
        yield from _nodes(expr.value)
