"""What a value is the sum of: linear maps, convolutions over time, tables, residual paths and a bias."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from tvm.ir import Call

from embbert_tvm.graph.dataflow import NORMS, Dataflow, Expr, channels_first, constant, op_name, rows_of, shape
from embbert_tvm.graph.pads import shifted_rows

# A table of at most this many rows is looked up in int32, a larger one is a residual input in int8.
_LOOKUP_ROWS = 8


@dataclass(frozen=True)
class Residual:
    """x, a tensor (1, L, n) or rows of a table, times `by`: a number or one a column."""

    x: Expr
    by: np.ndarray | float


@dataclass(frozen=True)
class Window:
    """The rows that a row of a term reads: `after` of them ahead, `dilation` apart (kernels/product.py)."""

    taps: int = 1
    after: int = 0
    dilation: int = 1

    @property
    def reach(self) -> int:
        """Rows from the first to the last."""
        return self.dilation * (self.taps - 1)


@dataclass(frozen=True)
class Term:
    """x (1, L, k) read through a window, times weight (taps * k, n)."""

    x: Expr
    weight: np.ndarray
    window: Window = Window()


@dataclass
class Sum:
    """small_tables: (table (rows, n), ids); bias (n,); all real. skipped: rows at the start that are not made."""

    terms: list[Term] = field(default_factory=list)
    small_tables: list[tuple[np.ndarray, Expr]] = field(default_factory=list)
    residuals: list[Residual] = field(default_factory=list)
    bias: np.ndarray | float = 0.0
    skipped: int = 0


def _collect(graph: Dataflow, expr: Expr, found: Sum, top: bool, by: np.ndarray | float = 1.0) -> bool:
    """Add `by * expr` to a sum: as what it is made of where nothing else reads that, or as a residual input."""
    if not np.any(by):
        return True
    value = constant(expr)
    if value is not None:
        # One number, or one a column: what differs from row to row is no bias.
        if value.size > 1 and (value.ndim == 0 or value.shape[-1] != value.size):
            return False
        found.bias = found.bias + value.reshape(-1) * by
        return True
    made = graph.producer(expr)
    name = op_name(made)
    if not top and _is_residual(graph, expr):
        found.residuals.append(Residual(expr, by))
        return True
    if name == "take" and not top and (table := _small_table(made)) is not None:
        found.small_tables.append((table * by, made.args[1]))
        return True
    if top or graph.uses(expr) == 1:
        if name in ("add", "subtract"):
            signs = (by, by if name == "add" else -by)
            return all(_collect(graph, a, found, False, sign) for a, sign in zip(made.args, signs, strict=True))
        if not (top and name == "negative") and (scaled := _scaled(made)) is not None:
            return _collect(graph, scaled[0], found, False, by * scaled[1])
        if name == "matmul" and (weight := constant(made.args[1])) is not None and weight.ndim == 2:
            found.terms += _parts(graph, made.args[0], weight * by)
            return True
        if name == "permute_dims" and channels_first(made.args[0]) and graph.uses(made.args[0]) == 1:
            term, bias, skipped = _convolution(graph, made.args[0]) or (None, None, None)
            if term is not None and not skipped:
                found.terms.append(Term(term.x, term.weight * by, term.window))
                found.bias = found.bias + bias * by
                return True
    if top and not is_table(graph, made):
        return False
    found.residuals.append(Residual(expr, by))
    return True


def is_table(graph: Dataflow, made: Expr) -> bool:
    """Whether `made` is rows of a large constant table, at the text's ids or from its first."""
    if op_name(made) not in ("take", "strided_slice"):
        return False
    table = constant(made.args[0])
    if table is None or table.ndim != 2 or len(table) <= _LOOKUP_ROWS:
        return False
    return op_name(made) != "take" or (made.attrs.axis == 0 and like_ids(graph, made.args[1]) is not None)


def like_ids(graph: Dataflow, ids: Expr) -> Expr | None:
    """Ids as a product reads them, one a token: the text's own, whatever their shape, or others of that shape."""
    given = graph.function.params[0]
    made = ids
    while op_name(made := graph.producer(made)) in ("reshape", "squeeze", "expand_dims"):
        made = made.args[0]
    if made.same_as(given):
        return given
    alike = constant(ids) is None and [str(d) for d in shape(ids)] == [str(d) for d in shape(given)]
    return ids if alike else None


def _small_table(take: Call) -> np.ndarray | None:
    """The table that a take looks rows up in, where it is one of few rows."""
    table = constant(take.args[0])
    small = table is not None and table.ndim == 2 and constant(take.args[1]) is None
    return table if small and take.attrs.axis is not None and int(take.attrs.axis) == 0 else None


def _scaled(made: Expr) -> tuple[Expr, np.ndarray] | None:
    """(x, c), where `made` is x times a constant, one number or one a column."""
    name = op_name(made)
    if name == "negative":
        return made.args[0], np.array([-1.0])
    if name not in ("multiply", "divide"):
        return None
    left, right = made.args
    for x, factor in ((left, right), (right, left)) if name == "multiply" else ((left, right),):
        value = constant(factor)
        width = shape(x)[-1] if constant(x) is None and shape(x) else None
        if value is None or value.size not in (1, width) or value.size != max(value.shape, default=1):
            continue
        if value.size > 1 and value.shape[-1] != width:
            continue
        flat = value.reshape(-1).astype(np.float64)
        return x, flat if name == "multiply" else 1 / flat
    return None


