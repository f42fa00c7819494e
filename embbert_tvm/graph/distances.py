"""What scores have added by how far a key lies behind its query: relative positions, as MPNet and T5 have them, and
what queries and keys make of them, as DeBERTa has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embbert_tvm.graph.dataflow import Dataflow, Expr, constant, from_start, number, op_name, shape, transposed_of


def by_distance(graph: Dataflow, expr: Expr) -> np.ndarray | None:
    """The column of M rows' worth of (2M - 1,) numbers, of which `expr` (1, L, L), its first row (1, 1, L) or its first
    column (1, L, 1) has that of j - i + M - 1 at [0, i, j]; None where it is none such."""
    made = graph.producer(expr)
    if op_name(made) == "strided_slice" and _is_first(made):
        made = graph.producer(made.args[0])
    table = constant(made.args[0]) if op_name(made) == "take" else None
    if table is None or table.ndim != 2 or len(table) != 1 or made.attrs.axis is None or int(made.attrs.axis) != 1:
        return None
    index = graph.match(made.args[1], "add")
    if index is None:
        return None
    parts = [_along(graph, part) for part in index.args]
    rows = next((part for part in parts if part is not None and part[0] == 0), None)
    columns = next((part for part in parts if part is not None and part[0] == 1), None)
    if rows is None or columns is None or len(rows[1]) != len(columns[1]):
        return None
    most, (first_row, first_column) = len(rows[1]), (int(rows[1][0]), int(columns[1][0]))
    step = int(columns[1][1]) - first_column if most > 1 else 1
    apart = step * np.arange(most)
    if not (np.array_equal(columns[1], first_column + apart) and np.array_equal(rows[1], first_row - apart)):
        return None
    at = first_row + first_column + step * np.arange(1 - most, most)
    return table[0, np.clip(at, 0, table.shape[1] - 1)]


def _along(graph: Dataflow, expr: Expr) -> tuple[int, np.ndarray] | None:
    """(axis, numbers), where `expr` (L, 1) or (1, L) has the first L of constant numbers along an axis."""
    laid = graph.match(expr, "reshape")
    cut = graph.match(laid.args[0], "strided_slice") if laid is not None else None
    numbers = constant(cut.args[0]) if cut is not None else None
    dims = shape(expr)
    if numbers is None or numbers.ndim != 1 or len(dims) != 2 or 1 not in [d for d in dims if isinstance(d, int)]:
        return None
    if not from_start(cut):
        return None
    return (1 if dims[0] == 1 else 0), numbers


def _is_first(cut) -> bool:
    """Whether a strided_slice of (1, L, L) takes its first row or its first column."""
    axes, *bounds = ([number(v) for v in cut.args[i].fields] for i in (1, 2, 3))
    return axes in ([1], [2]) and bounds == [[0], [1]]


@dataclass(frozen=True)
class Relative:
    """query . of_keys[p] + key . of_queries[p], which a score of up to M rows has added by distance: real (P, width),
    and places (2M - 1,), the p of each distance j - i from 1 - M on."""

    of_keys: np.ndarray
    of_queries: np.ndarray
    places: np.ndarray

    @property
    def most(self) -> int:
        """M."""
        return (len(self.places) + 1) // 2


@dataclass(frozen=True)
class Gathered:
    """Columns of the products of `rows` with a constant (width, n): by distance those of `places` (2M - 1,). of_keys:
    whether the rows are queries', so that the constant stands for keys."""

    rows: Expr
    weight: np.ndarray
    places: np.ndarray
    of_keys: bool


def gathered(graph: Dataflow, expr: Expr) -> Gathered | None:
    """What `expr` (1, L, L), or the first row of such, gathers; None where it is none such."""
    keys = transposed_of(graph, expr)
    taken = graph.match(expr if keys is None else keys, "gather_elements")
    product = graph.match(taken.args[0], "matmul") if taken is not None else None
    weight = constant(product.args[1]) if product is not None else None
    if weight is None or weight.ndim != 2 or int(taken.attrs.axis) not in (-1, 2):
        return None
    places = by_distance(graph, taken.args[1])
    if places is None or places.dtype.kind != "i":
        return None
    return Gathered(product.args[0], weight, places if keys is None else places[::-1], keys is None)


def relative(found: list[Gathered]) -> Relative:
    """What is gathered from queries and from keys, one of each or one alone, by one column of places."""
    tables = {one.of_keys: one for one in found}
    others = {of_keys: tables.get(of_keys, found[0]).places for of_keys in (True, False)}
    used, places = np.unique(np.stack([others[True], others[False]]), axis=1, return_inverse=True)
    weights = [
        tables[of_keys].weight.T[used[row]] if of_keys in tables else np.zeros((used.shape[1], len(found[0].weight)))
        for row, of_keys in enumerate((True, False))
    ]
    return Relative(*weights, places.reshape(-1))
