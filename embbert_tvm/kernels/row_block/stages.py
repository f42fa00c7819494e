"""The stages of a row-block kernel: for each its parameters, what it sets up once, and what it does to a block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, i32, length, loop, store
from embbert_tvm.kernels.epilogues import Activate, Dequantize, LayerNorm, Requantize, RequantizeWide, RmsNorm
from embbert_tvm.kernels.fixed_point import multiply_high, saturate_wide
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.isa.base import Added
from embbert_tvm.kernels.isa.destination import Destination
from embbert_tvm.kernels.isa.norm import Norm
from embbert_tvm.kernels.layouts import LOOKUP
from embbert_tvm.kernels.low_bits import COMPRESSED, UNCOMPRESSED, CompressedVector, constants, widened
from embbert_tvm.kernels.product import RESIDUAL_BITS
from embbert_tvm.kernels.row_block import weights
from embbert_tvm.kernels.row_block.scratch import dot_columns, temporary, width
from embbert_tvm.kernels.row_block.spec import (
    Gather,
    Linear,
    Load,
    Parts,
    Reach,
    RowBlock,
    Save,
    Stage,
    Table,
    Unfold,
)
from embbert_tvm.kernels.row_block.table_read import TableRead, declare_table

if TYPE_CHECKING:
    from embbert_tvm.kernels.row_block.kernel import BlockContext


@singledispatch
def label(stage: Stage, spec: RowBlock) -> str:
    """What a stage adds to the kernel's name; nothing for what only moves rows."""
    return ""


@singledispatch
def declare(stage: Stage, spec: RowBlock, isa: Isa):
    """Declare a stage's own parameters; what `prepare` and `emit` take."""


@singledispatch
def prepare(stage: Stage, declared, block: BlockContext):
    """What is set up once, before the first block."""
    return declared


@singledispatch
def emit(stage: Stage, number: int, arguments, block: BlockContext) -> None:
    """The stage on one block."""
    raise NotImplementedError(type(stage).__name__)


@singledispatch
def finish(stage: Stage, arguments, block: BlockContext) -> None:
    """What is left to do after the last block."""


# Load and Save.


@emit.register(Load)
def _(stage: Load, number: int, arguments, block: BlockContext) -> None:
    tensor, out = block.spec.tensors[stage.tensor], block.value(stage.value)
    data = block.tensors[stage.tensor]
    if stage.value in block.in_place:
        return
    if tensor.interleaved and tensor.dtype == "int8":
        isa = block.attending.isa if stage.tensor in block.attending.offset else block.isa
        isa.load(out, data, block.first_pair, width(tensor.parts, isa))
    elif tensor.interleaved:
        with loop("k", width(tensor.parts, block.isa)) as k, loop("r", block.isa.rows) as r:
            store(out, data[block.interleaved_at(r, k)], *block.isa.at(r, k))
    else:
        dtype = block.isa.operand_dtype if tensor.dtype == "int8" else tensor.dtype

        def read(r, column, k) -> None:
            store(out, tirx.Cast(dtype, data[block.row(r), k]), *block.isa.at(r, column))

        _each_part(tensor.parts, block, read)
        if dtype == "float16":
            clear_padding(out, tensor.parts, block.isa)


@emit.register(Save)
def _(stage: Save, number: int, arguments, block: BlockContext) -> None:
    tensor, value = block.spec.tensors[stage.tensor], block.value(stage.value)
    data = block.tensors[stage.tensor]
    if tensor.interleaved and tensor.dtype == "int8":
        block.isa.save(data, block.first_pair, value, width(tensor.parts, block.isa))
        return
    if tensor.interleaved:
        with loop("k", width(tensor.parts, block.isa)) as k, loop("r", block.isa.rows) as r:
            store(data, value[block.isa.at(r, k)], *block.interleaved_at(r, k))
        return

    def write(r, column, k) -> None:
        with T.If(block.when_there(r)), T.Then():
            store(data, tirx.Cast(tensor.dtype, value[block.isa.at(r, column)]), block.row(r), k)

    _each_part(tensor.parts, block, write)


def _each_part(parts: Parts, block: BlockContext, write) -> None:
    """write(r, column in a block, column of the plain row) for every column of every row of the block."""
    at = first = 0
    for part in parts:
        with loop("r", block.isa.rows) as r, loop("k", part) as k:
            write(r, at + k, first + k)
        at += block.isa.padded(part)
        first += part


