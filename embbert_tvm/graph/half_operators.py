"""Make kernels of half precision of what a plan stores in it, for a CPU that has instructions for it.

Works back from the output as quantization does (graph/quantize/quantizer.py), with the same recognition of operators:
what makes rows is requested in float16 (kernels/half.py), and what has no such kernel stays in float32 arithmetic on
stored halves, with conversions at its borders. The logits' own product stays there too: they are float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tvm import IRModule, relax
from tvm.ir import Call, Var

from embbert_tvm.graph.dataflow import (
    Dataflow,
    Expr,
    channels_first,
    constant,
    dtype,
    from_start,
    is_tensor,
    op_name,
    shape,
    substitute,
    variables,
)
from embbert_tvm.graph.names import fingerprint, plain
from embbert_tvm.graph.quantize import attention, depthwise_conv, product, row_slice
from embbert_tvm.graph.quantize.quantizer import KERNEL, KernelSelection, Quantized
from embbert_tvm.graph.quantize.sums import Window
from embbert_tvm.kernels import half

_OPERATORS = (row_slice, attention, depthwise_conv, product)
_ACTIVATIONS = (None, "silu", "gelu", "relu", "sigmoid", "tanh")


class _Writer:
    def __init__(self, quantized: Quantized) -> None:
        self.quantized = quantized
        self.graph = Dataflow(quantized.mod)
        (self.ids,) = self.graph.function.params
        kernels = {g: f for g, f in quantized.mod.functions.items() if g.name_hint != "main"}
        self.builder = relax.BlockBuilder(IRModule(kernels))
        self.kept = {c.name: c for c in quantized.choices}
        self.names = dict(quantized.constants)
        self.origins = dict(quantized.origins)
        self.choices: list[KernelSelection] = []
        self.specs: dict[str, object] = {}
        self._found: dict[Var, tuple | None] = {}
        self._rows: dict[Var, Expr] = {}
        self._float32: dict[Var, Expr] = {}
        self._head: set[Expr] = set()
        for output in self.graph.outputs:
            if (match := product.match(self.graph, output)) is not None:
                self._leave(output, product.inputs(self.graph, match))

    def _leave(self, expr: Expr, inputs: list[Expr]) -> None:
        """Leave everything from `inputs` to `expr` as it is."""
        if expr in self._head or any(expr.same_as(i) for i in inputs):
            return
        self._head.add(expr)
        for used in variables(self.graph.binding(expr)):
            self._leave(used, inputs)

    def run(self) -> Quantized:
        graph = self.graph
        with self.builder.function("main", [self.ids], dict(graph.function.attrs)):
            with self.builder.dataflow():
                out = self.builder.emit_output(self.in_float32(graph.output), name_hint=graph.output.name)
            self.builder.emit_func_output(out)
        mod = relax.transform.DeadCodeElimination()(self.builder.finalize())
        made = {"choices": tuple(self.choices), "constants": self.names, "origins": self.origins}
        return replace(self.quantized, mod=mod, specs=self.specs, **made)

    def find(self, expr: Expr) -> tuple | None:
        """(operator, match) of what makes `expr` in half precision; None where it stays as it is."""
        if expr not in self._found:
            self._found[expr] = self._recognise(expr)
        return self._found[expr]

    def _recognise(self, expr: Expr) -> tuple | None:
        if not isinstance(expr, Var) or not is_tensor(expr) or dtype(expr) != "float32":
            return None
        if expr in self._head:
            return None
        for operator in _OPERATORS:
            if (match := operator.match(self.graph, expr)) is not None:
                return (operator, match) if self._fits(operator, match, expr) else None
        return None

    def _fits(self, operator, match, expr: Var) -> bool:
        if channels_first(expr):
            return False
        rows = shape(expr)[-2:][0]
        if isinstance(rows, int) and rows != 1:
            return False
        if operator is row_slice:
            return self.find(match.tensor) is not None
        if operator is attention:
            return match.share == 1 and not match.by_distance
        if operator is depthwise_conv:
            known = self._activation(expr, match.inner) in _ACTIVATIONS
            return known and (match.after, match.dilation) == (0, 1) and not channels_first(match.x)
        return self._fits_product(match, expr)

    def _fits_product(self, match: product.Match, expr: Var) -> bool:
        found = match.sum
        whole = all(term.window == Window() and not channels_first(term.x) for term in found.terms)
        plainly = not found.skipped and all(np.all(np.asarray(residual.by) == 1) for residual in found.residuals)
        if match.norm is not None:
            last = all(constant(a) is not None for a in match.norm.args[1:])
        else:
            last = self._activation(expr, match.inner) in _ACTIVATIONS
        return bool(found.terms) and whole and plainly and last

    def in_half(self, expr: Expr) -> Expr:
        """`expr`, of shape (1, L, K), (L, K), (1, K) or (1, 1, K), as float16 (L, K) or (1, K); or, of one row, as a
        tensor whose first row it is."""
        if expr not in self._rows:
            found = self.find(expr)
            if found is None:
                made = self._stored(expr)
            elif found[0] is row_slice:
                made = self.in_half(found[1].tensor)
            else:
                makers = {attention: self._attention, depthwise_conv: self._conv, product: self._product}
                made = makers[found[0]](expr, found[1])
                self.origins.setdefault(made.name, (expr.name, None))
            self._rows[expr] = made
        return self._rows[expr]

    def in_float32(self, expr: Expr) -> Expr:
        """`expr` as the module had it."""
        if not isinstance(expr, Var) or expr.same_as(self.ids):
            return expr
        if isinstance(self.graph.binding(expr), Var):
            return self.in_float32(self.graph.binding(expr))
        if expr not in self._float32:
            self._float32[expr] = self._kept(expr) if self.find(expr) is None else self._widened(expr)
        return self._float32[expr]

    def _kept(self, expr: Var) -> Expr:
        value = self.graph.producer(expr)
        new = substitute(value, {v: self.in_float32(v) for v in variables(value)})
        if not isinstance(new, Call):
            return new
        made = self.builder.emit(new, name_hint=expr.name)
        if expr.name in self.kept:
            self.choices.append(replace(self.kept[expr.name], name=made.name))
        return made

    def _call(self, func, name: str, args: Sequence, out: relax.TensorType, reason: str, spec: object = None) -> Var:
        """Emit the call of a kernel. args: tensors, or (suffix, numpy array) for constants, which are named so."""
        target = self.builder.add_func(func, func.attrs[KERNEL])
        tensors = [relax.const(a[1]) if isinstance(a, tuple) else a for a in args]
        made = self.builder.emit(relax.call_tir(target, tensors, out), name_hint=name)
        for suffix, value in (a for a in args if isinstance(a, tuple)):
            self._name(value, f"{plain(name)}_{suffix}")
        self.choices.append(KernelSelection(made.name, str(func.attrs[KERNEL]), "float16", reason))
        if spec is not None:
            self.specs[made.name] = spec
        return made

    def _name(self, value: np.ndarray, name: str) -> None:
        taken, base, count = set(self.names.values()), name, 2
        while name in taken:
            name, count = f"{base}_{count}", count + 1
        self.names.setdefault(fingerprint(value), name)

    def _type(self, expr: Expr, width: int, one_row: bool) -> relax.TensorType:
        return relax.TensorType([1 if one_row else shape(expr)[-2], width], "float16")

    def _stored(self, expr: Expr) -> Var:
        one_row, width = shape(expr)[-2] == 1, shape(expr)[-1]
        values = self._reshaped(self.in_float32(expr), expr, [1, *shape(expr)[-2:]])
        reason, name = "its consumer is in half precision", f"{plain(expr.name)}_half"
        return self._call(half.to_half(width, one_row), name, [values], self._type(expr, width, one_row), reason)

    def _widened(self, expr: Var) -> Expr:
        dims = [1, *shape(expr)[-2:]]
        func = half.to_float(dims[2], dims[1] == 1)
        reason, out = "its consumer is not in half precision", relax.TensorType(dims, "float32")
        made = self._call(func, f"{plain(expr.name)}_rows", [self.in_half(expr)], out, reason)
        self.origins.setdefault(made.name, (expr.name, None))
        return self._reshaped(made, expr, list(expr.ty.shape.values))

    def _reshaped(self, values: Expr, expr: Expr, dims: list) -> Expr:
        if len(shape(values)) == len(dims):
            return values
        return self.builder.emit(relax.op.reshape(values, relax.ShapeExpr(dims)), name_hint=expr.name)

    def _attention(self, expr: Var, found: attention.Match) -> Var:
        one_row = shape(found.query)[1] == 1
        width = shape(found.value)[-1]
        spec = half.HalfAttention(shape(found.key)[-1], width, one_row)
        args = [self.in_half(x) for x in (found.query, found.key, found.value)]
        name, reason = f"{plain(expr.name)}_attention", "scores, softmax and context in half precision"
        return self._call(half.attention(spec), name, args, self._type(expr, width, one_row), reason, spec)

    def _conv(self, expr: Var, found: depthwise_conv.Match) -> Var:
        channels, taps = found.weight.shape
        one_row, activation = shape(found.x)[1] == 1, self._activation(expr, found.inner)
        spec = half.HalfConv(taps, channels, channels // shape(found.x)[-1], activation, one_row)
        args = [self.in_half(found.x), ("weight", half.halves(found.weight)), ("bias", half.halves(found.bias))]
        reason = "filters along the text in half precision"
        return self._call(half.conv(spec), plain(expr.name), args, self._type(expr, channels, one_row), reason, spec)

    def _activation(self, expr: Var, inner: Expr) -> str | None:
        """The micro-kernel of the activation between `inner` and `expr`, None where there is none."""
        return None if expr.same_as(inner) else op_name(self.graph.producer(expr)).removeprefix("nn.")

    def _product(self, expr: Var, found: product.Match) -> Var:
        one_row, n = shape(expr)[-2] == 1, shape(expr)[-1]
        sources, residuals, args = [], [], []
        for term in found.sum.terms:
            source, read = self._source(term.x)
            sources.append(source)
            args += [*read, ("weight", half.halves(term.weight))]
        args.append(("bias", half.halves(np.broadcast_to(found.sum.bias, (n,)))))
        for table, ids in found.sum.small_tables:
            args += [("embedding_rows", half.halves(table)), self.in_float32(ids)]
        for residual in found.sum.residuals:
            source, read = self._source(residual.x)
            residuals.append(source)
            args += read
        norm = None if found.norm is None else op_name(found.norm).removeprefix("nn.")
        activation = None if norm else self._activation(expr, found.inner)
        epsilon = 0.0
        if norm:
            epsilon = float(found.norm.attrs.epsilon)
            vectors = zip(("gain", "shift"), found.norm.args[1:], strict=False)
            args += [(suffix, half.halves(constant(value))) for suffix, value in vectors]
        small_tables = tuple(len(table) for table, _ in found.sum.small_tables)
        spec = half.HalfProduct(tuple(sources), n, small_tables, tuple(residuals), norm, activation, one_row, epsilon)
        reason = (
            f"{len(sources)} linear map{'s' * (len(sources) > 1)} and {norm or activation or 'bias'} in one product"
        )
        return self._call(half.product(spec), plain(expr.name), args, self._type(expr, n, one_row), reason, spec)

    def _source(self, x: Expr) -> tuple[half.HalfInput, list]:
        """How a product reads `x`, and its arguments."""
        width, made = shape(x)[-1], self.graph.producer(x)
        table = constant(made.args[0]) if op_name(made) in ("take", "strided_slice") else None
        if table is not None and table.ndim == 2 and shape(x)[-2] != 1:
            rows = ("table", half.halves(table))
            ids = made.args[1] if op_name(made) == "take" and made.attrs.axis in (0, None) else None
            if ids is not None and [str(d) for d in shape(ids)] == [str(d) for d in shape(self.ids)]:
                return half.HalfInput(width, len(table), indexed=True), [rows, self.in_float32(ids)]
            if op_name(made) == "strided_slice" and from_start(made):
                return half.HalfInput(width, len(table)), [rows]
        return half.HalfInput(width), [self.in_half(x)]


def half_operators(quantized: Quantized) -> Quantized:
    """A module with its operators that are stored in half precision computed in it, a row at a time."""
    return _Writer(quantized).run()
