"""Operators in half precision (kernels/half.py) as the stages of a row-block kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm.ir import Var

from embbert_tvm.graph.dataflow import Expr, constant
from embbert_tvm.graph.row_block_call import KernelCall
from embbert_tvm.graph.row_block_graph import Node
from embbert_tvm.kernels.half import HalfAttention, HalfConv, HalfInput, HalfProduct
from embbert_tvm.kernels.isa.mve_fp16 import pack_tiles
from embbert_tvm.kernels.row_block.spec import Gather, HalfAttend, HalfLinear, HalfWindow, Table


def add(call: KernelCall, node: Node) -> None:
    """Add the stages of a node to a kernel."""
    spec = node.half.spec
    if isinstance(spec, HalfProduct):
        _linear(call, node, spec)
    elif isinstance(spec, HalfAttention):
        _attend(call, node)
    else:
        _window(call, node, spec)


@dataclass
class _Arguments:
    """A product's arguments in the order of kernels/half.py."""

    rest: list[Expr]

    def next(self) -> Expr:
        return self.rest.pop(0)

    def source(self, source: HalfInput) -> tuple[HalfInput, Expr, Expr | None]:
        return source, self.next(), self.next() if source.indexed else None


def _linear(call: KernelCall, node: Node, spec: HalfProduct) -> None:
    arguments, sources, weights = _Arguments(list(node.half.args)), [], []
    for source in spec.sources:
        sources.append(_value(call, *arguments.source(source)))
        weight = constant(arguments.next())
        weights.append(call.named(weight, pack_tiles(weight)))
    constants = [*weights, _padded(call, constant(arguments.next()))]
    residuals = [_value(call, *arguments.source(HalfInput(spec.n, rows, True))) for rows in spec.small_tables]
    residuals += [_value(call, *arguments.source(residual)) for residual in spec.residuals]
    value, tensor = call.results(node)
    last = (spec.norm, spec.activation, spec.epsilon)
    # A result that is stored and read on is a value first.
    call.stages.append(HalfLinear(tuple(sources), spec.n, *last, value, None if value is not None else tensor,
                                  tuple(residuals)))  # fmt: skip
    if value is not None:
        call.save(value, tensor)
    call.constants += [*constants, *map(constant, arguments.rest)]


def _value(call: KernelCall, source: HalfInput, data: Expr, ids: Expr | None) -> int:
    """The value of a source: rows of a tensor, or of a table."""
    if isinstance(data, Var) and source.table is None:
        return call.load(data)
    value = call.new_value((source.width,), dtype="float16")
    table = Table(source.table, source.width, ids is not None, dtype="float16")
    call.stages.append(Gather(value, (table,)))
    call.constants += [constant(data), *([] if ids is None else [call.writer.plain_rows(ids)])]
    return value


def _padded(call: KernelCall, vector: np.ndarray) -> np.ndarray:
    return call.named(vector, np.pad(vector, (0, call.isa.padded(len(vector)) - len(vector))))


def _attend(call: KernelCall, node: Node) -> None:
    query, key, value = node.half.args
    loaded, keys, values = call.load(query), call.interleaved_tensor(key), call.interleaved_tensor(value)
    out, number = call.results(node, stores=False)
    call.stages.append(HalfAttend(out, loaded, keys, values))
    call.save(out, number)


def _window(call: KernelCall, node: Node, spec: HalfConv) -> None:
    x, *constants = node.half.args
    source = call.load(x)
    value, number = call.results(node, stores=False)
    call.constants += map(constant, constants)
    call.stages.append(HalfWindow(value, source, spec.taps, spec.channels, spec.expansion, spec.activation))
    call.save(value, number)
