"""Sums of linear maps, residual paths and tables, with what follows them: requantization, an activation, a norm, or
float32."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tvm import relax
from tvm.ir import Var

from embbert_tvm.graph.dataflow import (
    NORMS,
    Dataflow,
    Expr,
    channels_first,
    constant,
    from_start,
    op_name,
    rows_of,
    shape,
)
from embbert_tvm.graph.names import plain
from embbert_tvm.graph.quantize.quantizer import Kernel, Quantizer, Rows
from embbert_tvm.graph.quantize.sums import Sum, Term, convolution_sum, find_sum, like_ids
from embbert_tvm.graph.quantize.weights import (
    Channels,
    Epilogue,
    finish,
    low_bit,
    low_bit_table,
    per_channel,
    per_tensor,
    requantize_wide,
    under_activation,
)
from embbert_tvm.kernels import epilogues
from embbert_tvm.kernels.product import RESIDUAL_BITS, Product, ProductInput, product
from embbert_tvm.kernels.row_product import most_columns

# The most that one step of all residuals may be worth, in steps of an accumulator, by their type: their sum is within
# 2^29.
MOST_STEPS = {"int8": 2.0**14, "int16": 2.0**6}
_MOST_WIDE = most_columns("int16")  # elements of an int16 row whose product with int8 weights is an int32


@dataclass(frozen=True)
class Match:
    inner: Expr
    sum: Sum
    norm: object = None


def match(graph: Dataflow, expr: Expr) -> Match | None:
    norm = graph.producer(expr)
    if op_name(norm) in NORMS:
        inner = norm.args[0]
        found = find_sum(graph, inner, top=False)
        return None if found is None else Match(inner, found, norm)
    inner = under_activation(graph, expr)
    bare = expr.same_as(inner)
    found = convolution_sum(graph, inner) if channels_first(expr) else find_sum(graph, inner, top=bare)
    return None if found is None else Match(inner, found)


def reads_wide(streams: frozenset[Var], found: Sum, x: Expr) -> bool:
    """Whether the weights of a product multiply `x`, all that they do, as one int16 row (streams.py)."""
    return x in streams and len(found.terms) == 1 and fits_wide(x)


def fits_wide(x: Expr) -> bool:
    """Whether `x` is one row, narrow enough for weights that multiply it as int16."""
    rows, width = rows_of(x) or (None, 0)
    return rows == 1 and width <= _MOST_WIDE


def inputs(graph: Dataflow, found: Match) -> list[Expr]:
    """What the operator reads; rows of constant tables are its own."""
    read = [*(term.x for term in found.sum.terms), *(a.x for a in found.sum.residuals)]
    made = [graph.producer(x) for x in read]
    tables = [op_name(m) in ("take", "strided_slice") and constant(m.args[0]) is not None for m in made]
    ids = [m.args[1] for m, table in zip(made, tables, strict=True) if table and op_name(m) == "take"]
    values = [x for x, table in zip(read, tables, strict=True) if not table]
    return [*values, *ids, *(ids for _, ids in found.sum.small_tables)]


def precision_source(found: Match) -> None:
    """The plan says how this is computed."""


def weightless(graph: Dataflow, found: Match) -> bool:
    """Whether it adds rows alone that are made elsewhere."""
    only = not (found.sum.terms or found.sum.small_tables) and found.norm is None
    return only and {a.x for a in found.sum.residuals} <= set(inputs(graph, found))


@dataclass(frozen=True)
class _Operand:
    source: ProductInput
    args: list
    scale: float
    name: str = ""
    by: np.ndarray | float | None = None  # of a residual input


def _table(q: Quantizer, user: Expr, x: Expr, table: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, float]:
    """The int8 of a table whose rows `x` the product that makes `user` reads, and their scale. weight: (taps * k, n),
    what multiplies them."""
    weight_format = q.table_format(user.name, x.name)
    if not weight_format.stored:
        return per_tensor(table)
    hessian = None
    if weight is not None and q.compensates and weight_format.bits > 2:
        # A row is read by every tap of a window.
        taps = weight.astype(np.float64).reshape(-1, table.shape[1], weight.shape[1])
        hessian = np.einsum("tkn,tln->kl", taps, taps)
    blocks = low_bit_table(table, weight_format, hessian)
    if q.texts is not None:
        q.texts.put_table(x, blocks.weight * blocks.scale[0])
    return q.keep_blocks(blocks.weight, blocks), float(blocks.scale[0])


def _operand(
    q: Quantizer,
    user: Expr,
    x: Expr,
    wide: bool,
    weight: np.ndarray | None = None,
    by: np.ndarray | float | None = None,
) -> _Operand:
    """How a product reads `x`: a constant table by ids or by position, one row of a tensor, or its rows. wide:
    whether these are int16. by: of a residual."""
    made = q.graph.producer(x)
    name = op_name(made)
    table = constant(made.args[0]) if name in ("take", "strided_slice") else None
    if table is not None and table.ndim == 2:
        steps, scale = _table(q, user, x, table, weight)
        if name == "take" and made.attrs.axis in (0, None) and (ids := like_ids(q.graph, made.args[1])) is not None:
            source = ProductInput(table.shape[1], table.shape[0], indexed=True)
            return _Operand(source, [steps, q.dequantized(ids)], scale, plain(x.name), by)
        if name == "strided_slice" and from_start(made):
            return _Operand(ProductInput(table.shape[1], table.shape[0]), [steps], scale, plain(x.name), by)
    rows = q.wide(x) if wide else q.quantized(x)
    count = shape(rows.expr)[0]
    count = count if isinstance(count, int) else None
    row = 0 if rows.row is None and count == 1 else rows.row
    source = ProductInput(rows_of(x)[1], count, row=row, dtype=rows.dtype)
    return _Operand(source, [rows.expr], rows.scale, by=by)


def _through(operand: _Operand, term: Term) -> _Operand:
    """The operand read through the window of its term."""
    window = term.window
    source = replace(operand.source, taps=window.taps, after=window.after, dilation=window.dilation)
    return replace(operand, source=source)


@dataclass(frozen=True)
class _Inputs:
    """What a product reads: its operands and residuals; its channels; its small tables in their steps."""

    operands: list[_Operand]
    residuals: list[_Operand]
    channels: Channels
    tables: list[np.ndarray]


def _inputs(q: Quantizer, user: Expr, expr: Expr, found: Sum) -> _Inputs:
    operands = [
        _through(_operand(q, user, term.x, reads_wide(q.streams, found, term.x), term.weight), term)
        for term in found.terms
    ]
    residuals = [_operand(q, user, a.x, a.x in q.streams, by=a.by) for a in found.residuals]
    n = rows_of(expr)[1]
    parts = [term.weight.T.astype(np.float64) * o.scale for o, term in zip(operands, found.terms, strict=True)]
    largest = (a.scale * np.abs(a.by).max() / MOST_STEPS[a.source.dtype] for a in residuals)
    finest = len(residuals) * float(max(largest, default=0.0))
    weight = np.concatenate([np.zeros((n, 0)), *parts], axis=1)
    bias, weight_format = np.broadcast_to(found.bias, (n,)), q.weight_format(user.name)
    hessian = _hessian(q, found, operands) if operands else None
    if weight_format.stored and operands:
        samples = None
        if q.texts is not None and hessian is not None:
            samples = q.texts.samples(expr, found, [o.scale for o in operands])
        channels = low_bit(weight, bias, weight_format, hessian, finest, samples)
        if samples is not None:
            by_step = channels.scale[:, None]
            q.texts.put(expr, found, samples, channels.weight * by_step, channels.bias * channels.scale)
        q.keep_blocks(channels.weight, channels.blocks)
    else:
        compressed = any(isinstance(o.args[0], np.ndarray) and q.blocks_of(o.args[0]) for o in operands)
        # Units make the weights of a row uneven, so that 8 bits are few for the small ones of them.
        channels = per_channel(weight, bias, finest, compressed, hessian if q.calibration.bounds else None)
    return _Inputs(operands, residuals, channels, [channels.to_steps(table) for table, _ in found.small_tables])


def _hessian(q: Quantizer, found: Sum, operands: list[_Operand]) -> np.ndarray | None:
    """The second moments of a product's inputs in their steps, those of two operands taken for unrelated. None where
    the weights are to be rounded to the nearest."""
    parts = [q.calibration.second_moments.get(term.x.name) for term in found.terms]
    if not q.compensates or any(part is None for part in parts) or any(term.window.taps > 1 for term in found.terms):
        return None
    widths = [len(part) for part in parts]
    hessian, offsets = np.zeros((sum(widths), sum(widths))), np.cumsum([0, *widths])
    for part, operand, start, end in zip(parts, operands, offsets, offsets[1:], strict=False):
        hessian[start:end, start:end] = part / operand.scale**2
    return hessian


def _emit(q: Quantizer, expr: Expr, found: Match, inputs: _Inputs, last: Epilogue) -> Expr:
    channels, n = inputs.channels, len(inputs.channels.scale)
    sources, residuals = (tuple(o.source for o in group) for group in (inputs.operands, inputs.residuals))
    one_row = any(s.row is not None for s in (*sources, *residuals))
    skipped = found.sum.skipped
    spec = Product(sources, n, last.kind, tuple(len(t) for t in inputs.tables), one_row, residuals, skipped=skipped)
    name = plain(expr.name)
    args: list = []
    names: dict[int, str] = {}

    def add(value, suffix: str = "") -> None:
        if suffix:
            names[len(args)] = suffix
        args.append(value)

    def read(operand: _Operand) -> None:
        if isinstance(operand.args[0], np.ndarray):
            q.name_constant(operand.args[0], f"{operand.name}_table")
        for value in operand.args:
            add(value)

    for operand in inputs.operands:
        read(operand)
    if sources:
        add(channels.weight, "weight")
    add(channels.bias, "bias")
    for steps, (_, ids) in zip(inputs.tables, found.sum.small_tables, strict=True):
        add(steps, "embedding_rows")
        add(q.dequantized(ids))
    for operand in inputs.residuals:
        read(operand)
        factor = operand.scale * operand.by / channels.scale * 2.0**RESIDUAL_BITS
        add(np.rint(factor).astype(np.int32), "residual_factor")
    for value, suffix in zip(last.constants, last.names, strict=True):
        add(value, suffix)
    read_rows = [o.args[0] for o in (*inputs.operands, *inputs.residuals) if o.source.rows is None]
    length = shape(read_rows[0])[0] if read_rows else q.length
    out = ([1 if one_row else spec.rows_made(length), n], last.kind.dtype)
    parts = [f"{len(group)} {what}{'s' * (len(group) > 1)}" for group, what in
             ((sources, "linear map"), (residuals, "residual")) if group]  # fmt: skip
    reason = f"{', '.join(parts)} and {last.kind.name} in one product"
    return q.kernel(Kernel(product(spec), spec), name, args, out, reason, names)


def _norm(q: Quantizer, expr: Expr, found: Match, channels: Channels) -> Epilogue:
    gain = constant(found.norm.args[1]).astype(np.float64)
    n = len(channels.scale)
    centred = op_name(found.norm) == "nn.layer_norm"
    bits = epilogues.NORM_BITS - (epilogues.SHIFT_BITS if centred else 0)
    # `gain` is below one half; a finer scale than that allows is met by a coarser one.
    finest = 2.01 * float(np.abs(gain).max()) * np.sqrt(n) / 2.0**bits
    scale = max(q.calibration.scale(expr.name), finest)
    # The widest channel's factor is just below one half, so t is at most half the accumulator.
    step = float(channels.scale.max()) * 2.01
    epsilon = n * float(found.norm.attrs.epsilon) / step**2
    constants = [
        channels.factor(channels.scale / step),
        np.array([min(max(round(epsilon), 1), 2**31 - 1)], np.int32),
        channels.factor(gain * np.sqrt(n) / scale / 2.0**bits),
    ]
    if not centred:
        return Epilogue(epilogues.RmsNorm(), constants, ("channel_rescale", "epsilon", "gain"), scale)
    offset = constant(found.norm.args[2]).astype(np.float64) / scale + 0.5
    most = 2.0 ** (30 - epilogues.SHIFT_BITS)  # far past what saturates
    constants.append(np.rint(np.clip(offset, -most, most) * 2.0**epilogues.SHIFT_BITS).astype(np.int32))
    return Epilogue(epilogues.LayerNorm(), constants, ("channel_rescale", "epsilon", "gain", "shift"), scale)


def quantized(q: Quantizer, expr: Expr, found: Match) -> Rows:
    inputs = _inputs(q, expr, found.inner, found.sum)
    if found.norm is not None:
        last = _norm(q, expr, found, inputs.channels)
    else:
        last = finish(q.graph, q.calibration, expr, found.inner, inputs.channels)
    return Rows(_emit(q, expr, found, inputs, last), last.scale)


def wide(q: Quantizer, expr: Expr, found: Match) -> Rows:
    inputs = _inputs(q, expr, found.inner, found.sum)
    last = requantize_wide(inputs.channels, q.wide_scale(expr.name))
    return Rows(_emit(q, expr, found, inputs, last), last.scale, dtype="int16")


def dequantized(q: Quantizer, expr: Expr, found: Match) -> Expr | None:
    if found.norm is not None or not expr.same_as(found.inner):
        return None
    inputs = _inputs(q, expr, found.inner, found.sum)
    last = Epilogue(epilogues.Dequantize(), [inputs.channels.scale.astype(np.float32)], ("scale",))
    made = _emit(q, expr, found, inputs, last)
    if len(shape(expr)) == 2:
        return made
    if channels_first(expr):
        rows = q.builder.emit(relax.op.expand_dims(made, 0), name_hint=f"{plain(expr.name)}_rows")
        return q.builder.emit(relax.op.permute_dims(rows, [0, 2, 1]), name_hint=expr.name)
    return q.builder.emit(relax.op.reshape(made, expr.ty.shape), name_hint=expr.name)
