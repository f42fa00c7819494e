"""The stages of a row-block kernel: for each its parameters, what it sets up once, and what it does to a block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.attention import ENTRIES
from embbert_tvm.kernels.builder import argument, i32, length, loop, store, workspace
from embbert_tvm.kernels.convert import NARROW_BITS
from embbert_tvm.kernels.epilogues import Activate, Dequantize, LayerNorm, Requantize, RequantizeWide, RmsNorm
from embbert_tvm.kernels.fixed_point import clamp, multiply_high, saturate_wide
from embbert_tvm.kernels.gate import GATE_BITS
from embbert_tvm.kernels.integer_scan import ENTRIES as DECAY_ENTRIES
from embbert_tvm.kernels.integer_scan import INPUT_BITS
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.isa.base import Added, Destination, Norm
from embbert_tvm.kernels.layouts import INTERLEAVE, ROWS
from embbert_tvm.kernels.low_bits import NARROW, WIDE, constants, stored, widened
from embbert_tvm.kernels.product import ADDEND_BITS
from embbert_tvm.kernels.row_block import weights
from embbert_tvm.kernels.row_block.scratch import dot_columns, temporary, width
from embbert_tvm.kernels.row_block.spec import (
    Attend,
    Gate,
    Gather,
    Linear,
    Load,
    Narrow,
    Parts,
    Pool,
    RowBlock,
    Save,
    Scan,
    Stage,
    Table,
    Window,
)

if TYPE_CHECKING:
    from embbert_tvm.kernels.row_block.kernel import Block


@singledispatch
def label(stage: Stage, spec: RowBlock) -> str:
    """What a stage adds to the kernel's name; nothing for what only moves rows."""
    return ""


@singledispatch
def declare(stage: Stage, spec: RowBlock, isa: Isa):
    """Declare a stage's own parameters; what `prepare` and `emit` take."""


@singledispatch
def prepare(stage: Stage, declared, block: Block):
    """What is set up once, before the first block."""
    return declared


@singledispatch
def emit(stage: Stage, number: int, arguments, block: Block) -> None:
    """The stage on one block."""
    raise NotImplementedError(type(stage).__name__)


@singledispatch
def finish(stage: Stage, arguments, block: Block) -> None:
    """What is left to do after the last block."""


def sums_columns(stage: Stage, spec: RowBlock, isa: Isa) -> int:
    """Columns of sums that a stage works in."""
    if isinstance(stage, Linear) and (isa.fills_blocks or isinstance(stage.epilogue, (RmsNorm, LayerNorm))):
        return width(stage.n, isa)
    if isinstance(stage, Attend) and isa.fills_blocks:
        return max(isa.padded(p) for p in spec.values[stage.query].parts)
    return 0


# Load and Save.


@emit.register(Load)
def _(stage: Load, number: int, arguments, block: Block) -> None:
    tensor, out = block.spec.tensors[stage.tensor], block.value(stage.value)
    data = block.tensors[stage.tensor]
    if tensor.interleaved and tensor.dtype == "int8":
        block.isa.load(out, data, block.first_pair, width(tensor.parts, block.isa))
    elif tensor.interleaved:
        with loop("k", width(tensor.parts, block.isa)) as k, loop("r", ROWS) as r:
            store(out, data[block.interleaved_at(r, k)], *block.isa.at(r, k))
    else:
        dtype = block.isa.operand_dtype if tensor.dtype == "int8" else tensor.dtype

        def read(r, column, k) -> None:
            store(out, tirx.Cast(dtype, data[block.row(r), k]), *block.isa.at(r, column))

        _each_part(tensor.parts, block, read)


@emit.register(Save)
def _(stage: Save, number: int, arguments, block: Block) -> None:
    tensor, value = block.spec.tensors[stage.tensor], block.value(stage.value)
    data = block.tensors[stage.tensor]
    if tensor.interleaved and tensor.dtype == "int8":
        block.isa.save(data, block.first_pair, value, width(tensor.parts, block.isa))
        return
    if tensor.interleaved:
        with loop("k", width(tensor.parts, block.isa)) as k, loop("r", ROWS) as r:
            store(data, value[block.isa.at(r, k)], *block.interleaved_at(r, k))
        return

    def write(r, column, k) -> None:
        with T.If(block.when_there(r)), T.Then():
            store(data, tirx.Cast(tensor.dtype, value[block.isa.at(r, column)]), block.row(r), k)

    _each_part(tensor.parts, block, write)