def _is_residual(graph: Dataflow, expr: Expr) -> bool:
    """Whether `expr` is rows of a norm or of a large table, which are added as they are."""
    made = graph.producer(expr)
    if op_name(made) in ("strided_slice", "take") and constant(made.args[0]) is None:
        made = graph.producer(made.args[0])
    return op_name(made) in NORMS or is_table(graph, made)


def find_sum(graph: Dataflow, expr: Expr, top: bool) -> Sum | None:
    """What `expr` (1, L, n), (L, n) or (1, n) is the sum of; None where it is none, or not of rows as many as its own.
    top: whether `expr` must be a sum to be one, and not what something is to be done with."""
    dims, found = shape(expr), Sum()
    if len(dims) not in (2, 3) or (len(dims) == 3 and dims[0] != 1) or not isinstance(dims[-1], int):
        return None
    if not _collect(graph, expr, found, top) or not (found.terms or found.residuals):
        return None
    if any(len(shape(a.x)) not in (2, 3) or shape(a.x)[-1] != dims[-1] for a in found.residuals):
        return None
    read = [_count(x) for x in (*(term.x for term in found.terms), *(a.x for a in found.residuals))]
    read += [str(shape(ids)[-1]) for _, ids in found.small_tables]
    return found if all(rows == _count(expr) for rows in read) else None


def _count(x: Expr) -> str:
    """How many rows a tensor has, to be compared."""
    return str(shape(x)[-1 if channels_first(x) else -2])


def _parts(graph: Dataflow, x: Expr, weight: np.ndarray) -> list[Term]:
    """x times weight, or where x is a concatenation that nothing else reads, each of its parts times its share; of
    parts that are the same rows at even distances, as MobileBERT's neighbours of a token, one through a window."""
    made = graph.producer(x)
    if op_name(made) != "concat" or graph.uses(x) != 1 or int(made.attrs.axis) % len(shape(x)) != len(shape(x)) - 1:
        return [Term(x, weight)]
    parts = list(made.args[0].fields)
    widths = [shape(part)[-1] for part in parts]
    if any(constant(part) is not None for part in parts) or not all(isinstance(width, int) for width in widths):
        return [Term(x, weight)]
    bounds = np.cumsum([0, *widths])
    shares = [weight[a:b] for a, b in pairwise(bounds)]
    through = _through_window([shifted_rows(graph, part) for part in parts], shares)
    return [Term(part, share) for part, share in zip(parts, shares, strict=True)] if through is None else [through]


def _through_window(parts: list[tuple[Expr, int]], shares: list[np.ndarray]) -> Term | None:
    """One tensor's rows, each as far ahead as said, times their shares of a matrix; None of several tensors."""
    order = sorted(range(len(parts)), key=lambda n: parts[n][1])
    shifts = [parts[n][1] for n in order]
    apart = set(np.diff(shifts).tolist())
    if len(apart) != 1 or 0 in apart or not shifts[0] <= 0 <= shifts[-1] or len({x for x, _ in parts}) > 1:
        return None
    window = Window(len(parts), shifts[-1], apart.pop())
    return Term(parts[0][0], np.concatenate([shares[n] for n in order]), window)


def _convolution(graph: Dataflow, expr: Expr) -> tuple[Term, np.ndarray, int] | None:
    """The term, bias (n,) and rows not made of a convolution over time of all channels, (1, n, L) of (1, k, L)."""
    bias = np.zeros(1)
    if (total := graph.match(expr, "add")) is not None:
        bias, expr = constant(total.args[1]), total.args[0]
        if bias is None or graph.uses(expr) != 1:
            return None
    conv = graph.match(expr, "nn.conv1d")
    weight = constant(conv.args[1]) if conv is not None else None
    if weight is None or int(conv.attrs.groups) != 1 or int(conv.attrs.strides[0]) != 1:
        return None
    (n, k, taps), (before, after) = weight.shape, (int(p) for p in conv.attrs.padding)
    window = Window(taps, after, int(conv.attrs.dilation[0]))
    x, early = conv.args[0], window.reach - before - after
    transposed = graph.match(x, "permute_dims")
    if transposed is not None and [int(a) for a in transposed.attrs.axes] == [0, 2, 1]:
        x = transposed.args[0]
    if bias.size not in (1, n) or early < 0 or after > window.reach or constant(x) is not None or rows_of(x) is None:
        return None
    flat = weight.transpose(2, 1, 0).reshape(taps * k, n)
    return Term(x, flat, window), np.broadcast_to(bias.reshape(-1), (n,)), early


def convolution_sum(graph: Dataflow, expr: Expr) -> Sum | None:
    """What `expr` (1, n, L) is the sum of, where it is a convolution with its bias."""
    found = _convolution(graph, expr)
    return None if found is None else Sum([found[0]], bias=found[1], skipped=found[2])
