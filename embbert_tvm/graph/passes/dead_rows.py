"""Compute only the rows that are read.

A classifier reads one row of its last layer. The slice that picks it is pushed up through every operator that works
row by row, so that what made the other rows is never computed: through a value with one reader, and through one with
several of which each needs those rows only (a residual path beside its block). It stops at a value that is used
otherwise too, and at operators that mix rows in a way not listed here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import IRModule, relax
from tvm.ir import Call, Var

from embbert_tvm.graph.dataflow import Dataflow, Rebuilder, constant, from_start, op_name, rewrite, shape, variables

_ELEMENTWISE = {
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "nn.silu", "nn.relu", "nn.gelu", "sigmoid",
    "tanh", "exp", "sqrt", "rsqrt", "negative", "abs", "astype",
}  # fmt: skip
# Operators that treat each row of all but the last axis on its own.
_ALONG_LAST_AXIS = {"nn.rms_norm", "nn.layer_norm", "nn.softmax"}


@dataclass(frozen=True)
class _Slice:
    """Rows begin to end - 1 of an axis, counted from the last one: -2 of (1, L, K), -1 of (1, K, L)."""

    axis: int
    begin: int
    end: int


_FIRST = _Slice(-2, 0, 1)


def _reads_first_row(call: Call) -> bool:
    """Whether `call` takes the first row of (1, L, K): no other, as a text may be shorter than its number."""
    if op_name(call) != "take" or call.attrs.axis is None or int(call.attrs.axis) != 1:
        return False
    row = constant(call.args[1])
    dims = shape(call.args[0])
    return row is not None and row.size == 1 and int(row) == 0 and len(dims) == 3 and dims[1] != 1


def _conv_rows(conv: Call, cut: _Slice) -> _Slice | None:
    """The rows of its input that one row of a causal convolution needs."""
    kernel, a = constant(conv.args[1]), conv.attrs
    if kernel is None or int(a.strides[0]) != 1 or int(a.dilation[0]) != 1 or cut.axis != -1:
        return None
    taps = kernel.shape[2]
    if [int(p) for p in a.padding] != [taps - 1, 0] or cut.end - cut.begin != 1:
        return None
    return _Slice(-1, max(0, cut.begin - taps + 1), cut.end)


def _needed(made: Call, cut: _Slice) -> list[_Slice | None] | None:
    """The rows of each operand that rows `cut` of what `made` makes need, None for all; None where all need all."""
    name = op_name(made)
    if name in _ELEMENTWISE:
        return [_broadcast(a, cut) for a in made.args]
    if name in _ALONG_LAST_AXIS and cut.axis == -2:
        return [cut, *[None] * (len(made.args) - 1)]
    if name == "matmul" and cut.axis == -2:
        return [cut, None]
    if name == "gather_elements" and int(made.attrs.axis) in (-1, len(shape(made.args[0])) - 1):
        return [cut if cut.axis == -2 else None, cut]
    if name == "permute_dims" and [int(x) for x in made.attrs.axes] == [0, 2, 1]:
        return [_Slice(-3 - cut.axis, cut.begin, cut.end)]
    if name == "nn.conv1d" and (rows := _conv_rows(made, cut)) is not None:
        return [rows, None]
    return None


def _broadcast(expr: relax.Expr, cut: _Slice) -> _Slice | None:
    """The rows of an elementwise operator's operand: all of one that is broadcast over the sliced axis."""
    dims = shape(expr)
    return None if len(dims) < -cut.axis or dims[cut.axis] == 1 else cut


def _wanted(graph: Dataflow) -> dict[Var, _Slice]:
    """The values of which every reader needs the same few rows."""
    asked: dict[Var, set[_Slice | None]] = {var: {None} for var in variables(graph.output)}
    found: dict[Var, _Slice] = {}
    for var, value in reversed(graph.bindings):
        cuts = asked.get(var, {None})
        (cut,) = cuts if len(cuts) == 1 else (None,)
        if cut is not None:
            found[var] = cut
        if isinstance(value, Var):
            asked.setdefault(value, set()).add(cut)
            continue
        operands = getattr(value, "args", [])
        if isinstance(value, Call) and _reads_first_row(value):
            needed: list[_Slice | None] | None = [_FIRST, None]
        else:
            needed = _needed(value, cut) if isinstance(value, Call) and cut is not None else None
        if needed is None:
            for used in variables(value):
                asked.setdefault(used, set()).add(None)
            continue
        for operand, rows in zip(operands, needed, strict=False):
            for used in variables(operand):
                asked.setdefault(used, set()).add(rows)
    return found


class _Cutter:
    """Makes rows of the values of a graph that is being rebuilt, the same rows of a value once."""

    def __init__(self, wanted: dict[Var, _Slice]) -> None:
        self.wanted = wanted
        self._made: dict[tuple[Var, _Slice], relax.Expr] = {}

    def push(self, expr: relax.Expr, cut: _Slice, graph: Rebuilder) -> relax.Expr:
        """Rows `cut` of `expr`, computed from as few as they need."""
        if not isinstance(expr, Var):
            return self._slice(expr, cut, graph)
        if (expr, cut) not in self._made:
            self._made[expr, cut] = self._push(expr, cut, graph)
        return self._made[expr, cut]

    def _push(self, expr: Var, cut: _Slice, graph: Rebuilder) -> relax.Expr:
        made = graph.producer(expr)
        # A transposition costs nothing twice.
        read_once = graph.single_use(expr) or op_name(made) == "permute_dims"
        if isinstance(made, Call) and (read_once or self.wanted.get(graph.origin(expr)) == cut):
            through = self._through(made, cut, graph)
            if through is not None:
                return graph.emit(through, graph.name_of(expr))
        return self._slice(expr, cut, graph)

    def _through(self, made: Call, cut: _Slice, graph: Rebuilder) -> relax.Expr | None:
        """The rows `cut` of what `made` makes, with the slice on its operands; None where that cannot be."""
        needed = _needed(made, cut)
        if needed is None:
            return None
        pairs = zip(made.args, needed, strict=True)
        args = [a if rows is None else self.push(a, rows, graph) for a, rows in pairs]
        if op_name(made) != "nn.conv1d":
            return Call(made.op, args, made.attrs, made.ty_args)
        # Near the start only the last taps are used.
        kernel, a = constant(made.args[1]), made.attrs
        used = relax.const(kernel[:, :, kernel.shape[2] - (cut.end - needed[0].begin) :])
        layouts = (a.data_layout, a.kernel_layout, a.out_layout)
        return relax.op.nn.conv1d(args[0], used, [1], [0, 0], [1], int(a.groups), *layouts)

    def _slice(self, expr: relax.Expr, cut: _Slice, graph: Rebuilder) -> relax.Expr:
        rank = len(shape(expr))
        made = graph.producer(expr)
        table = constant(made.args[0]) if op_name(made) == "strided_slice" else None
        if table is not None and rank == 2 and cut.axis == -2 and from_start(made):
            return relax.const(table[cut.begin : cut.end])
        sliced = relax.op.strided_slice(expr, [rank + cut.axis], [cut.begin], [cut.end], [1], assume_inbound=True)
        return graph.emit(sliced, f"{graph.name_of(expr)}_slice" if isinstance(expr, Var) else "constant_slice")


def drop_dead_rows(mod: IRModule) -> IRModule:
    cutter = _Cutter(_wanted(Dataflow(mod)))

    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if not _reads_first_row(call):
            return None
        kept = cutter.push(call.args[0], _FIRST, graph)
        return relax.op.take(kept, relax.const(0, "int32"), axis=1, mode="clip")

    return rewrite(mod, rule)