def _each_part(parts: Parts, block: Block, write) -> None:
    """write(r, column in a block, column of the plain row) for every column of every row of the block."""
    at = first = 0
    for part in parts:
        with loop("r", ROWS) as r, loop("k", part) as k:
            write(r, at + k, first + k)
        at += block.isa.padded(part)
        first += part


def _put(out, isa: Isa, r, column, value) -> None:
    store(out, tirx.Cast(isa.operand_dtype, value), *isa.at(r, column))


# Gather.


@dataclass(frozen=True)
class _Read:
    """A table with the ids it is read at, None for positions."""

    table: Table
    data: object
    ids: object | None

    def element(self, block: Block, r, k):
        at = block.row(r) if self.ids is None else self.ids[0, block.row(r)]
        return i32(self.data.element(at, k) if self.table.form else self.data[at, k])


def _declare_table(name: str, table: Table, rows) -> _Read:
    data = stored(name, (table.rows, table.width), table.form)
    return _Read(table, data, argument(f"{name}_ids", (1, rows), "int32") if table.by_ids else None)


@label.register(Gather)
def _(stage: Gather, spec: RowBlock) -> str:
    return "gather" + "_".join(f"{t.width}{t.form.label if t.form else ''}" for t in stage.tables)


@declare.register(Gather)
def _(stage: Gather, spec: RowBlock, isa: Isa) -> list[_Read]:
    return [_declare_table(f"table{t}", table, length("T")) for t, table in enumerate(stage.tables)]


@emit.register(Gather)
def _(stage: Gather, number: int, arguments: list[_Read], block: Block) -> None:
    out, isa, at = block.value(stage.value), block.isa, 0
    with loop("r", ROWS) as r:
        for read in arguments:
            with loop("k", read.table.width) as k:
                _put(out, isa, r, at + k, read.element(block, r, k))
            if (wide := isa.padded(read.table.width)) != read.table.width:
                with loop("k", wide - read.table.width) as k:
                    _put(out, isa, r, at + read.table.width + k, i32(0))
            at += wide


# Linear.


@dataclass(frozen=True)
class _Linear:
    weight: object | None
    bias: object
    lookups: list[tuple]
    residuals: list[tuple]
    epilogue: list


@label.register(Linear)
def _(stage: Linear, spec: RowBlock) -> str:
    codes = "" if stage.form is None else f"_{stage.form.label}"
    k = "_".join("+".join(map(str, spec.values[s].parts)) for s in stage.sources)
    added = "_residual" * bool(stage.residuals)
    return f"{stage.epilogue.name}_{k + 'x' if k else ''}{sum(stage.n)}{added}{codes}".replace("+", "_")


@declare.register(Linear)
def _(stage: Linear, spec: RowBlock, isa: Isa) -> _Linear:
    n = width(stage.n, isa)
    small, middle = NARROW if stage.narrow else WIDE
    weight = weights.declare(n, dot_columns(stage, spec, isa), stage.form) if stage.sources else None
    bias = constants("bias", (n,), small)
    lookups = [
        (constants(f"lookup{t}", (rows, n), small), argument(f"lookup{t}_ids", (1, length("T")), "int32"))
        for t, rows in enumerate(stage.lookups)
    ]
    residuals = []
    for a, residual in enumerate(stage.residuals):
        read = _declare_table(f"residual{a}", residual, length("T")) if isinstance(residual, Table) else residual
        residuals.append((read, argument(f"residual{a}_factor", (n,), "int32")))
    columns = sum(stage.n) if isinstance(stage.epilogue, Dequantize) else n
    return _Linear(weight, bias, lookups, residuals, stage.epilogue.arguments(columns, middle))


@prepare.register(Linear)
def _(stage: Linear, declared: _Linear, block: Block) -> _Linear:
    isa = block.isa
    weight = None
    if declared.weight is not None:
        weight = weights.matrix(declared.weight, block.tile, dot_columns(stage, block.spec, isa))
    vectors = [widened(isa.fills_blocks, vector) for vector in declared.epilogue]
    return _Linear(weight, widened(isa.fills_blocks, declared.bias), declared.lookups, declared.residuals, vectors)


