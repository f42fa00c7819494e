"""Walking and rebuilding `main`, a Relax function of one dataflow block in A-normal form."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from tvm import IRModule, relax, tirx
from tvm.ir import Call, GenericConst, Op, PrimType, Tuple, TupleGetItem, TupleType, Var

Expr: TypeAlias = relax.Expr

NORMS = ("nn.rms_norm", "nn.layer_norm")


class Dataflow:
    """The bindings of `main` by variable, with how often each is used.

    Raises ValueError where `main` is more than straight-line code.
    """

    def __init__(self, mod: IRModule) -> None:
        self.function, self._mod = mod["main"], mod
        found = [b for block in self.function.body.blocks for b in block.bindings[:]]
        if any(not isinstance(b, relax.VarBinding) for b in found):
            raise ValueError("main has a match_cast; only straight-line code is compiled")
        self.bindings = [(b.var, b.value) for b in found]
        self.output = self.function.body.body
        self._producer = dict(self.bindings)
        given = self.producer(self.output)
        # Of several, a tuple of them is what is bound last.
        self.outputs: list[Expr] = list(given.fields) if isinstance(given, Tuple) else [self.output]
        self.refused: dict[Var, str] = {}

    @functools.cached_property
    def _uses(self) -> Counter[Var]:
        return Counter(v for value in (*self._producer.values(), self.output) for v in variables(value))

    def producer(self, expr: Expr) -> Expr:
        """What `expr` is bound to, through any chain of plain renamings; `expr` itself for an input."""
        while isinstance(expr, Var) and expr in self._producer:
            expr = self._producer[expr]
        return expr

    def kernel(self, call: Call) -> tirx.PrimFunc:
        """What a call_tir calls."""
        return self._mod[call.args[0]]

    def refuse(self, expr: Expr, reason: str) -> None:
        """Note why an operator that makes `expr` has no kernel; the first reason stays."""
        if isinstance(expr, Var):
            self.refused.setdefault(expr, reason)

    def binding(self, var: Var) -> Expr | None:
        return self._producer.get(var)

    def uses(self, var: Var) -> int:
        return self._uses[var]

    def single_use(self, expr: Expr) -> bool:
        """Whether `expr` is a variable that is used once at most."""
        return isinstance(expr, Var) and self.uses(expr) <= 1

    def match(self, expr: Expr, op: str) -> Call | None:
        """The call of `op` (a Relax operator's name without `relax.`) that makes `expr`, or None."""
        made = self.producer(expr)
        return made if op_name(made) == op else None


def op_name(expr: Expr) -> str | None:
    """`nn.rms_norm` for a call of relax.nn.rms_norm; None for anything that is no operator call."""
    if isinstance(expr, Call) and isinstance(expr.op, Op):
        return str(expr.op.name).removeprefix("relax.")
    return None


def callee(expr: Expr) -> str | None:
    """`op_name`, or the name of the kernel that a call_tir calls."""
    name = op_name(expr)
    return expr.args[0].name_hint if name == "call_tir" else name


def variables(expr: Expr) -> list[Var]:
    """The tensor variables that `expr` reads, one entry a use. Symbolic dimensions are variables too, not these.

    An array of TVM's is copied to a list, which is faster to go through.
    """
    if isinstance(expr, Var):
        return [] if isinstance(expr.ty, PrimType) else [expr]
    if isinstance(expr, Call):
        return [v for a in expr.args[:] for v in variables(a)]
    if isinstance(expr, Tuple):
        return [v for f in expr.fields[:] for v in variables(f)]
    if isinstance(expr, TupleGetItem):
        return variables(expr.tuple_value)
    return []


def constant(expr: Expr) -> np.ndarray | None:
    """The value of a tensor constant, None for anything else."""
    return expr.value.numpy() if isinstance(expr, GenericConst) else None


def shape(expr: Expr) -> list[Any]:
    """The dimensions of a tensor: int where known, a TIR expression where symbolic."""
    return [int(d) if hasattr(d, "value") else d for d in expr.ty.shape.values]


def number(expr: Expr) -> int | None:
    """The value of an element of a shape, a bound or an axis; None where it is symbolic."""
    return int(expr) if isinstance(expr, int) or hasattr(expr, "value") else None


def from_start(cut: Call) -> bool:
    """Whether a strided_slice takes the first so many rows."""
    axes, begins, *strides = ([number(v) for v in arg.fields] for arg in (*cut.args[1:3], *cut.args[4:]))
    return (axes, begins) == ([0], [0]) and strides in ([], [[1]])


def channels_first(expr: Expr) -> bool:
    """Whether a tensor is (1, K, L), the transposed of L rows."""
    dims = shape(expr)
    return len(dims) == 3 and dims[0] == 1 and isinstance(dims[1], int) and not isinstance(dims[2], int)


def transposed_of(graph: Dataflow, expr: Expr) -> Expr | None:
    """(1, K, L) of the (1, L, K) that is made of it, or the other way; None where it is no transposition."""
    call = graph.match(expr, "permute_dims")
    return call.args[0] if call is not None and [int(a) for a in call.attrs.axes] == [0, 2, 1] else None


def rows_of(expr: Expr) -> tuple[Any, ...] | None:
    """(L, K) of a tensor (1, L, K), (L, K) or (1, K, L); (1, K) of one with K elements; None for any other."""
    dims = shape(expr)
    if all(isinstance(d, int) for d in dims) and int(np.prod(dims)) == max(dims, default=1):
        return 1, max(dims, default=1)
    if channels_first(expr):
        return dims[2], dims[1]
    fits = len(dims) == 2 or (len(dims) == 3 and dims[0] == 1)
    return (dims[-2], dims[-1]) if fits and isinstance(dims[-1], int) else None


def dtype(expr: Expr) -> str:
    """The element type of a tensor, or of the first of a tuple of tensors."""
    ty = expr.ty.fields[0] if isinstance(expr.ty, TupleType) else expr.ty
    return str(ty.dtype)


def is_tensor(expr: Expr) -> bool:
    return isinstance(expr.ty, relax.TensorType)


def substitute(expr: Expr, remap: dict[Var, Expr]) -> Expr:
    if isinstance(expr, Var):
        return remap.get(expr, expr)
    if isinstance(expr, Call):
        return Call(expr.op, [substitute(a, remap) for a in expr.args], expr.attrs, expr.ty_args)
    if isinstance(expr, Tuple):
        return Tuple([substitute(f, remap) for f in expr.fields])
    if isinstance(expr, TupleGetItem):
        return TupleGetItem(substitute(expr.tuple_value, remap), expr.index)
    return expr


class _Changes(Exception):
    """A rule that only looks at a graph wants to add to it."""


Rule = Callable[[Call, "Rebuilder"], "Expr | None"]


class Rebuilder:
    """Rebuilds `main` binding by binding, giving each to a rule that may answer with a replacement.

    A rule sees the new graph: `producer` and `match` look through what has been emitted so far.
    """

    def __init__(self, mod: IRModule, params: list[Var] | None = None, names: dict[Var, str] | None = None) -> None:
        self.source = Dataflow(mod)
        kernels = {gv: f for gv, f in mod.functions.items() if gv.name_hint != "main"}
        self.builder = relax.BlockBuilder(IRModule(kernels, attrs=mod.attrs))
        self.params = params or list(self.source.function.params)
        self._names = names or {}
        self._wanted: dict[Var, str] = {}
        self._made: dict[Var, Expr] = {}
        self._origin: dict[Var, Var] = {}
        self._looking = False

    def producer(self, expr: Expr) -> Expr:
        while isinstance(expr, Var) and expr in self._made:
            expr = self._made[expr]
        return expr

    def match(self, expr: Expr, op: str) -> Call | None:
        made = self.producer(expr)
        return made if op_name(made) == op else None

    def single_use(self, expr: Expr) -> bool:
        """Whether a variable of the new graph stands for one that the old graph used once."""
        return isinstance(expr, Var) and self.source.uses(self._origin.get(expr, expr)) <= 1

    def origin(self, expr: Expr) -> Expr:
        """The variable of the old graph that one of the new graph stands for."""
        return self._origin.get(expr, expr)

    def typed(self, call: Call) -> Call:
        """The call with its result type inferred; a rule is given calls whose `ty` is not known yet."""
        return self.builder.normalize(call)

    def name_of(self, var: Var) -> str:
        return self._wanted.get(var, str(var.name))

    def emit(self, expr: Expr, name: str) -> Var:
        if isinstance(expr, Var):
            return expr
        if self._looking:
            raise _Changes
        var = self.builder.emit(expr, name_hint=name)
        self._made[var] = expr
        self._wanted[var] = name
        return var

    def changes(self, rule: Rule) -> bool:
        """Whether the rule replaces anything. It is given the old graph as if it were new."""
        self._looking, self._made = True, dict(self.source.bindings)
        try:
            return any(isinstance(v, Call) and rule(v, self) is not None for _, v in self.source.bindings)
        except _Changes:
            return True
        finally:
            self._looking, self._made = False, {}

    def run(self, rule: Rule) -> IRModule:
        remap: dict[Var, Expr] = dict(zip(self.source.function.params, self.params, strict=True))
        with self.builder.function("main", self.params, dict(self.source.function.attrs)):
            with self.builder.dataflow():
                for var, value in self.source.bindings:
                    new = substitute(value, remap)
                    if isinstance(new, Call):
                        replaced = rule(new, self)
                        new = new if replaced is None else replaced
                    if isinstance(new, TupleGetItem) and isinstance(known := self.producer(new.tuple_value), Tuple):
                        remap[var] = known.fields[int(new.index)]
                        continue
                    if isinstance(new, GenericConst):
                        remap[var] = new
                        continue
                    remap[var] = made = self.emit(new, self._names.get(var, var.name))
                    self._origin[made] = var
                out = self.builder.emit_output(substitute(self.source.output, remap), name_hint=self.source.output.name)
            self.builder.emit_func_output(out)
        mod = relax.transform.DeadCodeElimination()(self.builder.finalize())
        # A value that a rule replaced has left its name to the replacement, which was emitted as name1.
        names = {v: self._wanted[v] for v, _ in Dataflow(mod).bindings if v.name != self._wanted.get(v, v.name)}
        return Rebuilder(mod, names=names).run(keep) if names and not self._names else mod


def summands(graph: Dataflow | Rebuilder, expr: Expr) -> list[Expr]:
    """What `expr` is the sum of, where nothing else reads the sums."""
    total = graph.match(expr, "add")
    if total is None or not graph.single_use(expr):
        return [expr]
    return [part for side in total.args for part in summands(graph, side)]


def keep(call: Call, graph: Rebuilder) -> None:
    """The rule that changes nothing."""


def rewrite(mod: IRModule, rule: Rule) -> IRModule:
    """The module with a rule applied; as it is where the rule replaces nothing."""
    rebuilder = Rebuilder(mod)
    return rebuilder.run(rule) if rebuilder.changes(rule) else mod
