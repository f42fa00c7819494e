"""Models that are quantized already: an ONNX graph with QuantizeLinear and DequantizeLinear is taken at its word.

Every scale and zero point is the file's. A product of dequantized rows with a dequantized matrix is one of integers,
exact in int32, times the product of both scales; what the file dequantizes otherwise is computed in float32, as ONNX
says. Nothing between is rounded that the file does not round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tvm import IRModule, relax, te, tirx
from tvm.ir import Call, Var

from embbert_tvm.errors import InputError
from embbert_tvm.graph.dataflow import Dataflow, Expr, Rebuilder, callee, constant, dtype, op_name, rewrite, shape
from embbert_tvm.graph.names import fingerprint, plain
from embbert_tvm.graph.precision import PrecisionPlan
from embbert_tvm.graph.quantize.quantizer import KERNEL, KernelSelection, Quantized
from embbert_tvm.kernels.epilogues import Dequantize
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.product import Product, ProductInput, product
from embbert_tvm.kernels.specs import spec_of, with_spec
from embbert_tvm.reasons import REQUESTED

_TYPES = ("int8", "uint8", "int16", "uint16", "int32")
# |x - zero| is at most 255 and |weight| 128: so many of their products fit an int32.
_MOST_COLUMNS = 2**31 // (255 * 128) - 1


@dataclass(frozen=True)
class QuantizedConstant:
    """What a constant was before DequantizeLinear: (steps - zero) * scale along `axis`."""

    steps: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    axis: int

    @property
    def dequantized(self) -> np.ndarray:
        """float32, to the bit what DequantizeLinear makes of it."""
        scale, zero = (_along(v, self.axis, self.steps.ndim) for v in (self.scale, self.zero))
        return (self.steps.astype(np.int32) - zero.astype(np.int32)).astype(np.float32) * scale.astype(np.float32)

    @property
    def transposed(self) -> QuantizedConstant:
        """The same steps of the transposed matrix."""
        return QuantizedConstant(np.ascontiguousarray(self.steps.T), self.scale, self.zero, 1 - self.axis)


def _along(value: np.ndarray, axis: int, rank: int) -> np.ndarray:
    if value.size == 1:
        return value.reshape(())
    return value.reshape([-1 if i == axis else 1 for i in range(rank)])


def written(mod: IRModule) -> dict[str, QuantizedConstant] | None:
    """The dequantized constants of an imported module by the fingerprint of their float32; None where nothing is
    quantized. Raises InputError for a type that is not computed."""
    found: dict[str, QuantizedConstant] = {}
    quantized = False
    for var, value in Dataflow(mod).bindings:
        name = op_name(value)
        if name not in ("quantize", "dequantize"):
            continue
        quantized = True
        kind = dtype(var) if name == "quantize" else dtype(value.args[0])
        scale, zero = constant(value.args[1]), constant(value.args[2])
        if kind not in _TYPES or scale is None or zero is None:
            what = f"to {kind}" if kind not in _TYPES else "by a scale or zero point that is not constant"
            raise InputError(f"{var.name}: is quantized {what}: {', '.join(_TYPES)} by constants are computed")
        steps = constant(value.args[0])
        if name == "dequantize" and steps is not None:
            axis = int(value.attrs.axis) % max(steps.ndim, 1)
            one = QuantizedConstant(steps, scale, zero, axis)
            found[fingerprint(one.dequantized)] = one
            if steps.ndim == 2:
                found[fingerprint(np.ascontiguousarray(one.dequantized.T))] = one.transposed
    return found if quantized else None


def _converted(graph: Rebuilder, call: Call, formula: Callable, hint: str) -> Expr:
    """formula(x, scale, zero) of each element; scale and zero are one number each, or one a step of the call's axis."""
    axis = int(call.attrs.axis)
    values = [constant(a) for a in call.args[1:]]

    def made(x: te.Tensor, *vectors: te.Tensor) -> te.Tensor:
        rest = iter(vectors)
        given = [next(rest) if v.size > 1 else tirx.const(v.reshape(-1)[0].item(), str(v.dtype)) for v in values]

        def one(*at):
            return formula(x[at], *(g[at[axis]] if isinstance(g, te.Tensor) else g for g in given))

        return te.compute(x.shape, one, name=hint)

    vectors = [a for a, v in zip(call.args[1:], values, strict=True) if v.size > 1]
    return graph.builder.call_te(made, call.args[0], *vectors, primfunc_name_hint=hint)


def _quantize(graph: Rebuilder, call: Call) -> Expr:
    """QuantizeLinear: saturate(x / scale, rounded to even where between two, + zero)."""
    kind = str(call.attrs.out_dtype)
    low, high = (tirx.const(float(v), "float32") for v in (np.iinfo(kind).min, np.iinfo(kind).max))

    def steps(x, scale, zero):
        level = tirx.nearbyint(x / scale) + zero.astype("float32")
        return tirx.Cast(kind, tirx.Cast("int32", tirx.max(tirx.min(level, high), low)))

    return _converted(graph, call, steps, "quantize_linear")


def _dequantize(graph: Rebuilder, call: Call) -> Expr:
    """DequantizeLinear: (x - zero) * scale in float32."""

    def real(x, scale, zero):
        return tirx.Cast("float32", tirx.Cast("int32", x) - zero.astype("int32")) * scale

    return _converted(graph, call, real, "dequantize_linear")


def _to_int8(graph: Rebuilder, x: Expr, name: str) -> Expr:
    """uint8 as the int8 that is 128 less."""

    def less(x: te.Tensor) -> te.Tensor:
        return te.compute(x.shape, lambda *at: tirx.Cast("int8", tirx.Cast("int32", x[at]) - 128), name="shifted")

    return graph.emit(graph.builder.call_te(less, x, primfunc_name_hint="int8_of_uint8"), f"{name}_int8")


