"""What a kernel computes, as equations over whole matrices that stand in comments of the C.

They are written so that a reader can redo a step in NumPy; `LEGEND` says what the functions in them mean. Integers come
out to the bit, norms to one step, as their root is taken in integers.
"""

from __future__ import annotations

import textwrap
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import singledispatch

from embbert_tvm.escape import c_formula
from embbert_tvm.kernels.attention import Attention
from embbert_tvm.kernels.convert import NARROW_BITS, Narrow
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv
from embbert_tvm.kernels.epilogues import (
    NORM_BITS,
    SHIFT_BITS,
    Activate,
    Dequantize,
    LayerNorm,
    Requantize,
    RequantizeWide,
    RmsNorm,
)
from embbert_tvm.kernels.gate import GATE_BITS, Gate
from embbert_tvm.kernels.low_bits import WeightFormat
from embbert_tvm.kernels.product import RESIDUAL_BITS, Product, ProductInput
from embbert_tvm.kernels.row_block import spec as row_block

LEGEND = """\
Equations are of whole matrices, a row a token, in integers where nothing is divided:
  dot(a, b)[i, j] = the sum over k of a[i, k] * b[j, k]; T(a) is a with rows and columns exchanged
  multiply_high(a, m) = (a * m + 2**31) >> 32; saturate() clamps to int8, saturate_wide() to int16
  sum(), max() and mean(), which is cut to an integer, are of each row; concat() puts columns side by side
  heads(a, n) are n groups of columns, each for itself; joined() puts them side by side; per_head(v) is v[h] in head h
  filter(a, w)[i, c] = the sum over k of a[i + k - taps + 1, c] * w[c, k], where rows before the text are 0
  unborrowed(w)[i, j] is w[i, j], and for odd i one more where w[i - 1, j] is negative
A weight or tensor of shape (n / 2, k, 2) is a matrix (n, k): element [i, j] lies at [i / 2][j][i % 2]."""


class UnwrittenError(Exception):
    """A kernel of which no equations are written."""


@dataclass
class _Writer:
    """The names of a kernel's arguments, taken in their order, and the lines so far."""

    names: deque[str]
    lines: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def take(self) -> str:
        return self.names.popleft()

    def coded(self, form: WeightFormat | None) -> str:
        """A matrix, which as codes has an argument more for the multipliers of its blocks."""
        name = self.take()
        if form is not None and form.block is not None:
            self.take()
        return name

    def put(self, name: str, value: str) -> None:
        self.lines.append(f"{name} = {value}")

    def fresh(self, wanted: str) -> str:
        """A name for a value that is not stored, told apart from those before it."""
        name, number = wanted, 2
        while name in self.used:
            name, number = f"{wanted}_{number}", number + 1
        self.used.add(name)
        return name


def equations(spec: object, names: Sequence[str]) -> tuple[str, ...]:
    """The equations of a kernel by its specification; none where none are written for it.

    names: of the kernel's arguments in their order, those that it makes included.
    """
    writer = _Writer(deque(names), used=set(names))
    try:
        _write(spec, writer)
    except (UnwrittenError, IndexError):
        return ()
    # Arguments that are left over are of a kernel that is not as these equations know it.
    return () if writer.names else tuple(writer.lines)


def comment(lines: Sequence[str], indent: str) -> list[str]:
    """Equations as lines of a C comment; what goes on below is indented further."""
    found = []
    for line in lines:
        text = textwrap.wrap(c_formula(line), 104 - len(indent), subsequent_indent="    ", break_long_words=False)
        found += [f"{indent}{part}" for part in text]
    return found


@singledispatch
def _write(spec: object, writer: _Writer) -> None:
    raise UnwrittenError(type(spec).__name__)


def _stem(name: str, *suffixes: str) -> str:
    """What an argument's name says of the value that it makes: `blocks_0_query` of `blocks_0_query_bias`."""
    for suffix in suffixes:
        if name.endswith(f"_{suffix}"):
            return name[: -len(suffix) - 1]
    return "value"