@emit.register(Linear)
def _(stage: Linear, number: int, given: _Linear, block: Block) -> None:
    isa, n = block.isa, width(stage.n, block.isa)
    left = block.value(stage.sources[0]) if stage.sources else None
    operand = None
    if stage.value is not None:
        operand = block.value(stage.value)
    elif temporary(stage, isa):
        operand = isa.view(block.operands, block.scratch.temporaries[number])
    tensor = None if stage.tensor is None else block.tensors[stage.tensor]
    out = Destination(isa, operand, tensor, block.first_pair)
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


def _start(stage: Linear, given: _Linear, block: Block):
    """What lookups and residuals add to an accumulator."""
    if not given.lookups and not given.residuals:
        return None

    def value(residual, r, column):
        if isinstance(residual, int):
            return i32(block.value(residual)[block.isa.at(r, column)])
        return residual.element(block, r, column)

    def start(r, column):
        total = sum((table[ids[0, block.row(r)], column] for table, ids in given.lookups), i32(0))
        if given.residuals:
            added = sum((value(x, r, column) * f[column] for x, f in given.residuals), i32(1 << (ADDEND_BITS - 1)))
            total = total + (added >> i32(ADDEND_BITS)) if given.lookups else added >> i32(ADDEND_BITS)
        return total

    residual = None
    alone = not given.lookups and len(given.residuals) == 1 and isinstance(given.residuals[0][0], int)
    if alone and block.spec.values[given.residuals[0][0]].dtype == "int8":
        residual = (block.value(given.residuals[0][0]), given.residuals[0][1])
    return Added(start, residual)


# Attend.


@label.register(Attend)
def _(stage: Attend, spec: RowBlock) -> str:
    parts = spec.values[stage.query].parts
    return f"attend{f'{len(parts)}x' if len(parts) > 1 else ''}{parts[0]}"


@declare.register(Attend)
def _(stage: Attend, spec: RowBlock, isa: Isa) -> tuple:
    heads = len(spec.values[stage.query].parts)
    exp = argument("exp", (ENTRIES,), "int8")
    return exp, argument("score_multiplier", (heads,), "int32"), argument("ratio", (heads,), "int32")


@emit.register(Attend)
def _(stage: Attend, number: int, arguments: tuple, block: Block) -> None:
    exp, multiplier, ratio = arguments
    isa, parts = block.isa, block.spec.values[stage.query].parts
    wide = isa.padded(parts[0])
    keys, values = block.tensors[stage.keys], block.tensors[stage.values]
    weight = isa.view(block.operands, block.scratch.weights[number])
    query, out = block.scratch.values[stage.query], block.scratch.values[stage.value]

    def head(h, first) -> None:
        def at(start: int):
            return isa.view_at(block.operands, start, first)

        isa.scores(block.sums, at(query), keys, first, wide, block.tokens)
        isa.softmax(weight, block.factor, block.sums, exp, multiplier[h], ratio[h], block.tokens)
        isa.context(Destination(isa, at(out)), block.sums, weight, values, first, wide, block.factor, block.tokens)

    if len(parts) == 1:
        head(0, 0)
        return
    with loop("h", len(parts)) as h:
        head(h, h * wide)


# Narrow.


@label.register(Narrow)
def _(stage: Narrow, spec: RowBlock) -> str:
    return "narrow"


@declare.register(Narrow)
def _(stage: Narrow, spec: RowBlock, isa: Isa):
    return argument("narrow_multiplier", (1,), "int32")


@emit.register(Narrow)
def _(stage: Narrow, number: int, multiplier, block: Block) -> None:
    out, source, isa = block.value(stage.value), block.value(stage.source), block.isa
    columns = width(block.spec.values[stage.source].parts, isa)
    with loop("k", columns) as k, loop("r", ROWS) as r:
        scaled = multiply_high(i32(source[isa.at(r, k)]) * i32(2**NARROW_BITS), multiplier[0])
        store(out, tirx.Cast(isa.operand_dtype, clamp(scaled)), *isa.at(r, k))


# Gate.


@label.register(Gate)
def _(stage: Gate, spec: RowBlock) -> str:
    return "gate"


@declare.register(Gate)
def _(stage: Gate, spec: RowBlock, isa: Isa):
    return argument("gate_multiplier", (1,), "int32")


@emit.register(Gate)
def _(stage: Gate, number: int, multiplier, block: Block) -> None:
    isa = block.isa
    out, left, right = (block.value(v) for v in (stage.value, stage.left, stage.right))
    with loop("k", width(block.spec.values[stage.value].parts, isa)) as k, loop("r", ROWS) as r:
        at = isa.at(r, k)
        product = i32(left[at]) * i32(right[at]) * i32(2**GATE_BITS)
        store(out, tirx.Cast(isa.operand_dtype, clamp(multiply_high(product, multiplier[0]))), *at)


