"""Which values are made in int16: residual paths that outgrow one int8 scale.

A path that is added to layer after layer grows, while what a layer adds to it stays small. Norms, poolings and further
sums read it as int16; int8 rows for what reads it otherwise are made of it. A sum that is added to something without
having such a path in itself, the embedding under the first residual connection, say, is int16 where no other than those
reads it: then that costs nothing.
"""

from __future__ import annotations

from tvm.ir import Var

from embbert_tvm.graph.dataflow import NORMS, Dataflow, dtype, is_tensor, op_name, variables
from embbert_tvm.graph.quantize import pool, product, row_slice
from embbert_tvm.graph.quantize.sums import Sum

_SUMS = ("add", "subtract")
_POOLING = ("mean", "max", "power", "multiply")  # the first operator of each


def find_streams(graph: Dataflow) -> frozenset[Var]:
    """The values of a graph that are made in int16."""
    readers: dict[Var, list[Var]] = {}
    sums: dict[Var, Sum] = {}
    pooled: set[Var] = set()
    for var, value in graph.bindings:
        for used in dict.fromkeys(variables(value)):
            readers.setdefault(used, []).append(var)
        if is_tensor(var) and dtype(var) == "float32" and (found := product.match(graph, var)) is not None:
            sums[var] = found.sum
        elif (over := pool.match(graph, var)) is not None:
            pooled.add(over.x)
    added = {residual.x for found in sums.values() for residual in found.residuals if isinstance(residual.x, Var)}
    streams: set[Var] = set()

    def kinds(var: Var) -> set[str]:
        """What reads a value: "sum", "wide" (norms, poolings), or "int8"."""
        found = set()
        for reader in readers.get(var, ()):
            name = op_name(graph.producer(reader))
            if row_slice.match(graph, reader) is not None:
                found |= kinds(reader)
            elif name in NORMS or (var in pooled and name in _POOLING):
                found.add("wide")
            else:
                found.add("sum" if name in _SUMS and var in added else "int8")
        return found

    for var, value in graph.bindings:
        if (cut := row_slice.match(graph, var)) is not None:
            streams.update({var} if cut.tensor in streams else ())
            continue
        if op_name(value) not in _SUMS or var not in sums:
            continue
        read_by = kinds(var)
        grows = any(residual.x in streams for residual in sums[var].residuals)
        if ("sum" in read_by and (grows or "int8" not in read_by)) or (grows and read_by == {"wide"}):
            streams.add(var)
    return frozenset(streams)
