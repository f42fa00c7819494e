"""The equations of row blocks: their values have names of the arguments that make them."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

from embbert_tvm.codegen.equation_writer import (
    UnwrittenError,
    Writer,
    activated,
    added_to_scores,
    attention,
    epilogue_of,
    filtered,
    half_attention,
    half_result,
    pooled,
    recurred,
    residual_terms,
    rows_pooled,
    scanned,
    side_by_side,
    stem,
)
from embbert_tvm.kernels.convert import RESCALE_BITS
from embbert_tvm.kernels.gate import GATE_BITS
from embbert_tvm.kernels.layouts import DSP_CODES, INTERLEAVE, LOOKUP, MVE_CODES, RAW_WORDS
from embbert_tvm.kernels.row_block import spec as row_block


def write_row_block(spec: row_block.RowBlock, writer: Writer) -> None:
    if spec.skipped:
        raise UnwrittenError("rows that are not made")
    tensors = {n: writer.take() for n, tensor in enumerate(spec.tensors) if not tensor.written}
    stages = [_declared(stage, spec, writer) for stage in spec.stages]
    tensors |= {n: writer.take() for n, tensor in enumerate(spec.tensors) if tensor.written}
    values: dict[int, str] = {}
    for stage in stages:
        stage(values, tensors)


HALVES = 8  # rows, and columns up to which tensors of halves are filled
_Stage = Callable[[dict[int, str], dict[int, str]], None]


@singledispatch
def _declared(stage: object, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    """Take the stage's arguments; what writes its equations, from the names of values and tensors."""
    raise UnwrittenError(type(stage).__name__)