class _AsWritten:
    def __init__(self, constants: dict[str, QuantizedConstant]) -> None:
        self.constants = constants
        self.names: dict[str, str] = {}
        self.products: set[str] = set()

    def steps(self, expr: Expr) -> QuantizedConstant | None:
        value = constant(expr)
        return None if value is None else self.constants.get(fingerprint(value))

    def products_first(self, call: Call, graph: Rebuilder) -> Expr | None:
        """The rule that makes integer products, and reads tables as the integers that they are."""
        name = op_name(call)
        if name == "matmul":
            return self._product(call, graph)
        if name in ("take", "strided_slice"):
            return self._rows_of_table(call, graph)
        return None

    def _rows_of_table(self, call: Call, graph: Rebuilder) -> Expr | None:
        found = self.steps(call.args[0])
        if found is None or found.scale.size > 1 or found.zero.size > 1:
            return None
        rows = Call(call.op, [relax.const(found.steps), *call.args[1:]], call.attrs, call.ty_args)
        made = graph.emit(rows, "table_rows")
        return relax.op.dequantize(made, relax.const(found.scale), relax.const(found.zero), axis=-1)

    def _product(self, call: Call, graph: Rebuilder) -> Expr | None:
        x, found = graph.match(call.args[0], "dequantize"), self.steps(call.args[1])
        if x is None or found is None or found.steps.ndim != 2 or found.zero.any():
            return None
        if dtype(x.args[0]) not in ("int8", "uint8") or found.steps.dtype != np.int8:
            return None
        scale, zero = constant(x.args[1]), constant(x.args[2])
        by_row = found.scale.size > 1 and found.axis != 1
        dims = shape(x.args[0])
        if scale.size > 1 or zero.size > 1 or by_row or any(d != 1 for d in dims[:-2]) or dims[-1] > _MOST_COLUMNS:
            return None
        k, n = found.steps.shape
        offset, rows = int(zero.reshape(-1)[0]), x.args[0]
        if dtype(rows) == "uint8":
            offset, rows = offset - 128, _to_int8(graph, rows, graph.name_of(rows))
        flat = graph.emit(relax.op.reshape(rows, relax.ShapeExpr([dims[-2], k])), "rows") if len(dims) != 2 else rows
        weight = np.ascontiguousarray(found.steps.T)
        bias = (-offset * weight.astype(np.int64).sum(1)).astype(np.int32)
        # The file's scales are float32, and so is each one's product with the other.
        scales = np.broadcast_to(scale.reshape(-1)[0] * found.scale.reshape(-1), (n,)).astype(np.float32)
        one_row = isinstance(dims[-2], int) and dims[-2] == 1
        spec = Product(
            (ProductInput(k, 1 if one_row else None, row=0 if one_row else None),), n, Dequantize(), (), one_row
        )
        func = with_spec(product(spec), spec)
        target = graph.builder.add_func(func, func.attrs[KERNEL])
        constants = [np.ascontiguousarray(v) for v in (weight, bias, scales)]
        out = relax.TensorType([dims[-2], n], "float32")
        made = graph.emit(relax.call_tir(target, [flat, *map(relax.const, constants)], out), "product")
        self.products.add(str(func.attrs[KERNEL]))
        return made if len(dims) == 2 else relax.op.reshape(made, relax.ShapeExpr([*dims[:-1], n]))

    def conversions(self, call: Call, graph: Rebuilder) -> Expr | None:
        """The rule that makes what is left of the file's conversions."""
        name = op_name(call)
        make = {"quantize": _quantize, "dequantize": _dequantize}.get(name)
        return None if make is None else make(graph, call)


def as_written(mod: IRModule, constants: dict[str, QuantizedConstant]) -> Quantized:
    """A simplified module with what its file says of integers. constants: as `written` found them."""
    rules = _AsWritten(constants)
    mod = rewrite(rewrite(mod, rules.products_first), rules.conversions)
    choices, names = [], {}
    for var, value in Dataflow(mod).bindings:
        if not isinstance(value, Call) or isinstance(value, Var):
            continue
        kernel = str(callee(value))
        integers = kernel in rules.products
        precision = "int8" if integers else dtype(var)
        reason = "rows and matrix are integers in the file" if integers else REQUESTED
        choices.append(KernelSelection(var.name, kernel, precision, reason))
        if integers:
            for suffix, arg in zip(("weight", "bias", "scale"), value.args[1].fields[-3:], strict=True):
                names.setdefault(fingerprint(constant(arg)), f"{plain(var.name)}_{suffix}")
    return Quantized(mod, names, tuple(choices), {}, {}, PrecisionPlan("int8"))


def on_isa(quantized: Quantized, isa: Isa) -> Quantized:
    """The products that `as_written` made on the micro-kernels of an instruction set."""
    called: dict[str, str] = {}

    def rule(call: Call, graph: Rebuilder) -> Expr | None:
        kernel = quantized.mod[call.args[0]] if op_name(call) == "call_tir" else None
        spec = None if kernel is None else spec_of(kernel)
        if not isinstance(spec, Product):
            return None
        func = with_spec(product(spec, isa), spec)
        target = graph.builder.add_func(func, func.attrs[KERNEL])
        called[call.args[0].name_hint] = target.name_hint
        return Call(call.op, [target, *call.args[1:]], call.attrs, call.ty_args)

    mod = rewrite(quantized.mod, rule)
    choices = tuple(replace(c, kernel=called.get(c.kernel, c.kernel)) for c in quantized.choices)
    return replace(quantized, mod=mod, choices=choices)
