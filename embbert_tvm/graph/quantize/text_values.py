"""The values of a float module's tensors on texts: as they are, and with what has been rounded so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tvm
from tvm import IRModule, relax
from tvm.ir import Call, Var

from embbert_tvm.graph.dataflow import Dataflow, Expr, channels_first, shape, substitute, variables
from embbert_tvm.graph.llvm_run import UNOPTIMIZED, llvm_machine
from embbert_tvm.graph.passes.cumsum import call_cumsum
from embbert_tvm.graph.quantize.refit import HELD_OUT, Samples
from embbert_tvm.graph.quantize.sums import Sum

Values = list[np.ndarray]  # of a tensor, one a text


def _no_scale(_: Var) -> float | None:
    return None


class TextValues:
    """The values of `main`'s tensors by text, each made on request of those that are known.

    scale_of: what a step of a tensor of int8 rows is worth, to which its values are rounded; None of one that is not.
    """

    def __init__(
        self, mod: IRModule, texts: Sequence[Sequence[int]], scale_of: Callable[[Var], float | None] = _no_scale
    ) -> None:
        self._graph, self._scale_of = Dataflow(mod), scale_of
        self._kernels = {g: f for g, f in mod.functions.items() if g.name_hint != "main"}
        (self._ids,) = self._graph.function.params
        self._known: dict[Var, Values] = {self._ids: [np.asarray([ids], np.int32) for ids in texts]}
        self._tables: dict[Var, np.ndarray] = {}

    def put(self, var: Var, values: Values) -> None:
        """Say what `var` is, unrounded, whatever makes it."""
        self._known[var] = values

    def put_table(self, rows: Var, table: np.ndarray) -> None:
        """Say what table `rows` are looked up in."""
        self._tables[rows] = table.astype(np.float32)

    def of(self, wanted: Sequence[Var]) -> list[Values]:
        """The values of tensors, rounded where they are int8 rows."""
        if missing := [v for v in dict.fromkeys(wanted) if v not in self._known]:
            self._known |= dict(zip(missing, self._run(missing), strict=True))
        return [[self._rounded(v, value) for value in self._known[v]] for v in wanted]

    def _rounded(self, var: Var, value: np.ndarray) -> np.ndarray:
        if (scale := self._scale_of(var)) is None:
            return value
        return (np.clip(np.rint(value / scale), -128, 127) * scale).astype(np.float32)

    def _run(self, wanted: Sequence[Var]) -> list[Values]:
        """What lies between the known tensors and the wanted ones, run by TVM's LLVM build."""
        needed: set[Var] = set()
        given: dict[Var, Expr] = {}
        waiting = list(wanted)
        while waiting:
            if (var := waiting.pop()) in self._known:
                given[var] = var if var.same_as(self._ids) else relax.Var(var.name, var.ty)
            elif var not in needed:
                needed.add(var)
                waiting += variables(self._graph.binding(var))
        known = [v for v in given if not v.same_as(self._ids)]
        builder = relax.BlockBuilder(IRModule(self._kernels))
        with builder.function("main", [self._ids, *(given[v] for v in known)]):
            with builder.dataflow():
                made = dict(given)
                for var, value in self._graph.bindings:
                    if var in needed:
                        made[var] = self._emit(builder, var, substitute(self._with_table(var, value), made))
                out = builder.emit_output(relax.Tuple([made[v] for v in wanted]))
            builder.emit_func_output(out)
        mod = relax.transform.DeadCodeElimination(["main"])(builder.finalize())
        with tvm.target.Target(UNOPTIMIZED) as target:
            machine = llvm_machine(call_cumsum(mod), target)
        found: list[Values] = [[] for _ in wanted]
        for n, ids in enumerate(self._known[self._ids]):
            arguments = [ids, *(self._rounded(v, self._known[v][n]) for v in known)]
            for values, tensor in zip(found, machine["main"](*map(tvm.runtime.tensor, arguments)), strict=True):
                values.append(tensor.numpy())
        return found

    def _emit(self, builder: relax.BlockBuilder, var: Var, value: Expr) -> Var:
        made = builder.emit(value, name_hint=var.name)
        if (scale := self._scale_of(var)) is None:
            return made
        step = relax.const(np.float32(scale))
        rounded = relax.op.clip(relax.op.round(relax.op.divide(made, step)), -128, 127)
        return builder.emit(relax.op.multiply(rounded, step), name_hint=f"{var.name}_rounded")

    def _with_table(self, var: Var, value: Expr) -> Expr:
        if var not in self._tables:
            return value
        return Call(value.op, [relax.const(self._tables[var]), *value.args[1:]], value.attrs, value.ty_args)


