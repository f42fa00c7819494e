"""Units and offsets for channels that reach far past the others, in the float graph, before it is calibrated.

An int8 tensor has one scale. Where a few channels of a tensor are ten times as large as the rest, as behind the norms
of BERT's kind, the rest is left with few of its steps. Two rewritings that change nothing in float repair that, and
cost nothing where they are computed (the aims of SmoothQuant, arXiv 2211.10438, of Outlier Suppression+, arXiv
2304.09145, and of outlier channel splitting, arXiv 1901.09504):

- Rows of a norm: of each channel the middle of its range is taken off, in the norm's bias, and given back in the biases
  of the matrices and residual sums that read it. Gain and bias of a channel that is still large are divided by a power
  of two, its unit, by which its readers multiply.
- What an activation makes and one matrix multiplies: the large channels go through products of their own, with scales
  of their own, and the results are added.

In such a model the columns of tables that are added up have units as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tvm import IRModule, relax
from tvm.ir import Call, Var

from embbert_tvm.graph.dataflow import NORMS, Dataflow, Expr, constant, op_name, shape, substitute, variables

# A model with a channel whose largest magnitude is so many times the median channel's is rewritten.
OUTLIER = 8.0
# In it the channels past so many times the median are large: of rows of norms and of tables, and of what an activation
# makes.
LARGE_NORM, LARGE_HIDDEN = 2.0, 3.0
# The largest unit: weights that are multiplied by it set the scale of those that share a block of few bits.
MOST_UNIT = 4.0
# Channels that leave an activation's tensor do so by so many, whole words of every kernel; of a wide one by whole
# blocks of weights of few bits, which hold either kind alone then.
GROUP, WIDE_GROUP, WIDE = 16, 64, 512
# Those that grow with what they are given; others have no large channels.
_ACTIVATIONS = ("nn.gelu", "nn.gelu_tanh", "nn.relu", "nn.silu")


@dataclass(frozen=True)
class _Hidden:
    """activation(x @ into + bias) @ out_of, in which nothing else reads the values `inside`, (sum,) activation last."""

    x: Expr
    into: np.ndarray
    bias: np.ndarray | None
    out_of: np.ndarray
    inside: tuple[Var, ...]


def _matrix(value: Expr) -> np.ndarray | None:
    """The constant that `value` multiplies rows by."""
    weight = constant(value.args[1]) if op_name(value) == "matmul" else None
    return weight if weight is not None and weight.ndim == 2 else None


def _hidden(graph: Dataflow, var: Var) -> _Hidden | None:
    made = graph.producer(var)
    if (out_of := _matrix(made)) is None or not isinstance(active := made.args[0], Var) or graph.uses(active) != 1:
        return None
    activation = graph.binding(active)
    if op_name(activation) not in _ACTIVATIONS or graph.uses(inner := activation.args[0]) != 1:
        return None
    product, bias, inside = graph.binding(inner), None, (inner, active)
    if op_name(product) == "add":
        values = [(a, constant(b)) for a, b in (product.args, product.args[::-1])]
        found = next(((a, b) for a, b in values if b is not None and b.shape == (len(out_of),)), None)
        if found is None or graph.uses(found[0]) != 1:
            return None
        bias, inside = found[1], (found[0], *inside)
        product = graph.binding(found[0])
    into = None if product is None else _matrix(product)
    return None if into is None else _Hidden(product.args[0], into, bias, out_of, inside)


def _is_part(value: Expr) -> bool:
    """Whether `value` is some rows of its first argument, whole."""
    if op_name(value) not in ("strided_slice", "take") or constant(value.args[0]) is not None:
        return False
    return (
        len(shape(value)) in (2, 3) and shape(value)[-1] == shape(value.args[0])[-1] and len(shape(value.args[0])) == 3
    )


def _norms(graph: Dataflow) -> list[Var]:
    """The rows of norms that matrices and sums of rows alone read, or some of these rows."""
    readers: dict[Var, list[Var]] = {}
    for var, value in graph.bindings:
        for used in variables(value):
            readers.setdefault(used, []).append(var)

    def fits(var: Var) -> bool:
        found = readers.get(var, [])
        return len(found) == graph.uses(var) > 0 and all(reads(reader, graph.binding(reader), var) for reader in found)

    def reads(made: Var, value: Expr, var: Var) -> bool:
        if _is_part(value):
            return fits(made)
        if _matrix(value) is not None:
            return bool(value.args[0].same_as(var))
        return op_name(value) == "add" and all(
            isinstance(a, Var) and str(shape(a)) == str(shape(var)) for a in value.args
        )

    return [
        var
        for var, value in graph.bindings
        if op_name(value) in NORMS and all(constant(a) is not None for a in value.args[1:]) and fits(var)
    ]


def _tables(graph: Dataflow) -> dict[Var, np.ndarray]:
    """The tables whose rows sums alone read, by the rows."""
    found = {}
    added = Counter(v for _, value in graph.bindings if op_name(value) == "add" for v in variables(value))
    for var, value in graph.bindings:
        table = constant(value.args[0]) if op_name(value) in ("take", "strided_slice") else None
        whole = table is not None and table.ndim == 2 and table.shape[1] == shape(var)[-1] and len(table) > 1
        if whole and added[var] == graph.uses(var) > 0:
            found[var] = table
    return found


def _hiddens(graph: Dataflow) -> dict[Var, _Hidden]:
    found = {var: _hidden(graph, var) for var, value in graph.bindings if op_name(value) == "matmul"}
    return {var: hidden for var, hidden in found.items() if hidden is not None}


def adjustable(mod: IRModule) -> list[str]:
    """The names of the tensors whose channels can be given units, of which `equalize` needs each channel's bounds."""
    graph = Dataflow(mod)
    return [var.name for var in (*_norms(graph), *(h.inside[-1] for h in _hiddens(graph).values()))]


