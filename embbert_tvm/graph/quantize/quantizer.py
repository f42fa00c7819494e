"""The driver of quantization.

It works backwards from the output: `quantized` asks for a value as int8 rows, `wide` as int16 rows, `dequantized` for
the same value in float32. The operators in OPERATORS answer for what they recognise, several Relax operators at a time,
unless the plan has that in float; that, and what none of them recognises, stays in float32, with conversions at its
borders.
Nothing is made that is not requested, and no value is computed twice: what is read in two types is made in one and
converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tvm import IRModule, relax, tirx
from tvm.ir import Call, Var

from embbert_tvm.graph.calibrate import Calibration
from embbert_tvm.graph.dataflow import (
    Dataflow,
    Expr,
    callee,
    channels_first,
    dtype,
    is_tensor,
    op_name,
    rows_of,
    shape,
    substitute,
    variables,
)
from embbert_tvm.graph.names import fingerprint, plain
from embbert_tvm.graph.precision import PrecisionPlan, check_names
from embbert_tvm.graph.quantize.low_bits import Blocks
from embbert_tvm.graph.quantize.operator import Operator
from embbert_tvm.graph.quantize.text_values import LayerTexts
from embbert_tvm.graph.tvm_workarounds import abandon_function
from embbert_tvm.kernels import convert
from embbert_tvm.kernels.fixed_point import rescaled
from embbert_tvm.kernels.low_bits import FORMATS, WeightFormat
from embbert_tvm.kernels.specs import with_spec
from embbert_tvm.reasons import MOVED, REQUESTED

KERNEL = "embbert.kernel"
# What gives a part of its first argument, or all of it in another shape.
PARTS = ("take", "strided_slice", "reshape", "squeeze")
MOVES = (*PARTS, "concat", "pad", "permute_dims")


@dataclass(frozen=True)
class Rows:
    """A tensor (L, K), or (1, K), of int8 or int16, worth `expr * scale`. row: only this row of it is meant."""

    expr: Var
    scale: float
    row: int | None = None
    dtype: str = "int8"


@dataclass(frozen=True)
class Kernel:
    """A PrimFunc to call, what it was made from, and the precision that it computes in."""

    func: tirx.PrimFunc
    spec: object = None
    precision: str = "int8"


@dataclass(frozen=True)
class KernelSelection:
    """Which kernel computes an operator, in what precision, and why."""

    name: str
    kernel: str
    precision: str
    reason: str


@dataclass(frozen=True)
class Quantized:
    """The quantized module, the names of its constants by fingerprint, the choice made for each operator, and what
    each kernel was made from, by the name of the value that it makes. origins: by the same name, the value of the float
    module that it stands for, and what one step of it is worth where it is int8. plan: the one that was followed, with
    every operator named. blocks: what weights and tables of fewer than 8 bits are made of, by the fingerprint of their
    int8. unfused: operators of int8 rows that run a row at a time."""

    mod: IRModule
    constants: dict[str, str]
    choices: tuple[KernelSelection, ...]
    specs: dict[str, object]
    origins: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    plan: PrecisionPlan = field(default_factory=PrecisionPlan)
    blocks: dict[str, Blocks] = field(default_factory=dict)
    unfused: tuple[str, ...] = ()


@dataclass
class Quantizer:
    mod: IRModule
    calibration: Calibration | None
    operators: tuple[Operator, ...]
    plan: PrecisionPlan = field(default_factory=PrecisionPlan)
    layers: tuple = ()  # operators of precisions whose rows are float32 between integers
    streams: frozenset[Var] = frozenset()  # what is made in int16 (streams.py)
    shared: frozenset[Var] = frozenset()  # read as rows and in float32: made as rows
    calibration_texts: Sequence[Sequence[int]] = ()  # token ids that weights of fewer than 8 bits are refitted to
    graph: Dataflow = field(init=False)
    constants: dict[str, str] = field(default_factory=dict)
    choices: list[KernelSelection] = field(default_factory=list)
    specs: dict[str, object] = field(default_factory=dict)
    origins: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    blocks: dict[str, Blocks] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.graph = Dataflow(self.mod)
        if self.calibration is not None:
            self.calibration = replace(self.calibration, method=self.plan.calibration)
        self.builder = relax.BlockBuilder(
            IRModule({g: f for g, f in self.mod.functions.items() if g.name_hint != "main"})
        )
        (self.ids,) = self.graph.function.params
        self.length = shape(self.ids)[1]
        self._rows: dict[Var, Rows] = {}
        self._wide: dict[Var, Rows] = {}
        self._computed: set[Var] = set()
        self._dequantized: dict[Var, Expr] = {}
        self._found: dict[Var, tuple | None] = {}
        self._asked: set[Var] = set()
        self._planned: dict[str, str] = {}
        self.texts: LayerTexts | None = None
        if self.calibration_texts:
            self.texts = LayerTexts(self.mod, self.calibration_texts, self._scale_of)

    def run(self) -> Quantized:
        try:
            with self.builder.function("main", [self.ids], dict(self.graph.function.attrs)):
                with self.builder.dataflow():
                    out = self.builder.emit_output(self.dequantized(self.graph.output), name_hint="logits")
                    self.origins["logits"] = (self.graph.outputs[0].name, None)
                self.builder.emit_func_output(out)
        except BaseException:
            abandon_function(self.builder)
            raise
        check_names(self.plan, self._planned, (var.name for var, _ in self.graph.bindings))
        order = {var.name: n for n, (var, _) in enumerate(self.graph.bindings)}
        plan = self.plan.of(dict(sorted(self._planned.items(), key=lambda item: order[item[0]])))
        choices = tuple(self.choices)
        if plan.half:
            choices = tuple(replace(c, precision="float16") if c.precision == "float32" else c for c in choices)
        mod = self.builder.finalize()
        return Quantized(mod, self.constants, choices, self.specs, self.origins, plan, self.blocks)

    @property
    def twice(self) -> frozenset[Var]:
        """What was made as rows and computed in float32, too."""
        return frozenset(v for v in self._computed if v in self._rows or v in self._wide)

    def weight_format(self, name: str) -> WeightFormat:
        """The format of the weights of the operator that makes `name`."""
        return FORMATS[self.plan.weights(name)]

    def table_format(self, name: str, table: str) -> WeightFormat:
        """The format of the table whose rows `table` are read by the operator that makes `name`."""
        return FORMATS[self.plan.tables(name, table)]

    @property
    def compensates(self) -> bool:
        """Whether weights of fewer than 8 bits are rounded by what they multiply (GPTQ), not to the nearest."""
        return self.plan.rounding == "gptq" and bool(self.calibration.second_moments)

    def _scale_of(self, var: Var) -> float | None:
        """What one step of `var` is worth, None where it has not been made as int8 rows."""
        rows = self._rows.get(var)
        return None if rows is None else rows.scale

    def keep_blocks(self, value: np.ndarray, blocks: Blocks) -> np.ndarray:
        """`value`, an int8 constant, after noting what it is made of."""
        self.blocks[fingerprint(value)] = blocks
        return value

    def blocks_of(self, value: np.ndarray) -> Blocks | None:
        return self.blocks.get(fingerprint(value))

    def find(self, expr: Expr) -> tuple | None:
        """(operator, match) of what makes `expr` in integers; None where it stays in float."""
        if expr not in self._found:
            self._found[expr] = None if expr in self._asked else self._recognise(expr)
        return self._found[expr]

    def _recognise(self, expr: Expr) -> tuple | None:
        for operator in self.operators:
            if (match := operator.match(self.graph, expr)) is None:
                continue
            source = operator.precision_source(match)
            if source is not None:
                if (made := self.find(source)) is not None and made[0] in self.operators:
                    return operator, match
                self._asked.update({expr} if source in self._asked else ())
                return None
            if self._beside_float(operator, match):
                return None
            precision = self.plan.precision(expr.name)
            if precision.by_layers:
                break
            self._planned[expr.name] = precision.name
            if not precision.is_float:
                return operator, match
            self._keep(expr, operator.inputs(self.graph, match))
            return None
        precision = self.plan.precision(expr.name)
        for layer in self.layers if precision.by_layers else ():
            if (match := layer.match(self.graph, expr)) is not None:
                self._planned[expr.name] = precision.name
                return layer, match
        return None

    def _beside_float(self, operator: Operator, match: Any) -> bool:
        """Whether an operator without weights reads float32 alone, which 8 bits would only make coarser: the variance
        of a norm that is written out was the difference of two such."""
        weightless = getattr(operator, "weightless", None)
        if weightless is None or not weightless(self.graph, match):
            return False
        return not any(self.find(x) for x in operator.inputs(self.graph, match))

    def _keep(self, expr: Expr, inputs: list[Expr]) -> None:
        """Leave everything from `inputs` to `expr` in float, as requested."""
        if expr in self._asked or any(expr.same_as(i) for i in inputs):
            return
        self._asked.add(expr)
        for used in variables(self.graph.producer(expr)):
            self._keep(used, inputs)

    def quantized(self, expr: Expr) -> Rows:
        """`expr`, of shape (1, L, K), (L, K) or (1, K), as int8 rows."""
        if expr in self._rows:
            return self._rows[expr]
        if expr in self.streams:
            made = self._narrowed(expr)
        elif (found := self.find(expr)) is not None:
            operator, match = found
            made = operator.quantized(self, expr, match)
        else:
            made = self.quantize_float(expr)
        self._rows[expr] = made
        if made.row is None or shape(made.expr)[0] == 1:
            self.origins.setdefault(made.expr.name, (expr.name, made.scale))
        return made

    def wide(self, expr: Expr) -> Rows:
        """`expr`, one of `streams`, as int16 rows."""
        if expr not in self._wide:
            if (found := self.find(expr)) is not None:
                operator, match = found
                made = operator.wide(self, expr, match)
            else:
                made = self.quantize_float(expr, "int16")
            self._wide[expr] = made
            if made.row is None or shape(made.expr)[0] == 1:
                self.origins.setdefault(made.expr.name, (expr.name, made.scale))
        return self._wide[expr]

    def dequantized(self, expr: Expr) -> Expr:
        """`expr` in its own type: float32, or the int32 and bool of bookkeeping on ids."""
        if not isinstance(expr, Var) or expr.same_as(self.ids):
            return expr
        if isinstance(self.graph.binding(expr), Var):
            return self.dequantized(self.graph.binding(expr))
        if expr in self._dequantized:
            return self._dequantized[expr]
        found = self.find(expr) if is_tensor(expr) and dtype(expr) == "float32" else None
        if found is None:
            made = self._kept(expr)
        elif expr in self.shared or (made := found[0].dequantized(self, expr, found[1])) is None:
            made = self._dequantize_rows(expr)
        elif found[0] in self.operators:
            self._computed.add(expr)
        self._dequantized[expr] = made
        if isinstance(made, Var) and is_tensor(expr) and dtype(expr) == "float32":
            self.origins.setdefault(made.name, (expr.name, None))
        return made

    def kernel(self, kernel: Kernel, name: str, args: list, out: tuple, reason: str, names: dict | None = None) -> Var:
        """Emit a call of a kernel. out: (shape, dtype). args: tensors, or numpy arrays for constants, which are named
        after `name` and `names` (index of the argument -> suffix)."""
        tensors = [relax.const(a) if isinstance(a, np.ndarray) else a for a in args]
        called = str(kernel.func.attrs[KERNEL])
        target = self.builder.add_func(with_spec(kernel.func, kernel.spec), called)
        call = relax.call_tir(target, tensors, relax.TensorType(out[0], out[1]))
        made = self.builder.emit(call, name_hint=name)
        for index, suffix in (names or {}).items():
            self.name_constant(args[index], f"{made.name}_{suffix}")
        self.choices.append(KernelSelection(made.name, called, kernel.precision, reason))
        self.specs[made.name] = kernel.spec
        return made

    def name_constant(self, value: np.ndarray, name: str) -> None:
        """Name a constant of the C; the first name that is given to a content stays."""
        taken, base, count = set(self.constants.values()), name, 2
        while name in taken:
            name, count = f"{base}_{count}", count + 1
        self.constants.setdefault(fingerprint(value), name)

    def _kept(self, expr: Var) -> Expr:
        value = self.graph.producer(expr)
        remap = {v: self.dequantized(v) for v in variables(value)}
        if not isinstance(value, Call):
            return substitute(value, remap)
        name = str(callee(value))
        made = self.builder.emit(substitute(value, remap), name_hint=expr.name)
        if dtype(expr) != "float32":
            reason = "arithmetic on token ids"
        elif expr in self._asked or self.plan.precision(expr.name).activations != "int8":
            reason = REQUESTED
        elif name in MOVES and self._computed.issuperset(variables(value)):
            reason = MOVED
        else:
            refused = self.graph.refused.get(expr)
            why = " with these operands" if refused is None else f": {refused}"
            reason = f"no int8 kernel takes {name}{why}"
        self.choices.append(KernelSelection(made.name, name, dtype(expr), reason))
        return made

    def wide_scale(self, name: str) -> float:
        """The real value of one step of an int16 tensor: it reaches to twice what calibration has seen."""
        return replace(self.calibration, method=lambda tensor: "minmax").scale(name, 2**14)

    def quantize_float(self, expr: Var, dtype: str = "int8") -> Rows:
        """The float32 of `expr` as int8 or int16 rows."""
        rows, width = rows_of(expr)
        observed = self._observed(expr).name
        scale = self.calibration.scale(observed) if dtype == "int8" else self.wide_scale(observed)
        inverse = np.array([1 / scale], np.float32)
        name = f"{plain(expr.name)}_quantized"
        real = self.dequantized(expr)
        if channels_first(expr):
            real = self.builder.emit(relax.op.permute_dims(real, [0, 2, 1]), name_hint=f"{plain(expr.name)}_rows")
        elif len(shape(expr)) == 2 or shape(expr)[-1] != width:
            real = self.builder.emit(relax.op.reshape(real, (1, rows, width)), name_hint=expr.name)
        args = [real, inverse]
        reason = f"its consumer is {dtype}"
        made = self.kernel(
            Kernel(convert.quantize(width, dtype)), name, args, ([rows, width], dtype), reason, {1: "inverse_scale"}
        )
        return Rows(made, scale, 0 if rows == 1 else None, dtype)

    def _narrowed(self, expr: Var) -> Rows:
        """The int16 rows of `expr` as int8."""
        wide = self.wide(expr)
        count, width = shape(wide.expr)
        spec = convert.Rescale(width, wide.row if count != 1 else None)
        wanted = self.calibration.scale(self._observed(expr).name)
        factor, scale = rescaled(wide.scale, wanted, convert.RESCALE_BITS)
        out = ([1 if wide.row is not None else count, width], "int8")
        name = f"{plain(expr.name)}_rescaled"
        reason = "an int16 path that int8 rows are made of"
        made = self.kernel(
            Kernel(convert.rescale(spec), spec), name, [wide.expr, factor], out, reason, {1: "multiplier"}
        )
        return Rows(made, scale, None if wide.row is None else 0)

    def _observed(self, expr: Var) -> Expr:
        """What the range of `expr` is taken from: itself, or the tensor that it is a part of."""
        if expr.name in self.calibration.tensors or op_name(self.graph.producer(expr)) not in PARTS:
            return expr
        return self._observed(self.graph.producer(expr).args[0])

    def _dequantize_rows(self, expr: Var) -> Expr:
        rows = self.wide(expr) if expr in self.streams else self.quantized(expr)
        count, width = rows_of(expr)
        name = f"{plain(expr.name)}_dequantized"
        steps = rows.expr
        if rows.row is not None:
            cut = relax.op.strided_slice(steps, [0], [rows.row], [rows.row + 1], assume_inbound=True)
            steps = self.builder.emit(cut, name_hint=f"{plain(expr.name)}_row")
        args = [steps, np.array([rows.scale], np.float32)]
        out = ([1, count, width], "float32")
        made = self.kernel(
            Kernel(convert.dequantize(width, rows.dtype)), name, args, out, "its consumer is float32", {1: "scale"}
        )
        if channels_first(expr):
            return self.builder.emit(relax.op.permute_dims(made, [0, 2, 1]), name_hint=name)
        if [str(d) for d in shape(expr)] == [str(d) for d in out[0]]:
            return made
        return self.builder.emit(relax.op.reshape(made, expr.ty.shape), name_hint=name)
