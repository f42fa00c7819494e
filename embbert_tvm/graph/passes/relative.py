"""Scores of every head that DeBERTa adds to those of queries and keys, and what lies between their heads' axes.

Disentangled attention (arXiv 2006.03654): a query times what stands for the places of keys, a key times what stands for
those of queries. Both are products with constants of which each score gathers one column, by distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Expr, Rebuilder, constant, shape


@dataclass(frozen=True)
class Gathered:
    """Columns `places` (heads, L, L) of rows (heads, L, width) @ weight (heads, width, places), times `factor`;
    transposed: with the last two axes of the whole changed. table (heads, m): what `places` takes from at `index`."""

    rows: Expr
    weight: np.ndarray
    table: np.ndarray
    index: Expr
    transposed: bool
    factor: float = 1.0

    def column(self, head: int) -> np.ndarray:
        """int32 (1, m) of a head."""
        return self.table[head : head + 1]


def unstacked(expr: Expr, graph: Rebuilder) -> Expr:
    """What `expr` is but for an axis of 1 in front, which a reshape takes away or adds."""
    while (made := graph.match(expr, "reshape")) is not None:
        before, after = shape(made.args[0]), shape(expr)
        longer, shorter = (before, after) if len(before) > len(after) else (after, before)
        if len(longer) != 4 or longer[0] != 1 or [str(d) for d in longer[1:]] != [str(d) for d in shorter]:
            break
        expr = made.args[0]
    return expr


def find_gathered(expr: Expr, graph: Rebuilder) -> Gathered | None:
    """What `expr` (heads, L, L) is, where it is such and nothing else reads it."""
    swapped = graph.match(expr, "permute_dims")
    transposed = swapped is not None and [int(a) for a in swapped.attrs.axes] == [0, 2, 1]
    if transposed:
        if not graph.single_use(expr):
            return None
        expr = swapped.args[0]
    taken = graph.match(expr, "gather_elements")
    if taken is None or int(taken.attrs.axis) not in (-1, 2) or not graph.single_use(expr):
        return None
    product, places = graph.match(taken.args[0], "matmul"), _places(taken.args[1], graph)
    weight = constant(product.args[1]) if product is not None else None
    if weight is None or weight.ndim != 3 or places is None or not graph.single_use(taken.args[0]):
        return None
    table = constant(places.args[0])
    if len(table) != len(weight) or table.min() < 0 or table.max() >= weight.shape[2]:
        return None
    return Gathered(product.args[0], weight, table, places.args[1], transposed)


def _places(expr: Expr, graph: Rebuilder) -> Call | None:
    """The take of a table (heads, m) at (L, L) that `expr` is."""
    made = graph.match(expr, "take")
    table = constant(made.args[0]) if made is not None else None
    if table is None or table.ndim != 2 or made.attrs.axis is None or int(made.attrs.axis) != 1:
        return None
    return made if len(shape(made.args[1])) == 2 else None
