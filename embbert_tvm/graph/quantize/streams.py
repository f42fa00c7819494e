"""Which values are made in int16: residual paths that outgrow one int8 scale.

A path that is added to layer after layer grows, while what a layer adds to it stays small. Norms, poolings and further
sums read it as int16; int8 rows for what reads it otherwise are made of it. A sum that is added to something without
having such a path in itself, the embedding under the first residual connection, say, is int16 where no other than those
reads it: then that costs nothing.

The mean of rows of tables is int16 where linear maps alone read it, as in fastText: such rows are unrelated, so that
the mean of a long text is a fraction of one row, and a few steps of the int8 that holds a short text's.
"""

from __future__ import annotations

from tvm.ir import Var

from embbert_tvm.graph.dataflow import NORMS, Dataflow, constant, dtype, is_tensor, op_name, shape, variables
from embbert_tvm.graph.quantize import pool, product, row_slice
from embbert_tvm.graph.quantize.sums import Sum, is_table
from embbert_tvm.kernels.row_product import most_columns

_SUMS = ("add", "subtract")
_MOST_POOLED = most_columns("int16")  # elements of an int16 row whose product with int8 weights is an int32
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
        if _is_mean_of_tables(graph, var, sums) and all(_is_map(graph, reader, var) for reader in readers.get(var, ())):
            streams.add(var)
            continue
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


def _is_mean_of_tables(graph: Dataflow, var: Var, sums: dict[Var, Sum]) -> bool:
    """Whether a value is the mean of rows of tables, narrow enough for the product that reads it alone."""
    over = pool.match(graph, var)
    rows = sums.get(over.x) if over is not None and over.kind == "mean" else None
    if rows is None or rows.terms or not all(is_table(graph, graph.producer(a.x)) for a in rows.residuals):
        return False
    read_by = [found for found in sums.values() if any(var.same_as(term.x) for term in found.terms)]
    return shape(var)[-1] <= _MOST_POOLED and all(len(found.terms) == 1 for found in read_by)


def _is_map(graph: Dataflow, reader: Var, x: Var) -> bool:
    """Whether `reader` is x times a constant matrix."""
    made = graph.match(reader, "matmul")
    return made is not None and made.args[0].same_as(x) and constant(made.args[1]) is not None