@dataclass(frozen=True)
class _Units:
    """x in units of its own is (x - offset) / unit, by channel."""

    unit: np.ndarray
    offset: np.ndarray

    @property
    def any(self) -> bool:
        return bool((self.unit > 1).any() or self.offset.any())


def _reach(peaks: np.ndarray) -> np.ndarray:
    """Each channel's largest magnitude over the median channel's; 1 of a tensor that is mostly zeros."""
    median = float(np.median(peaks))
    return peaks / median if median > 0 else np.ones_like(peaks)


def _unit(reach: np.ndarray, large: float) -> np.ndarray:
    return np.exp2(np.ceil(np.log2(np.maximum(reach / large, 1.0)))).astype(np.float32)


def _units_of_norm(bounds: np.ndarray, centred: bool) -> _Units:
    """bounds: (2, channels), the least and the largest values; centred: whether the norm has a bias."""
    least, largest = bounds
    middle = (least + largest) / 2 if centred else np.zeros_like(least)
    unit = np.minimum(_unit(_reach(np.maximum(largest - middle, middle - least)), LARGE_NORM), MOST_UNIT)
    return _Units(unit, middle.astype(np.float32))


def _large(reach: np.ndarray) -> np.ndarray | None:
    """The channels to be apart, in order; None where none or too many are large."""
    group = WIDE_GROUP if len(reach) >= WIDE else GROUP
    count = -(-int((reach > LARGE_HIDDEN).sum()) // group) * group
    return np.sort(np.argsort(-reach, kind="stable")[:count]) if 0 < count <= len(reach) // 2 else None


def equalize(mod: IRModule, bounds: Mapping[str, np.ndarray]) -> IRModule:
    """A simplified module whose channels reach about as far as each other, equal in float to `mod`.

    bounds: (2, channels), the least and the largest values by channel of the tensors that `adjustable` names; of a
    model where none of them is an outlier, or nothing is known, `mod` itself. What is in other units has another name.
    """
    graph = Dataflow(mod)
    bounds = {name: np.asarray(found, np.float64) for name, found in bounds.items()}
    reach = {name: _reach(np.abs(found).max(0)) for name, found in bounds.items()}
    if max((float(r.max()) for r in reach.values()), default=0.0) <= OUTLIER:
        return mod
    units = {
        v: _units_of_norm(bounds[v.name], op_name(graph.producer(v)) == "nn.layer_norm")
        for v in _norms(graph)
        if v.name in bounds
    }
    for v, table in _tables(graph).items():
        unit = _unit(_reach(np.abs(table).max(0)), LARGE_NORM)
        units[v] = _Units(unit, np.zeros_like(unit))
    hiddens = {
        var: (hidden, large)
        for var, hidden in _hiddens(graph).items()
        if hidden.inside[-1].name in reach and (large := _large(reach[hidden.inside[-1].name])) is not None
    }
    return _Rewriting(graph, mod, {v: u for v, u in units.items() if u.any}, hiddens).run()


class _Rewriting:
    """`main` anew, binding by binding, with units of norms' rows and with large channels of hidden rows apart."""

    def __init__(self, graph: Dataflow, mod: IRModule, units: dict[Var, _Units], hiddens: dict[Var, tuple]) -> None:
        self.graph, self.units, self.hiddens = graph, units, hiddens
        kernels = {g: f for g, f in mod.functions.items() if g.name_hint != "main"}
        self.builder = relax.BlockBuilder(IRModule(kernels, attrs=mod.attrs))
        self.made: dict[Var, Expr] = {}

    def run(self) -> IRModule:
        inside = {var for hidden, _ in self.hiddens.values() for var in hidden.inside}
        with self.builder.function("main", list(self.graph.function.params), dict(self.graph.function.attrs)):
            with self.builder.dataflow():
                for var, value in self.graph.bindings:
                    if var not in inside:
                        self.made[var] = self._binding(var, value)
                out = self.builder.emit_output(
                    substitute(self.graph.output, self.made), name_hint=self.graph.output.name
                )
            self.builder.emit_func_output(out)
        return self.builder.finalize()

    def _emit(self, expr: Expr, name: str) -> Var:
        return self.builder.emit(expr, name_hint=name)

    def _binding(self, var: Var, value: Expr) -> Expr:
        if var in self.hiddens:
            return self._apart(var, *self.hiddens[var])
        if var in self.units:
            return self._emit(Call(value.op, self._constants(value, self.units[var]), value.attrs), f"{var.name}_even")
        if (weight := _matrix(value)) is not None and value.args[0] in self.units:
            return self._product(value.args[0], weight, var.name)
        if _is_part(value) and value.args[0] in self.units:
            self.units[var] = self.units[value.args[0]]
            return self._emit(substitute(value, self.made), f"{var.name}_even")
        read = {x: self._real(x) for x in variables(value) if x in self.units}
        return self._emit(substitute(value, self.made | read), var.name)

    def _constants(self, value: Call, units: _Units) -> list[Expr]:
        """The arguments of a norm, gain and bias of which are in units; or of a table's rows, the table."""
        found = [substitute(a, self.made) for a in value.args]
        for n, argument in enumerate(value.args):
            constants = constant(argument)
            if constants is not None and constants.shape[-1:] == units.unit.shape:
                offset = units.offset if n == 2 else 0.0
                found[n] = relax.const(((constants - offset) / units.unit).astype(np.float32))
        return found

    def _real(self, x: Var) -> Var:
        units, name = self.units[x], f"{x.name}_real"
        real = self._emit(relax.op.multiply(self.made[x], relax.const(units.unit)), name)
        return self._emit(relax.op.add(real, relax.const(units.offset)), name) if units.offset.any() else real

    def _product(self, x: Expr, weight: np.ndarray, name: str) -> Var:
        units = self.units.get(x)
        if units is None:
            return self._emit(relax.op.matmul(substitute(x, self.made), relax.const(weight)), name)
        in_units = relax.const((weight * units.unit[:, None]).astype(np.float32))
        made = self._emit(relax.op.matmul(substitute(x, self.made), in_units), name)
        if not units.offset.any():
            return made
        bias = (units.offset.astype(np.float64) @ weight.astype(np.float64)).astype(np.float32)
        return self._emit(relax.op.add(made, relax.const(bias)), name)

    def _apart(self, var: Var, hidden: _Hidden, large: np.ndarray) -> Expr:
        """The sum of what the large channels and the others give."""
        others = np.setdiff1d(np.arange(len(hidden.out_of)), large)
        activation, parts = self.graph.binding(hidden.inside[-1]), []
        for kind, channels in (("others", others), ("large", large)):
            names = [f"{v.name}_{kind}" for v in (*hidden.inside, var)]
            rows = self._product(hidden.x, np.ascontiguousarray(hidden.into[:, channels]), names[0])
            if hidden.bias is not None:
                rows = self._emit(relax.op.add(rows, relax.const(hidden.bias[channels])), names[1])
            rows = self._emit(Call(activation.op, [rows], activation.attrs), names[-2])
            parts.append(self._product(rows, hidden.out_of[channels], names[-1]))
        return self._emit(relax.op.add(*parts), var.name)