# Scan.


@label.register(Scan)
def _(stage: Scan, spec: RowBlock) -> str:
    return stage.spec.name


@declare.register(Scan)
def _(stage: Scan, spec: RowBlock, isa: Isa) -> tuple:
    channels, state = stage.spec.channels, stage.spec.state
    return (
        argument("size", (256,), "int32"),
        argument("log_step", (256,), "int16"),
        argument("log_decay", (channels, state), "int16"),
        argument("decay", (DECAY_ENTRIES,), "int32"),
        argument("skip", (channels,), "int32"),
        argument("scan_multiplier", (1,), "int32"),
    )


@prepare.register(Scan)
def _(stage: Scan, declared: tuple, block: Block) -> tuple:
    channels, state = stage.spec.channels, stage.spec.state
    twice = workspace("twice", (channels, state), "int32")
    with loop("c", channels) as c, loop("n", state) as n:
        store(twice, i32(0), c, n)
    return (*declared, twice)


@emit.register(Scan)
def _(stage: Scan, number: int, arguments: tuple, block: Block) -> None:
    size, log_step, log_decay, decay, skip, multiplier, twice = arguments
    isa, spec = block.isa, stage.spec
    enters, read_by = (block.state_rows[name] for name in ("enters", "read_by"))
    out, u, step = (block.value(v) for v in (stage.value, stage.u, stage.step))
    into, out_of = block.value(stage.into), block.value(stage.out_of)
    with loop("r", ROWS) as r, loop("n", spec.state) as n:
        store(enters, i32(into[isa.at(r, n)]), r, n)
        store(read_by, i32(out_of[isa.at(r, n)]) * i32(2**spec.bits), r, n)
    at, entering = workspace("at", (1,), "int32"), workspace("entering", (1,), "int32")
    h, total = workspace("h", (1,), "int32"), workspace("total", (1,), "int32")
    code = workspace("code", (1,), "int32")
    with loop("c", spec.channels) as c, loop("r", ROWS) as r:
        store(code, i32(step[isa.at(r, c)]) + i32(128), 0)
        store(at, i32(log_step[code[0]]), 0)
        store(entering, multiply_high(size[code[0]], i32(u[isa.at(r, c)]) * i32(2**INPUT_BITS)), 0)
        store(total, skip[c] * i32(u[isa.at(r, c)]), 0)
        with loop("n", spec.state) as n:
            kept = multiply_high(twice[c, n], decay[at[0] + i32(log_decay[c, n])])
            store(h, kept + entering[0] * enters[r, n], 0)
            store(twice, h[0] * i32(2), c, n)
            store(total, total[0] + multiply_high(h[0], read_by[r, n]), 0)
        value = clamp(multiply_high(total[0], multiplier[0]))
        store(out, tirx.Cast(isa.operand_dtype, value), *isa.at(r, c))


# Window.


@label.register(Window)
def _(stage: Window, spec: RowBlock) -> str:
    times = "" if stage.expansion == 1 else f"x{stage.expansion}"
    return f"window{stage.taps}{times}_{stage.epilogue.name}"


def _channels(stage: Window, spec: RowBlock) -> int:
    """Channels that are filtered."""
    parts = spec.tensors[stage.tensor].parts if stage.source is None else spec.values[stage.source].parts
    (channels,) = parts
    return channels