def _side_by_side(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"concat({', '.join(parts)})"


def _epilogue(kind: object, acc: str, writer: _Writer) -> Callable[[str], None]:
    """Take the epilogue's arguments; what writes its equations for a result of some name."""
    if isinstance(kind, (Requantize, RequantizeWide)):
        multiplier = writer.take()
        clamp = "saturate" if isinstance(kind, Requantize) else "saturate_wide"
        return lambda out: writer.put(out, f"{clamp}(multiply_high({acc}, {multiplier}))")
    if isinstance(kind, Activate):
        multiplier, table = writer.take(), writer.take()
        return lambda out: writer.put(out, f"{table}[saturate(multiply_high({acc}, {multiplier})) + 128]")
    if isinstance(kind, Dequantize):
        scale = writer.take()
        return lambda out: writer.put(out, f"({acc}) * {scale}")
    if isinstance(kind, RmsNorm):
        channel_rescale, epsilon, gain = (writer.take() for _ in range(3))

        def rms_norm(out: str) -> None:
            t = writer.fresh("t")
            writer.put(t, f"multiply_high({acc}, {channel_rescale})")
            writer.put(out, f"saturate(round({gain} * {t} / sqrt(sum({t} * {t}) + {epsilon}) / 2**{32 - NORM_BITS}))")

        return rms_norm
    if isinstance(kind, LayerNorm):
        channel_rescale, epsilon, gain, shift = (writer.take() for _ in range(4))

        def layer_norm(out: str) -> None:
            t, c = writer.fresh("t"), writer.fresh("c")
            writer.put(t, f"multiply_high({acc}, {channel_rescale})")
            writer.put(c, f"{t} - mean({t})")
            unit = f"{gain} * {c} / sqrt(sum({c} * {c}) + {epsilon}) / 2**{32 - NORM_BITS}"
            writer.put(out, f"saturate(floor(({unit} + {shift}) / 2**{SHIFT_BITS}))")

        return layer_norm
    raise UnwrittenError(type(kind).__name__)


def _residuals(terms: Sequence[tuple[str, str]]) -> str:
    """Residual inputs, each times its factor a column."""
    added = " + ".join(f"{value} * {factor}" for value, factor in terms)
    return f" + (({added} + {1 << RESIDUAL_BITS - 1}) >> {RESIDUAL_BITS})" if terms else ""


def _source(source: ProductInput, writer: _Writer) -> str:
    """How a product reads an operand."""
    if source.taps > 1 or source.after:
        raise UnwrittenError("a convolution over time of all channels")
    name = writer.coded(source.form)
    if source.indexed:
        return f"{name}[{writer.take()}]"
    if source.row is not None:
        return f"{name}[{source.row}:{source.row + 1}]"
    return name if source.rows is None or source.rows == 1 else f"{name}[0:L]"


@_write.register
def _(spec: Product, writer: _Writer) -> None:
    if spec.skipped:
        raise UnwrittenError("rows that are not made")
    read = [_source(source, writer) for source in spec.sources]
    weight = writer.coded(spec.form) if read else ""
    bias = writer.take()
    acc = f"dot({_side_by_side(read)}, {weight}) + {bias}" if read else bias
    for _ in spec.small_tables:
        table = writer.take()
        acc += f" + {table}[{writer.take()}]"
    acc += _residuals([(_source(residual, writer), writer.take()) for residual in spec.residuals])
    finish = _epilogue(spec.epilogue, acc, writer)
    finish(writer.take())


@_write.register
def _(spec: DepthwiseConv, writer: _Writer) -> None:
    if spec.after or spec.dilation != 1 or spec.expansion != 1:
        raise UnwrittenError("a filter that reads ahead, skips or makes several of a channel")
    x, weight, bias = writer.take(), writer.coded(spec.form), writer.take()
    # Codes are stored a channel after the other, and so is what a filter along row-interleaved rows reads.
    by_channel = spec.form is not None or (spec.pairs and spec.row is None)
    weight = weight if by_channel else f"T({weight})"
    rows = "" if spec.row is None else f"[{spec.row}:{spec.row + 1}]"
    finish = _epilogue(spec.epilogue, f"filter({x}, {weight}){rows} + {bias}", writer)
    finish(writer.take())


def _attend(writer: _Writer, of: tuple[str, str, str], heads: int, constants: tuple[str, str, str], out: str) -> None:
    """Attention of (query, key, value) with (exp, score_multiplier, ratio)."""
    several = heads > 1
    query, key, value = (f"heads({name}, {heads})" if several else name for name in of)
    exp, step, ratio = constants
    step, ratio = (f"per_head({name})" if several else name for name in (step, ratio))
    score, p = writer.fresh("score"), writer.fresh("p")
    writer.put(score, f"dot({query}, {key})")
    writer.put(p, f"{exp}[minimum(multiply_high(max({score}) - {score}, {step}), 255)]")
    factor = f"multiply_high((2147483647 // sum({p})) << 6, {ratio})"
    context = f"saturate(multiply_high(dot({p}, T({value})), {factor}))"
    writer.put(out, f"joined({context})" if several else context)


@_write.register
def _(spec: Attention, writer: _Writer) -> None:
    query, key, value, exp, step, ratio, out = (writer.take() for _ in range(7))
    _attend(writer, (query, key, value), 1, (exp, step, ratio), out)


@_write.register
def _(spec: Narrow, writer: _Writer) -> None:
    x, multiplier, out = (writer.take() for _ in range(3))
    rows = "" if spec.row is None else f"[{spec.row}:{spec.row + 1}]"
    writer.put(out, f"saturate(multiply_high({x}{rows} * 2**{NARROW_BITS}, {multiplier}))")


@_write.register
def _(spec: Gate, writer: _Writer) -> None:
    a, b, multiplier, out = (writer.take() for _ in range(4))
    left, right = (
        name if row is None else f"{name}[{row}:{row + 1}]" for name, row in zip((a, b), spec.rows, strict=True)
    )
    writer.put(out, f"saturate(multiply_high({left} * {right} * 2**{GATE_BITS}, {multiplier}))")


# Row blocks: their values have names of the arguments that make them.


@_write.register
def _(spec: row_block.RowBlock, writer: _Writer) -> None:
    if spec.skipped:
        raise UnwrittenError("rows that are not made")
    tensors = {n: writer.take() for n, tensor in enumerate(spec.tensors) if not tensor.written}
    stages = [_declared(stage, spec, writer) for stage in spec.stages]
    tensors |= {n: writer.take() for n, tensor in enumerate(spec.tensors) if tensor.written}
    values: dict[int, str] = {}
    for stage in stages:
        stage(values, tensors)


_Stage = Callable[[dict[int, str], dict[int, str]], None]


@singledispatch
def _declared(stage: object, spec: row_block.RowBlock, writer: _Writer) -> _Stage:
    """Take the stage's arguments; what writes its equations, from the names of values and tensors."""
    raise UnwrittenError(type(stage).__name__)


@_declared.register
def _(stage: row_block.Load, spec: row_block.RowBlock, writer: _Writer) -> _Stage:
    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        values[stage.value] = tensors[stage.tensor]

    return write


@_declared.register
def _(stage: row_block.Save, spec: row_block.RowBlock, writer: _Writer) -> _Stage:
    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        writer.put(tensors[stage.tensor], values[stage.value])

    return write


def _table(table: row_block.Table, writer: _Writer) -> str:
    name = writer.coded(table.form)
    return f"{name}[{writer.take()}]" if table.by_ids else f"{name}[0:L]"


@_declared.register
def _(stage: row_block.Gather, spec: row_block.RowBlock, writer: _Writer) -> _Stage:
    if any(table.window.taps > 1 for table in stage.tables):
        raise UnwrittenError("a table read through a window")
    rows = [_table(table, writer) for table in stage.tables]

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        values[stage.value] = _side_by_side(rows)

    return write


@_declared.register
def _(stage: row_block.Linear, spec: row_block.RowBlock, writer: _Writer) -> _Stage:
    weight = writer.coded(stage.form) if stage.sources else ""
    if stage.packing == row_block.MVE_CODES and stage.form is not None and stage.form.block is None:
        writer.take()  # they have multipliers in any case
    bias = writer.take()
    small_tables = []
    for _ in stage.small_tables:
        table = writer.take()
        small_tables.append(f" + {table}[{writer.take()}]")
    residuals = [(_table(r, writer) if isinstance(r, row_block.Table) else r, writer.take()) for r in stage.residuals]
    acc = writer.fresh("acc")
    finish = _epilogue(stage.epilogue, acc, writer)
    name = _stem(bias, "bias")

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        read = [values[source] for source in stage.sources]
        terms = [(r if isinstance(r, str) else values[r], factor) for r, factor in residuals]
        matrix = f"unborrowed({weight})" if stage.packing == row_block.RAW_WORDS else weight
        dots = f"dot({_side_by_side(read)}, {matrix}) + " if read else ""
        writer.put(acc, f"{dots}{bias}{''.join(small_tables)}{_residuals(terms)}")
        out = writer.fresh(name) if stage.tensor is None else tensors[stage.tensor]
        finish(out)
        if stage.value is not None:
            values[stage.value] = out

    return write


@_declared.register
def _(stage: row_block.Attend, spec: row_block.RowBlock, writer: _Writer) -> _Stage:
    exp, step, ratio = (writer.take() for _ in range(3))
    name = _stem(ratio, "ratio")

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        out = values[stage.value] = writer.fresh(name)
        of = (values[stage.query], tensors[stage.keys], tensors[stage.values])
        _attend(writer, of, len(spec.values[stage.query].parts), (exp, step, ratio), out)

    return write


@_declared.register
def _(stage: row_block.Narrow, spec: row_block.RowBlock, writer: _Writer) -> _Stage:
    multiplier = writer.take()

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        out = values[stage.value] = writer.fresh(_stem(multiplier, "multiplier"))
        writer.put(out, f"saturate(multiply_high({values[stage.source]} * 2**{NARROW_BITS}, {multiplier}))")

    return write


@_declared.register
def _(stage: row_block.Gate, spec: row_block.RowBlock, writer: _Writer) -> _Stage:
    multiplier = writer.take()

    def write(values: dict[int, str], tensors: dict[int, str]) -> None:
        out, left, right = writer.fresh(_stem(multiplier, "multiplier")), values[stage.left], values[stage.right]
        values[stage.value] = out
        writer.put(out, f"saturate(multiply_high({left} * {right} * 2**{GATE_BITS}, {multiplier}))")

    return write
