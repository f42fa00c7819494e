"""A simplified graph as it computes once it is compiled to integers, in PyTorch, one text at a time.

What computes what is the compiler's own answer: the operators of graph/quantize say what they recognise, and each has
its forward pass here, in the integers of docs/quantization.md. Accumulators are whole numbers that float32 holds
exactly; what is left is a rounding that falls the other way now and then, where the integers' multipliers are rounded
themselves. The backward pass takes every rounding for the identity and every clamp for a stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tvm import IRModule
from tvm.ir import Var

from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import observed
from embbert_tvm.graph.dataflow import Dataflow, Expr, channels_first, constant, dtype, is_tensor, op_name
from embbert_tvm.graph.precision import PrecisionPlan
from embbert_tvm.graph.quantize import INT8_OPERATORS
from embbert_tvm.graph.quantize.quantizer import PARTS, Quantizer
from embbert_tvm.graph.quantize.streams import find_streams
from embbert_tvm.kernels.convert import RESCALE_BITS
from embbert_tvm.kernels.fixed_point import rescaled
from embbert_tvm.kernels.low_bits import WeightFormat
from embbert_tvm.training.graph_constants import Origin, Parameters
from embbert_tvm.training.graph_operators import Setting, as_shape, compute
from embbert_tvm.training.rounding import Fits, ScaledIntegers, clamp_to, round_up

# The real value of one step of a tensor with so many steps each way, by the tensor's name and how its range is taken.
Scales = Callable[[str, str, int], float]
_WIDE_LEVELS = 2**14


@dataclass(frozen=True)
class Forward:
    """The forward pass of an operator from its match: int8 rows, int16 rows, float32. The last two where there are
    kernels for them; float32 is None where int8 rows are converted."""

    quantized: Callable[[Run, Expr, Any], ScaledIntegers]
    wide: Callable[[Run, Expr, Any], ScaledIntegers] | None = None
    dequantized: Callable[[Run, Expr, Any], Tensor | None] | None = None


@dataclass
class Network:
    """The graph of a model that is trained: what its constants are made of, and how the plan computes its values.

    operators: the forward pass of each of the compiler's, by the name of its module. twice: values that are read in
    integers and in float32, which are made in integers.
    """

    mod: IRModule
    parameters: Parameters
    plan: PrecisionPlan
    operators: Mapping[str, Forward]
    quantizer: Quantizer = field(init=False)
    observed: frozenset[str] = field(init=False)
    twice: set[Var] = field(default_factory=set)
    _origins: dict[object, Origin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        streams = find_streams(Dataflow(self.mod))
        self.quantizer = Quantizer(self.mod, None, INT8_OPERATORS, self.plan, (), streams)
        self.observed = frozenset(observed(self.mod))
        (ids,) = self.quantizer.graph.function.params
        self.length = ids.ty.shape.values[1]

    @property
    def graph(self) -> Dataflow:
        return self.quantizer.graph

    def origin(self, key: object, value: Callable[[], np.ndarray], where: str) -> Origin:
        """What a constant is made of; the same `key` for the same constant."""
        if key not in self._origins:
            self._origins[key] = self.parameters.origin(value(), where)
        return self._origins[key]

    def forward(self, operator: Any) -> Forward:
        """The forward pass of an operator. Raises InputError for one that has none."""
        name = operator.__name__.rsplit(".", 1)[-1]
        if name not in self.operators:
            raise InputError(f"a {name.replace('_', ' ')} is not trained through its rounding: leave out --precision")
        return self.operators[name]

    @property
    def last_input(self) -> Expr | None:
        """What the product that makes the logits reads, where it is one value."""
        found = self.quantizer.find(self.graph.output)
        terms = getattr(getattr(found[1], "sum", None), "terms", ()) if found is not None else ()
        return terms[0].x if len(terms) == 1 else None


@dataclass
class Weights:
    """The values of a model's parameters by name, with what is made of them once for all texts of a batch."""

    parameter: Callable[[str], Tensor]
    fits: Fits
    _made: dict[object, Any] = field(default_factory=dict)

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