def clear_padding(out, parts: Parts, isa: Isa) -> None:
    """Set the padding of a value to 0: of half precision, where 0 times anything is not 0."""
    at = 0
    for part in parts:
        at, first = at + isa.padded(part), at + part
        if at > first:
            with loop("k", at - first) as k, loop("r", isa.rows) as r:
                store(out, tirx.const(0, isa.operand_dtype), *isa.at(r, first + k))


def _put(out, isa: Isa, r, column, value) -> None:
    store(out, tirx.Cast(isa.operand_dtype, value), *isa.at(r, column))


# Unfold.


@label.register(Unfold)
def _(stage: Unfold, spec: RowBlock) -> str:
    return f"unfold{stage.window.label}"


@emit.register(Unfold)
def _(stage: Unfold, number: int, arguments, block: BlockContext) -> None:
    out, data, isa = block.value(stage.value), block.tensors[stage.tensor], block.isa
    (part,) = block.spec.tensors[stage.tensor].parts

    def element(at, k):
        return data[tirx.floordiv(at, isa.interleave), k, tirx.floormod(at, isa.interleave)]

    with loop("r", isa.rows) as r:
        _read_window(out, block, r, 0, part, stage.window, element)


def _read_window(out, block: BlockContext, r, first: int, width: int, window: Reach, element) -> None:
    """The rows that row r of the block reads, as parts of out from column `first` on. element(row, k): of a row."""
    wide = block.isa.padded(width)
    with loop("t", window.taps) as t:
        at, inside = block.reached(r, t, window)
        with T.If(inside):
            with T.Then(), loop("k", width) as k:
                _put(out, block.isa, r, first + t * wide + k, element(at, k))
            with T.Else(), loop("k", width) as k:
                _put(out, block.isa, r, first + t * wide + k, i32(0))


# Gather.


@label.register(Gather)
def _(stage: Gather, spec: RowBlock) -> str:
    def one(table: Table) -> str:
        through = "" if table.window == Reach() else f"{table.window.label}of"
        return f"{through}{table.width}{table.weight_format.label if table.weight_format else ''}"

    return "gather" + "_".join(map(one, stage.tables))


@declare.register(Gather)
def _(stage: Gather, spec: RowBlock, isa: Isa) -> list[TableRead]:
    return [declare_table(f"table{t}", table, length("T")) for t, table in enumerate(stage.tables)]


@emit.register(Gather)
def _(stage: Gather, number: int, arguments: list[TableRead], block: BlockContext) -> None:
    out, isa, at = block.value(stage.value), block.isa, 0
    with loop("r", isa.rows) as r:
        for read in arguments:
            if read.table.window != Reach():
                _read_window(out, block, r, at, read.table.width, read.table.window, read.of_row)
                at += width(read.table.parts, isa)
                continue
            of_row = read.unpacked(block, r)
            with loop("k", read.table.width) as k:
                _put(out, isa, r, at + k, of_row(k))
            if (wide := isa.padded(read.table.width)) != read.table.width:
                with loop("k", wide - read.table.width) as k:
                    _put(out, isa, r, at + read.table.width + k, i32(0))
            at += wide


# Linear.


@dataclass(frozen=True)
class _Linear:
    weight: object | None
    bias: object
    small_tables: list[tuple]
    residuals: list[tuple]
    epilogue: list


@label.register(Linear)
def _(stage: Linear, spec: RowBlock) -> str:
    codes = "" if stage.weight_format is None else f"_{stage.weight_format.label}"
    k = "_".join(_parts_label(spec.values[s].parts) for s in stage.sources)
    added = "_residual" * bool(stage.residuals)
    return f"{stage.epilogue.name}_{k + 'x' if k else ''}{sum(stage.n)}{added}{codes}"


def _parts_label(parts: Parts) -> str:
    if len(parts) > 2 and len(set(parts)) == 1:
        return f"{len(parts)}of{parts[0]}"
    return "_".join(map(str, parts))


@declare.register(Linear)
def _(stage: Linear, spec: RowBlock, isa: Isa) -> _Linear:
    n = width(stage.n, isa)
    bias_dtype, scale_dtype = COMPRESSED if stage.compressed else UNCOMPRESSED
    weight = (
        weights.declare(n, dot_columns(stage, spec, isa), stage.weight_format, stage.packing) if stage.sources else None
    )
    bias = constants("bias", (n,), bias_dtype)
    small_tables = [
        (
            constants(f"small_table{t}", (rows, n), bias_dtype),
            argument(f"small_table{t}_ids", (1, length("T")), "int32"),
        )
        for t, rows in enumerate(stage.small_tables)
    ]
    residuals = []
    for a, residual in enumerate(stage.residuals):
        read = declare_table(f"residual{a}", residual, length("T")) if isinstance(residual, Table) else residual
        residuals.append((read, argument(f"residual{a}_factor", (n,), "int32")))
    columns = sum(stage.n) if isinstance(stage.epilogue, Dequantize) else n
    return _Linear(weight, bias, small_tables, residuals, stage.epilogue.arguments(columns, scale_dtype))