class LayerTexts:
    """What products read and are to give on texts, while a module is quantized from its beginning to its end.

    scale_of: what a step of a tensor of int8 rows is worth, None of one that is not made as int8 rows, or not yet.
    """

    def __init__(self, mod: IRModule, texts: Sequence[Sequence[int]], scale_of: Callable[[Var], float | None]) -> None:
        self._exact, self._rounded = TextValues(mod, texts), TextValues(mod, texts, scale_of)

    def put_table(self, rows: Var, table: np.ndarray) -> None:
        """Note a table as it is rounded."""
        self._rounded.put_table(rows, table)

    def samples(self, inner: Var, found: Sum, scales: Sequence[float]) -> Samples | None:
        """The inputs, in steps of `scales`, of the product that makes `inner` of a sum, and what it is to give; None of
        a convolution."""
        terms = found.terms
        if channels_first(inner) or any(t.window.taps > 1 or channels_first(t.x) for t in terms):
            return None
        exact = self._exact.of([term.x for term in terms])
        counts = [_rows(value).shape[0] for value in exact[0]]
        total = _beside(self._exact, found)
        for term, values in zip(terms, exact, strict=True):
            total = total + _joined(values) @ term.weight.astype(np.float32)
        total = (total + found.bias).astype(np.float32)
        self._exact.put(inner, _parted(total, inner, counts))
        read = self._rounded.of([term.x for term in terms])
        steps = [np.rint(_joined(values) / scale) for values, scale in zip(read, scales, strict=True)]
        held = np.repeat(np.arange(len(counts)) % HELD_OUT == HELD_OUT - 1, counts)
        return Samples(np.concatenate(steps, 1).astype(np.float32), total - _beside(self._rounded, found), held)

    def put(self, inner: Var, found: Sum, samples: Samples, weight: np.ndarray, bias: np.ndarray) -> None:
        """Note a product's rounded weights (n, k) and bias (n,), the inputs' scales folded in."""
        total = samples.x @ weight.T.astype(np.float32) + bias + _beside(self._rounded, found)
        counts = [_rows(value).shape[0] for value in self._rounded.of([found.terms[0].x])[0]]
        self._rounded.put(inner, _parted(total.astype(np.float32), inner, counts))


def _rows(value: np.ndarray) -> np.ndarray:
    return value.reshape(-1, value.shape[-1])


def _joined(values: Values) -> np.ndarray:
    return np.concatenate([_rows(value) for value in values])


def _parted(rows: np.ndarray, var: Var, counts: Sequence[int]) -> Values:
    """(rows of all texts, n) as the values of `var`."""
    parts = np.split(rows, np.cumsum(counts)[:-1])
    return [part[None] if len(shape(var)) == 3 else part for part in parts]


def _beside(values: TextValues, found: Sum) -> np.ndarray | float:
    """What a sum has beside its matrices and its bias, (rows of all texts, n)."""
    total: np.ndarray | float = 0.0
    for residual in found.residuals:
        total = total + _joined(values.of([residual.x])[0]) * residual.by
    for table, ids in found.small_tables:
        total = total + table[np.concatenate([value.reshape(-1) for value in values.of([ids])[0]])]
    return total
