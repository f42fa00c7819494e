"""Which values are made in int16: residual paths that outgrow one int8 scale.

A path that is added to layer after layer grows, while what a layer adds to it stays small. Norms, poolings and further
sums read it as int16; int8 rows for what reads it otherwise are made of it. A sum that is added to something without
having such a path in itself, the embedding under the first residual connection, say, is int16 where no other than those
reads it: then that costs nothing. One that is added to a sum that is added again, with no norm between, begins such a
path whatever else reads it: in MobileBERT, whose norms are a scale and a shift a channel, nothing brings a layer's
states back to one range. The row at the end of a path that maps alone read, they read as int16.

The mean of rows of tables is int16 where linear maps alone read it, as in fastText: such rows are unrelated, so that
the mean of a long text is a fraction of one row, and a few steps of the int8 that holds a short text's.
"""

from __future__ import annotations

from tvm.ir import Var

from embbert_tvm.graph.dataflow import NORMS, Dataflow, constant, dtype, is_tensor, op_name, variables
from embbert_tvm.graph.quantize import pool, product, row_slice
from embbert_tvm.graph.quantize.sums import Sum, is_table

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
    whole = {x: cut.tensor for x in added if (cut := row_slice.match(graph, x)) is not None}
    totals: dict[Var, set[Var]] = {}  # the sums that a value, or a row of it, is added to
    for var, found in sums.items():
        for residual in found.residuals:
            totals.setdefault(whole.get(residual.x, residual.x), set()).add(var)
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

    def for_maps(var: Var) -> bool:
        """Whether a value is one row, which nothing but maps of it alone reads, narrow enough for their products."""
        read_by = readers.get(var, ())
        parts = [reader for reader in read_by if row_slice.match(graph, reader) is not None]
        of_it = [found for found in sums.values() if any(var.same_as(term.x) for term in found.terms)]
        alone = all(_is_map(graph, reader, var) for reader in read_by if reader not in parts)
        fits = product.fits_wide(var) and all(len(found.terms) == 1 for found in of_it)
        return bool(read_by) and fits and alone and all(map(for_maps, parts))

    for var, value in graph.bindings:
        if _is_mean_of_tables(graph, var, sums) and for_maps(var):
            streams.add(var)
            continue
        if (cut := row_slice.match(graph, var)) is not None:
            streams.update({var} if cut.tensor in streams else ())
            continue
        if op_name(value) not in _SUMS or var not in sums:
            continue
        read_by = kinds(var)
        grows = any(residual.x in streams for residual in sums[var].residuals)
        begins = "int8" not in read_by or any(
            _is_sum(graph, total) and total in totals for total in totals.get(var, ())
        )
        if ("sum" in read_by and (grows or begins)) or (grows and (read_by == {"wide"} or for_maps(var))):
            streams.add(var)
    return frozenset(streams)


def _is_mean_of_tables(graph: Dataflow, var: Var, sums: dict[Var, Sum]) -> bool:
    """Whether a value is the mean of rows of tables."""
    over = pool.match(graph, var)
    rows = sums.get(over.x) if over is not None and over.kind == "mean" else None
    return rows is not None and not rows.terms and all(is_table(graph, graph.producer(a.x)) for a in rows.residuals)


def _is_sum(graph: Dataflow, var: Var) -> bool:
    return op_name(graph.producer(var)) in _SUMS


def _is_map(graph: Dataflow, reader: Var, x: Var) -> bool:
    """Whether `reader` is x times a constant matrix."""
    made = graph.match(reader, "matmul")
    return made is not None and made.args[0].same_as(x) and constant(made.args[1]) is not None
