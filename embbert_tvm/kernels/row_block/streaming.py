"""Stages of what keeps state from block to block, and of what goes element by element: rescaling, gates, scans, filters
and poolings. They register with the functions of stages.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, i32, loop, store, workspace
from embbert_tvm.kernels.convert import RESCALE_BITS
from embbert_tvm.kernels.fixed_point import clamp, multiply_high
from embbert_tvm.kernels.gate import GATE_BITS
from embbert_tvm.kernels.integer_recurrence import Arguments, State, advance
from embbert_tvm.kernels.integer_scan import ENTRIES as DECAY_ENTRIES
from embbert_tvm.kernels.integer_scan import INPUT_BITS
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.layouts import INTERLEAVE, ROWS
from embbert_tvm.kernels.row_block.scratch import width
from embbert_tvm.kernels.row_block.spec import (
    Gate,
    Pool,
    PoolRows,
    Recurrence,
    Rescale,
    RowBlock,
    Scan,
    Window,
)

if TYPE_CHECKING:
    from embbert_tvm.kernels.row_block.kernel import BlockContext
from embbert_tvm.kernels.row_block.stages import declare, emit, finish, label, prepare

# Rescale.


@label.register(Rescale)
def _(stage: Rescale, spec: RowBlock) -> str:
    return "rescale"


@declare.register(Rescale)
def _(stage: Rescale, spec: RowBlock, isa: Isa):
    return argument("rescale_multiplier", (1,), "int32")


@emit.register(Rescale)
def _(stage: Rescale, number: int, multiplier, block: BlockContext) -> None:
    out, source, isa = block.value(stage.value), block.value(stage.source), block.isa
    columns = width(block.spec.values[stage.source].parts, isa)
    with loop("k", columns) as k, loop("r", ROWS) as r:
        scaled = multiply_high(i32(source[isa.at(r, k)]) * i32(2**RESCALE_BITS), multiplier[0])
        store(out, tirx.Cast(isa.operand_dtype, clamp(scaled)), *isa.at(r, k))


# Gate.


@label.register(Gate)
def _(stage: Gate, spec: RowBlock) -> str:
    return "gate"


@declare.register(Gate)
def _(stage: Gate, spec: RowBlock, isa: Isa):
    return argument("gate_multiplier", (1,), "int32")


@emit.register(Gate)
def _(stage: Gate, number: int, multiplier, block: BlockContext) -> None:
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
def _(stage: Scan, declared: tuple, block: BlockContext) -> tuple:
    channels, state = stage.spec.channels, stage.spec.state
    twice = workspace("twice", (channels, state), "int32")
    with loop("c", channels) as c, loop("n", state) as n:
        store(twice, i32(0), c, n)
    return (*declared, twice)


@emit.register(Scan)
def _(stage: Scan, number: int, arguments: tuple, block: BlockContext) -> None:
    size, log_step, log_decay, decay, skip, multiplier, twice = arguments
    isa, spec = block.isa, stage.spec
    enters, read_by = (block.named[name] for name in ("enters", "read_by"))
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


# Recurrence.


@label.register(Recurrence)
def _(stage: Recurrence, spec: RowBlock) -> str:
    return f"{stage.spec.kind}{stage.spec.width}"


@declare.register(Recurrence)
def _(stage: Recurrence, spec: RowBlock, isa: Isa) -> Arguments:
    return stage.spec.arguments()


@prepare.register(Recurrence)
def _(stage: Recurrence, declared: Arguments, block: BlockContext) -> tuple[Arguments, State]:
    return declared, stage.spec.state()


@emit.register(Recurrence)
def _(stage: Recurrence, number: int, arguments: tuple[Arguments, State], block: BlockContext) -> None:
    given_to, state = arguments
    isa, out, source = block.isa, block.value(stage.value), block.value(stage.source)
    with loop("r", ROWS) as r:
        advance(stage.spec, isa, given_to, state, lambda g: i32(source[isa.at(r, g)]))
        with loop("c", stage.spec.width) as c:
            store(out, tirx.Cast(isa.operand_dtype, state.h[c]), *isa.at(r, c))


# Window.


@label.register(Window)
def _(stage: Window, spec: RowBlock) -> str:
    times = "" if stage.expansion == 1 else f"x{stage.expansion}"
    ahead = f"after{stage.after}" if stage.after else ""
    return f"window{stage.taps}{times}{ahead}_{stage.epilogue.name}"


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
def _(stage: Window, declared: tuple, block: BlockContext) -> tuple:
    channels = _channels(stage, block.spec)
    # A channel's samples: as many before the block as there are taps, the first of which no tap meets, and the block's.
    line, kept = workspace("line", (1, stage.taps + ROWS), "int16"), None
    if stage.source is not None:
        kept = workspace("kept", (channels, stage.taps - 1), "int8")
        with loop("c", channels) as c, loop("t", stage.taps - 1) as t:
            store(kept, tirx.const(0, "int8"), c, t)
        store(line, tirx.const(0, "int16"), 0, 0)
    left = None
    if stage.expansion % INTERLEAVE == 0:
        left = workspace("outputs", block.isa.shape(stage.taps), block.isa.operand_dtype)
    return (*declared, line, kept, left)


@emit.register(Window)
def _(stage: Window, number: int, arguments: tuple, block: BlockContext) -> None:
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
            with loop("e", stage.expansion) as e:
                column = c * stage.expansion + e
                for o in range(ROWS):
                    store(acc, bias[column], o)
                isa.fir_at(acc, line, weight, column, taps)
                for o in range(ROWS):
                    write(o, column, acc[o])
            return
        with loop("k", taps) as k, loop("r", ROWS) as r:
            store(left, tirx.Cast(isa.operand_dtype, line[0, r + 1 + k]), *isa.at(r, k))
        with loop("e", stage.expansion // INTERLEAVE) as e:
            pair = c * (stage.expansion // INTERLEAVE) + e

            def write_one(r, f, acc, pair=pair) -> None:
                column = pair * INTERLEAVE + f
                write(r, column, acc + bias[column])

            isa.filter_pair(write_one, block.sums, left, weight, (pair, 0), taps)


def _fill_line(stage: Window, line, kept, c, block: BlockContext) -> None:
    """Fill the line with the samples of channel c around the block."""
    isa, taps = block.isa, stage.taps
    if stage.source is not None:
        source = block.value(stage.source)
        with loop("t", taps - 1) as t:
            store(line, tirx.Cast("int16", kept[c, t]), 0, t + 1)
        for r in range(ROWS):
            store(line, tirx.Cast("int16", source[isa.at(r, c)]), 0, taps + r)
        with loop("t", taps - 1) as t:
            store(kept, tirx.Cast("int8", line[0, t + 1 + ROWS]), c, t)
        return
    data = block.tensors[stage.tensor]
    if stage.after:
        with loop("t", taps + ROWS) as t:
            row = block.number * ROWS + stage.after - taps + t
            inside = tirx.all(row >= 0, row < block.tokens)
            at = tirx.max(tirx.min(row, block.tokens - 1), 0)
            sample = data[tirx.floordiv(at, INTERLEAVE), c, tirx.floormod(at, INTERLEAVE)]
            store(line, tirx.Cast("int16", tirx.if_then_else(inside, sample, tirx.const(0, "int8"))), 0, t)
        return
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
def _(stage: Pool, declared: tuple, block: BlockContext) -> tuple:
    acc = workspace("pooled", (stage.spec.width,), stage.spec.accumulator)
    with loop("k", stage.spec.width) as k:
        store(acc, stage.spec.start(), k)
    return (*declared, acc)


@emit.register(Pool)
def _(stage: Pool, number: int, arguments: tuple, block: BlockContext) -> None:
    acc, source, isa = arguments[-1], block.value(stage.source), block.isa
    with T.If(block.when_there(ROWS - 1)):
        with T.Then(), loop("k", stage.spec.width) as k:
            for r in range(ROWS):
                stage.spec.add(acc, k, i32(source[isa.at(r, k)]))
        with T.Else(), loop("r", ROWS) as r, T.If(block.when_there(r)), T.Then():
            with loop("k", stage.spec.width) as k:
                stage.spec.add(acc, k, i32(source[isa.at(r, k)]))


@finish.register(Pool)
def _(stage: Pool, arguments: tuple, block: BlockContext) -> None:
    epsilon, multiplier, acc = arguments
    stage.spec.finish(block.tensors[stage.tensor], acc, i32(block.count), epsilon, multiplier)


# PoolRows.


@label.register(PoolRows)
def _(stage: PoolRows, spec: RowBlock) -> str:
    return stage.spec.name


@declare.register(PoolRows)
def _(stage: PoolRows, spec: RowBlock, isa: Isa):
    return argument("rows_multiplier", (stage.spec.size,), "int32")


@emit.register(PoolRows)
def _(stage: PoolRows, number: int, multiplier, block: BlockContext) -> None:
    source, data, isa, size = block.value(stage.source), block.tensors[stage.tensor], block.isa, stage.spec.size
    windows = isa.rows // size

    total = workspace("total", (1,), "int32")

    def put(w, k, rows, there) -> None:
        store(total, sum(rows, i32(0)), 0)
        made = block.number * windows + w
        at = (tirx.floordiv(made, isa.interleave), k, tirx.floormod(made, isa.interleave))
        store(data, stage.spec.mean(total[0], multiplier[there - 1]), *at)

    with loop("w", windows) as w:
        there = tirx.max(tirx.min(i32(size), i32(block.count - block.number * isa.rows - w * size)), 1)

        def rows(k) -> list:
            return [i32(source[isa.at(w * size + j, k)]) for j in range(size)]

        # Not told apart for each element: most blocks are whole.
        with T.If(there == size):
            with T.Then(), loop("k", stage.spec.width) as k:
                put(w, k, rows(k), i32(size))
            with T.Else(), loop("k", stage.spec.width) as k:
                put(w, k, [tirx.Select(there > j, row, i32(0)) for j, row in enumerate(rows(k))], there)
