"""How many rows there are beside others: all of the text's, or a share of them, as a pooling with a stride leaves."""

from __future__ import annotations

from tvm import sym, tirx
from tvm.ir import Var

from embbert_tvm.graph.dataflow import Expr

# Lengths of texts at which numbers of rows are compared, and a long one.
_LENGTHS = (*range(1, 40), 127, 1000, 4097)
_LONG = 1 << 20


def rows_at(rows: Expr | int, length: Var, tokens: int) -> int:
    """So many rows of a text of so many tokens."""
    if isinstance(rows, int):
        return rows
    analyzer = sym.Analyzer()
    analyzer.bind(length, tirx.const(tokens, "int64"))
    return int(analyzer.simplify(rows))


def share_of(rows: Expr | int, fewer: Expr | int, length: Expr | int) -> int | None:
    """N, where there is one of `fewer` for each N of `rows`, the last perhaps for less: 1 where they are as many. None
    where that is not so, and where the text has a length of its own.
    """
    if str(rows) == str(fewer):
        return 1
    if not isinstance(length, Var) or isinstance(rows, int) or isinstance(fewer, int):
        return None
    share = round(rows_at(rows, length, _LONG) / max(1, rows_at(fewer, length, _LONG)))
    fits = share > 1 and all(rows_at(fewer, length, n) == -(-rows_at(rows, length, n) // share) for n in _LENGTHS)
    return share if fits else None