@dataclass
class Run:
    """One text's way through the graph. ids (1, L); scales: None for a run in float32, where nothing is rounded;
    dropout: of attention weights."""

    network: Network
    weights: Weights
    length: int
    ids: Tensor | None = None
    scales: Scales | None = None
    dropout: float = 0.0
    made_rows: dict[Expr, ScaledIntegers] = field(default_factory=dict)
    made_wide: dict[Expr, ScaledIntegers] = field(default_factory=dict)
    made_real: dict[Expr, Any] = field(default_factory=dict)
    computed: set[Var] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.q = self.network.quantizer
        self.graph = self.q.graph
        self.setting = Setting(self.network.length, self.length)

    def constant(self, key: object, value: Callable[[], np.ndarray], where: str) -> Tensor:
        """A constant of the graph, or of what an operator has made of some, from the parameters."""

        def make() -> Tensor:
            origin = self.network.origin(key, value, where)
            if not origin.blocks:
                assert origin.fixed is not None
                fixed = torch.from_numpy(np.ascontiguousarray(origin.fixed))
                return fixed if fixed.is_floating_point() or fixed.dtype == torch.bool else fixed.long()
            parts = [block.tensor(self.weights.parameter) for block in origin.blocks]
            return sum(parts[1:], parts[0]).reshape(origin.shape)

        return self.weights.once(key, make)

    def of_match(self, expr: Expr, role: str, value: np.ndarray) -> Tensor:
        """An array that an operator's match holds, by its role in it."""
        return self.constant((expr.name, role), lambda: np.asarray(value, np.float32), expr.name)

    def scale(self, name: str, method: str | None = None, levels: int = 127) -> float:
        assert self.scales is not None
        return self.scales(name, method or self.network.plan.calibration(name), levels)

    def observed(self, expr: Expr) -> str:
        """The name of the tensor that the range of `expr` is taken from: its own, or of what it is a part of."""
        if expr.name in self.network.observed or op_name(self.graph.producer(expr)) not in PARTS:
            return str(expr.name)
        return self.observed(self.graph.producer(expr).args[0])

    def quantized(self, expr: Expr) -> ScaledIntegers:
        """`expr` in int8, (L, K) or one row (1, K)."""
        if expr not in self.made_rows:
            if expr in self.q.streams:
                wide = self.wide(expr)
                scale = rescaled(wide.scale, self.scale(self.observed(expr)), RESCALE_BITS)[1]
                made = ScaledIntegers(clamp_to(round_up(wide.value * (wide.scale / scale)), 128), scale)
            elif (found := self.q.find(expr)) is not None:
                made = self.network.forward(found[0]).quantized(self, expr, found[1])
            else:
                made = self._rounded(expr, self.scale(self.observed(expr)), 128)
            self.made_rows[expr] = made
        return self.made_rows[expr]

    def wide(self, expr: Expr) -> ScaledIntegers:
        """`expr` in int16."""
        if expr not in self.made_wide:
            if (found := self.q.find(expr)) is not None:
                wide = self.network.forward(found[0]).wide
                assert wide is not None
                made = wide(self, expr, found[1])
            else:
                made = self._rounded(expr, self.wide_scale(self.observed(expr)), 2**15)
            self.made_wide[expr] = made
        return self.made_wide[expr]

    def wide_scale(self, name: str) -> float:
        return self.scale(name, "minmax", _WIDE_LEVELS)

    def dequantized(self, expr: Expr) -> Any:
        """`expr` in its own type and shape."""
        if expr.same_as(self.q.ids):
            return self.ids
        made = self.graph.binding(expr)
        if isinstance(made, Var):
            return self.dequantized(made)
        if expr not in self.made_real:
            self.made_real[expr] = self._real(expr, made)
        return self.made_real[expr]

    def _real(self, expr: Expr, made: Expr) -> Any:
        in_float = self.scales is None or not is_tensor(expr) or dtype(expr) != "float32"
        found = None if in_float else self.q.find(expr)
        if found is None:
            return compute(self.setting, made, expr, lambda arg, place: self._argument(expr, arg, place))
        real = self.network.forward(found[0]).dequantized
        given = real(self, expr, found[1]) if real is not None and expr not in self.network.twice else None
        if given is not None:
            self.computed.add(expr)
            return given
        steps = self.wide(expr) if expr in self.q.streams else self.quantized(expr)
        return as_shape(self.setting, steps.value * steps.scale, expr, channels_first(expr))

    def _argument(self, expr: Expr, arg: Expr, place: int) -> Any:
        if isinstance(arg, Var):
            return self.dequantized(arg)
        return self.constant((expr.name, place), lambda: constant(arg), expr.name)

    def _rounded(self, expr: Expr, scale: float, most: int) -> ScaledIntegers:
        real = self.dequantized(expr)
        rows = real[0].t() if channels_first(expr) else real.reshape(-1, real.shape[-1])
        return ScaledIntegers(clamp_to(round_up(rows / scale), most), scale)

    def weight_format(self, expr: Expr) -> WeightFormat:
        return self.q.weight_format(expr.name)