@prepare.register(Linear)
def _(stage: Linear, declared: _Linear, block: BlockContext) -> _Linear:
    isa = block.isa
    weight = None
    if declared.weight is not None:
        k = dot_columns(stage, block.spec, isa)
        room = block.named["table"] if stage.packing == LOOKUP else block.tile
        weight = weights.matrix(declared.weight, room, k, stage.packing, block.each)
    gain = len(declared.epilogue) - 1 if isa.widens_gains and isinstance(stage.epilogue, RmsNorm) else None
    vectors = [widened(isa.fills_blocks or i == gain, vector) for i, vector in enumerate(declared.epilogue)]
    return _Linear(weight, widened(isa.fills_blocks, declared.bias), declared.small_tables, declared.residuals, vectors)


@emit.register(Linear)
def _(stage: Linear, number: int, given: _Linear, block: BlockContext) -> None:
    isa, n = block.isa, width(stage.n, block.isa)
    left = block.value(stage.sources[0]) if stage.sources else None
    operand = None
    if stage.value is not None:
        operand = block.value(stage.value)
    elif temporary(stage, isa):
        operand = isa.view(block.operands, block.scratch.temporaries[number])
    tensor = None if stage.tensor is None else block.tensors[stage.tensor]
    out = Destination(isa, operand, tensor, lambda: block.first_pair)
    before = (left, given.weight)
    start = _start(stage, given, block)
    epilogue = stage.epilogue
    if isinstance(epilogue, Requantize):
        isa.requantize(out, block.sums, *before, n, given.bias, start, given.epilogue[0], None)
    elif isinstance(epilogue, Activate):
        isa.requantize(out, block.sums, *before, n, given.bias, start, *given.epilogue)
    elif isinstance(epilogue, (RmsNorm, LayerNorm)):
        isa.normalize(out, block.sums, *before, sum(stage.n), n, given.bias, start, Norm(*given.epilogue))
    elif isinstance(epilogue, RequantizeWide):
        (multiplier,) = given.epilogue

        def widen(r, j, acc) -> None:
            value = saturate_wide(multiply_high(acc, multiplier[j]))
            if operand is not None:
                store(operand, value, *isa.at(r, j))
            if tensor is not None:
                store(tensor, value, *block.interleaved_at(r, j))

        isa.accumulate(widen, block.sums, *before, n, given.bias, start)
    else:
        (scale,) = given.epilogue

        def write(r, j, acc) -> None:
            inside = tirx.all(block.when_there(r), j < sum(stage.n))
            with T.If(inside), T.Then():
                store(tensor, tirx.Cast("float32", acc) * scale[j], block.row(r), j)

        isa.accumulate(write, block.sums, *before, n, given.bias, start)


def _start(stage: Linear, given: _Linear, block: BlockContext):
    """What small_tables and residuals add to an accumulator."""
    if not given.small_tables and not given.residuals:
        return None

    def value(residual, r, column):
        if isinstance(residual, int):
            return i32(block.value(residual)[block.isa.at(r, column)])
        return residual.element(block, r, column)

    def start(r, column):
        total = sum((table[ids[0, block.row(r)], column] for table, ids in given.small_tables), i32(0))
        if given.residuals:
            added = sum((value(x, r, column) * f[column] for x, f in given.residuals), i32(1 << (RESIDUAL_BITS - 1)))
            total = total + (added >> i32(RESIDUAL_BITS)) if given.small_tables else added >> i32(RESIDUAL_BITS)
        return total

    residual = None
    one_residual = not given.small_tables and len(given.residuals) == 1 and isinstance(given.residuals[0][0], int)
    if one_residual and block.spec.values[given.residuals[0][0]].dtype == "int8":
        residual = (block.value(given.residuals[0][0]), given.residuals[0][1])
    tables: tuple = ()
    if not given.residuals and all(isinstance(table, CompressedVector) for table, _ in given.small_tables):
        tables = tuple((table, lambda r, ids=ids: ids[0, block.row(r)]) for table, ids in given.small_tables)
    return Added(start, residual, tables)