@_declared.register
def _(stage: row_block.Load, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        values[stage.value] = tensors[stage.tensor]

    return write


@_declared.register
def _(stage: row_block.Save, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        writer.put(tensors[stage.tensor], values[stage.value])

    return write


def _table(table: row_block.Table, writer: Writer) -> str:
    name = writer.coded(table.weight_format)
    return f"{name}[{writer.take()}]" if table.by_ids else f"{name}[0:L]"


@_declared.register
def _(stage: row_block.Gather, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    if any(table.window.taps > 1 for table in stage.tables):
        raise UnwrittenError("a table read through a window")
    rows = [_table(table, writer) for table in stage.tables]

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        values[stage.value] = side_by_side(rows)

    return write


@_declared.register
def _(stage: row_block.Linear, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    # The multipliers of these codes lie among them.
    stored_format = None if stage.packing in (DSP_CODES, LOOKUP) else stage.weight_format
    weight = writer.coded(stored_format) if stage.sources else ""
    if stage.packing == MVE_CODES and stage.weight_format is not None and stage.weight_format.block is None:
        writer.take()  # they have multipliers in any case
    bias = writer.take()
    small_tables = []
    for _ in stage.small_tables:
        table = writer.take()
        small_tables.append(f" + {table}[{writer.take()}]")
    residuals = [(_table(r, writer) if isinstance(r, row_block.Table) else r, writer.take()) for r in stage.residuals]
    acc = writer.fresh("acc")
    finish = epilogue_of(stage.epilogue, acc, writer)
    name = stem(bias, "bias")

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        read = [values[source] for source in stage.sources]
        terms = [(r if isinstance(r, str) else values[r], factor) for r, factor in residuals]
        matrix = f"unborrowed({weight})" if stage.packing == RAW_WORDS else weight
        dots = f"dot({side_by_side(read)}, {matrix}) + " if read else ""
        writer.put(acc, f"{dots}{bias}{''.join(small_tables)}{residual_terms(terms)}")
        out = writer.fresh(name) if stage.tensor is None else tensors[stage.tensor]
        finish(out)
        if stage.value is not None:
            values[stage.value] = out

    return write


@_declared.register
def _(stage: row_block.Attend, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    exp, multiplier, ratio = (writer.take() for _ in range(3))
    heads = len(spec.values[stage.query].parts)
    added = added_to_scores(stage, heads, spec.one_row, writer)
    name = stem(ratio, "ratio")

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        out = values[stage.value] = writer.fresh(name)
        query, key, value = values[stage.query], tensors[stage.keys], tensors[stage.values]
        attention(writer, (query, key, value), heads, (exp, multiplier, ratio), out, added(query, key))

    return write


@_declared.register
def _(stage: row_block.Rescale, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    multiplier = writer.take()

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        out = values[stage.value] = writer.fresh(stem(multiplier, "multiplier"))
        writer.put(out, f"saturate(multiply_high({values[stage.source]} * 2**{RESCALE_BITS}, {multiplier}))")

    return write


@_declared.register
def _(stage: row_block.Gate, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    multiplier = writer.take()

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        out, left, right = writer.fresh(stem(multiplier, "multiplier")), values[stage.left], values[stage.right]
        values[stage.value] = out
        writer.put(out, f"saturate(multiply_high({left} * {right} * 2**{GATE_BITS}, {multiplier}))")

    return write


@_declared.register
def _(stage: row_block.Scan, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    constants = [writer.take() for _ in range(6)]

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        of = [values[v] for v in (stage.u, stage.step, stage.into, stage.out_of)]
        out = values[stage.value] = writer.fresh(stem(constants[-1], "multiplier"))
        scanned(stage.spec, of, constants, out, writer)

    return write


@_declared.register
def _(stage: row_block.Window, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    weight, bias = writer.take(), writer.take()
    weight = f"taps({weight})" if stage.expansion % INTERLEAVE else weight
    acc, out = writer.fresh("acc"), writer.fresh(stem(bias, "bias"))
    finish = epilogue_of(stage.epilogue, acc, writer)

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        x = values[stage.source] if stage.tensor is None and stage.source is not None else tensors[stage.tensor or 0]
        writer.put(acc, f"{filtered(x, weight, stage.expansion, row_block.Reach(stage.taps, stage.after))} + {bias}")
        finish(out)
        values[stage.value] = out

    return write


@_declared.register
def _(stage: row_block.Pool, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    constants = [writer.take() for _ in range(1 + (stage.spec.kind == "rms"))]

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        pooled(stage.spec, values[stage.source], constants, tensors[stage.tensor], writer)

    return write


@_declared.register
def _(stage: row_block.PoolRows, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    multiplier = writer.take()

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        rows_pooled(stage.spec, values[stage.source], multiplier, tensors[stage.tensor], writer)

    return write


@_declared.register
def _(stage: row_block.Recurrence, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    constants = [writer.take() for _ in range(len(stage.spec.matrices) + 6)]

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        out = values[stage.value] = writer.fresh(stem(constants[-1], "state_multiplier"))
        recurred(stage.spec, values[stage.source], constants, out, writer)

    return write


@_declared.register
def _(stage: row_block.HalfLinear, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    weights, bias = [writer.take() for _ in stage.sources], writer.take()
    vectors = [writer.take() for _ in range({None: 0, "rms_norm": 1, "layer_norm": 2}[stage.norm])]
    name = stem(bias, "bias")

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        dots = [f"dot({values[source]}, {weight})" for source, weight in zip(stage.sources, weights, strict=True)]
        acc = " + ".join([*dots, bias])
        # What fills the columns up is of no row.
        acc = acc if stage.n % HALVES == 0 else f"({acc})[:, 0:{stage.n}]"
        acc = " + ".join([acc, *(values[residual] for residual in stage.residuals)])
        out = writer.fresh(name) if stage.tensor is None else tensors[stage.tensor]
        half_result(stage, acc, vectors, writer)(out)
        if stage.value is not None:
            values[stage.value] = out

    return write


@_declared.register
def _(stage: row_block.HalfAttend, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        out = values[stage.value] = writer.fresh("context")
        half_attention(values[stage.query], tensors[stage.keys], tensors[stage.values], out, writer)

    return write


@_declared.register
def _(stage: row_block.HalfWindow, spec: row_block.RowBlock, writer: Writer) -> _Stage:
    weight, bias = writer.take(), writer.take()

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        out = values[stage.value] = writer.fresh(stem(bias, "bias"))
        rows = filtered(values[stage.source], weight, stage.expansion, row_block.Reach(stage.taps))
        writer.put(out, f"half({activated(stage.activation, f'{rows} + {bias}')})")

    return write