@declare.register(Window)
def _(stage: Window, spec: RowBlock, isa: Isa) -> tuple:
    count = _channels(stage, spec) * stage.expansion
    if stage.expansion % INTERLEAVE == 0:
        weight = argument("taps", (count // INTERLEAVE, stage.taps, INTERLEAVE), "int8")
    else:
        weight = argument("taps", (count, stage.taps // 2 + 1, 2, 2), "int16")
    return weight, argument("bias", (count,), "int32"), stage.epilogue.arguments(count, "int32")


@prepare.register(Window)
def _(stage: Window, declared: tuple, block: Block) -> tuple:
    channels = _channels(stage, block.spec)
    # A channel's samples: as many before the block as there are taps, and the block's own.
    line, kept = workspace("line", (1, stage.taps + ROWS), "int16"), None
    if stage.source is not None:
        kept = workspace("kept", (channels, stage.taps), "int8")
        with loop("c", channels) as c, loop("t", stage.taps) as t:
            store(kept, tirx.const(0, "int8"), c, t)
    left = None
    if stage.expansion % INTERLEAVE == 0:
        left = workspace("outputs", block.isa.shape(stage.taps), block.isa.operand_dtype)
    return (*declared, line, kept, left)


@emit.register(Window)
def _(stage: Window, number: int, arguments: tuple, block: Block) -> None:
    weight, bias, epilogue, line, kept, left = arguments
    out, isa, taps = block.value(stage.value), block.isa, stage.taps
    multiplier, table = epilogue[0], epilogue[1] if len(epilogue) > 1 else None

    def write(r, column, acc) -> None:
        level = clamp(multiply_high(acc, multiplier[column]))
        value = level if table is None else i32(table[level + 128])
        store(out, tirx.Cast(isa.operand_dtype, value), *isa.at(r, column))

    with loop("c", _channels(stage, block.spec)) as c:
        _fill_line(stage, line, kept, c, block)
        if left is None:
            acc = workspace("acc", (ROWS,), "int32")
            for o in range(ROWS):
                store(acc, bias[c], o)
            isa.fir_at(acc, line, weight, c, taps)
            for o in range(ROWS):
                write(o, c, acc[o])
            return
        with loop("k", taps) as k, loop("r", ROWS) as r:
            store(left, tirx.Cast(isa.operand_dtype, line[0, r + 1 + k]), *isa.at(r, k))
        with loop("e", stage.expansion // INTERLEAVE) as e:
            pair = c * (stage.expansion // INTERLEAVE) + e

            def write_one(r, f, acc, pair=pair) -> None:
                column = pair * INTERLEAVE + f
                write(r, column, acc + bias[column])

            isa.filter_pair(write_one, block.sums, left, weight, (pair, 0), taps)


def _fill_line(stage: Window, line, kept, c, block: Block) -> None:
    """Fill the line with the samples of channel c around the block."""
    isa, taps = block.isa, stage.taps
    if stage.source is not None:
        source = block.value(stage.source)
        with loop("t", taps) as t:
            store(line, tirx.Cast("int16", kept[c, t]), 0, t)
        for r in range(ROWS):
            store(line, tirx.Cast("int16", source[isa.at(r, c)]), 0, taps + r)
        with loop("t", taps) as t:
            store(kept, tirx.Cast("int8", line[0, t + ROWS]), c, t)
        return
    data = block.tensors[stage.tensor]
    with loop("p", (taps + ROWS) // INTERLEAVE) as p:
        pair = block.first_pair - taps // INTERLEAVE + p
        for h in range(INTERLEAVE):
            sample = tirx.if_then_else(pair >= 0, data[tirx.max(pair, 0), c, h], tirx.const(0, "int8"))
            store(line, tirx.Cast("int16", sample), 0, p * INTERLEAVE + h)


# Pool.


@label.register(Pool)
def _(stage: Pool, spec: RowBlock) -> str:
    return stage.spec.name


@declare.register(Pool)
def _(stage: Pool, spec: RowBlock, isa: Isa) -> tuple:
    epsilon = argument("epsilon", (1,), "int32") if stage.spec.kind == "rms" else None
    return epsilon, argument("pool_multiplier", (1,), "int32")


@prepare.register(Pool)
def _(stage: Pool, declared: tuple, block: Block) -> tuple:
    acc = workspace("pooled", (stage.spec.width,), stage.spec.accumulator)
    with loop("k", stage.spec.width) as k:
        store(acc, stage.spec.start(), k)
    return (*declared, acc)


@emit.register(Pool)
def _(stage: Pool, number: int, arguments: tuple, block: Block) -> None:
    acc, source, isa = arguments[-1], block.value(stage.source), block.isa
    with T.If(block.when_there(ROWS - 1)):
        with T.Then(), loop("k", stage.spec.width) as k:
            for r in range(ROWS):
                stage.spec.add(acc, k, i32(source[isa.at(r, k)]))
        with T.Else(), loop("r", ROWS) as r, T.If(block.when_there(r)), T.Then():
            with loop("k", stage.spec.width) as k:
                stage.spec.add(acc, k, i32(source[isa.at(r, k)]))


@finish.register(Pool)
def _(stage: Pool, arguments: tuple, block: Block) -> None:
    epsilon, multiplier, acc = arguments
    stage.spec.finish(block.tensors[stage.tensor], acc, i32(block.tokens), epsilon, multiplier)
