"""What a kernel computes, as equations over whole matrices that stand in comments of the C.

They are written so that a reader can redo a step in NumPy; `legend` says what the functions in them mean. Integers come
out to the bit, norms to one step, as their root is taken in integers.
"""

from __future__ import annotations

import re
import textwrap
from collections import deque
from collections.abc import Iterable, Sequence
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
    source_of,
)
from embbert_tvm.codegen.row_block_equations import write_row_block
from embbert_tvm.escape import c_formula
from embbert_tvm.kernels import half
from embbert_tvm.kernels.attention import Attention
from embbert_tvm.kernels.convert import RESCALE_BITS, Rescale
from embbert_tvm.kernels.cumsum import Cumsum
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv
from embbert_tvm.kernels.gate import GATE_BITS, Gate
from embbert_tvm.kernels.integer_recurrence import IntegerRecurrence
from embbert_tvm.kernels.integer_scan import IntegerScan
from embbert_tvm.kernels.layouts import DSP_CODES
from embbert_tvm.kernels.pool import Pool
from embbert_tvm.kernels.pool_rows import PoolRows
from embbert_tvm.kernels.product import Product
from embbert_tvm.kernels.row_block import spec as row_block
from embbert_tvm.kernels.row_block.spec import Reach

# What stands above all, and lines of which those are printed that tell of a function, or a mark, which is used.
LEGEND = "Equations are of whole matrices, a row a token, in integers where nothing is divided:"
LEGEND_LINES: tuple[tuple[str, str], ...] = (
    (
        "dot( T(",
        "dot(a, b)[i, j] = the sum over the k of a of a[i, k] * b[j, k]; T(a) is a with rows and columns exchanged",
    ),
    (
        "multiply_high( saturate( saturate_wide(",
        "multiply_high(a, m) = (a * m + 2**31) >> 32; saturate() clamps to int8, saturate_wide() to int16",
    ),
    (
        "sum( max( mean( concat(",
        "sum(), max() and mean(), which is cut to an integer, are of each row; concat() puts columns side by side",
    ),
    ("by_distance(", "by_distance(v, L)[h, i, j] = v[h, j - i + (2M - 1) // 2], where v has 2M - 1 columns"),
    (
        "by_place(",
        "by_place(q, k, a, b, p)[h, i, j] = sum over c of q[h, i, c] * a[h, d, c] + k[h, j, c] * b[h, d, c], where "
        "d = p[h, j - i + (2M - 1) // 2] and p has 2M - 1 columns",
    ),
    (
        "heads( joined( per_head(",
        "heads(a, n) are n groups of columns, each for itself; joined() puts them side by side; per_head(v) is v[h] in "
        "head h",
    ),
    (
        "filter(",
        "filter(a, w, n, d)[i, c] = the sum over k of a[i + n + d * (k - taps + 1), c] * w[c, k], where rows outside "
        "of the\n  text are 0; d is 1 where it is not given",
    ),
    (
        "windows( rows_in(",
        "windows(a, n, s)[i] = the sum of n rows of a from i * s on, or of those there are, rows_in(a, n, s)[i]",
    ),
    ("running_sum(", "running_sum(a)[i] = a[0] + ... + a[i]"),
    ("spread( taps(", "spread(a, n)[i, c] = a[i, c / n]; taps(w)[c, k] = w[c][k / 2][0][k % 2]"),
    (
        "scan(",
        "scan(m, x)[i] = multiply_high(2 * scan(m, x)[i - 1], m[i]) + x[i], which is 0 before the text; None is an "
        "index more",
    ),
    (
        "[token]",
        "equations of [token] are done together, token by token, from the last where they read [token + 1]; what "
        "they read\n  outside of the text is 0",
    ),
    ("look(", "look(a, x) = a[y >> 8] + ((a[(y >> 8) + 1] - a[y >> 8]) * (y & 255) + 128 >> 8), y = x + 2**15"),
    ("unborrowed(", "unborrowed(w)[i, j] is w[i, j], and for odd i one more where w[i - 1, j] is negative"),
    ("half(", "half() rounds to float16, to which kernels may round in between, too: results are near these"),
    (
        "sigmoid( silu( gelu( relu(",
        "sigmoid(x) = 1 / (1 + exp(-x)); silu(x) = x * sigmoid(x); gelu(x) = x / 2 * (1 + erf(x / sqrt(2))); relu() "
        "clamps\n  below 0",
    ),
)
LAYOUTS: tuple[tuple[str, str], ...] = (
    ("", "A weight or tensor of shape (n / 2, k, 2) is a matrix (n, k): element [i, j] lies at [i / 2][j][i % 2]."),
    (
        "half(",
        "A tensor of halves of shape (n / 8, k, 8) is one too: [i, j] lies at [i / 8][j][i % 8]; and a weight of "
        "shape\n(n / 4, k / 2, 2, 4): [i, j] lies at [i / 4][j / 2][j % 2][i % 4].",
    ),
)


def legend(formulas: Iterable[str]) -> list[str]:
    """Lines that say what the functions of some equations mean."""
    text = "\n".join(formulas)
    used = {f"{name}(" for name in re.findall(r"(\w+)\(", text)} | ({"[token]"} if "[token]" in text else set())
    lines = [f"  {line}" for marks, line in LEGEND_LINES if used.intersection(marks.split())]
    lines += [line for mark, line in LAYOUTS if not mark or mark in used]
    return "\n".join([LEGEND, *lines]).splitlines()


def equations(spec: object, names: Sequence[str]) -> tuple[str, ...]:
    """The equations of a kernel by its specification; none where none are written for it.

    names: of the kernel's arguments in their order, those that it makes included.
    """
    writer = Writer(deque(names), used=set(names))
    try:
        _write(spec, writer)
    except (UnwrittenError, IndexError):
        return ()
    # Arguments that are left over are of a kernel that is not as these equations know it.
    return () if writer.names else tuple(_without_copies(writer.lines))


def _without_copies(lines: Sequence[str]) -> list[str]:
    """Equations without those that only give the value before them, which nothing else reads, another name."""
    found: list[str] = []
    for line in lines:
        copy = re.fullmatch(r"(\w+) = (\w+)", line)
        if copy and found and found[-1].startswith(f"{copy[2]} = ") and _reads(lines, copy[2]) == 1:
            found[-1] = f"{copy[1]} = {found[-1].partition(' = ')[2]}"
        else:
            found.append(line)
    return found


def _reads(lines: Iterable[str], name: str) -> int:
    return sum(len(re.findall(rf"\b{name}\b", line.partition(" = ")[2])) for line in lines)


def comment(lines: Sequence[str], indent: str) -> list[str]:
    """Equations as lines of a C comment; what goes on below is indented further."""
    found = []
    for line in lines:
        text = textwrap.wrap(c_formula(line), 104 - len(indent), subsequent_indent="    ", break_long_words=False)
        found += [f"{indent}{part}" for part in text]
    return found


@singledispatch
def _write(spec: object, writer: Writer) -> None:
    raise UnwrittenError(type(spec).__name__)


@_write.register
def _(spec: Product, writer: Writer) -> None:
    if spec.skipped:
        raise UnwrittenError("rows that are not made")
    read = [source_of(source, writer) for source in spec.sources]
    weight = writer.coded(None if spec.packing == DSP_CODES else spec.weight_format) if read else ""
    bias = writer.take()
    acc = f"dot({side_by_side(read)}, {weight}) + {bias}" if read else bias
    for _ in spec.small_tables:
        table = writer.take()
        acc += f" + {table}[{writer.take()}]"
    acc += residual_terms([(source_of(residual, writer), writer.take()) for residual in spec.residuals])
    finish = epilogue_of(spec.epilogue, acc, writer)
    finish(writer.take())


@_write.register
def _(spec: DepthwiseConv, writer: Writer) -> None:
    x, weight, bias = writer.take(), writer.coded(spec.weight_format), writer.take()
    # Codes are stored a channel after the other, and so is what a filter along row-interleaved rows reads.
    by_channel = spec.weight_format is not None or (spec.interleaved and spec.row is None)
    weight = weight if by_channel else f"T({weight})"
    rows = "" if spec.row is None else f"[{spec.row}:{spec.row + 1}]"
    rows_made = filtered(x, weight, spec.expansion, Reach(spec.taps, spec.after, spec.dilation))
    finish = epilogue_of(spec.epilogue, f"{rows_made}{rows} + {bias}", writer)
    finish(writer.take())


@_write.register
def _(spec: Pool, writer: Writer) -> None:
    x, constants = writer.take(), [writer.take() for _ in range(1 + (spec.kind == "rms"))]
    pooled(spec, x, constants, writer.take(), writer)


@_write.register
def _(spec: PoolRows, writer: Writer) -> None:
    x, multiplier, out = (writer.take() for _ in range(3))
    rows_pooled(spec, x, multiplier, out, writer)


@_write.register
def _(spec: IntegerScan, writer: Writer) -> None:
    of, constants = [writer.take() for _ in range(4)], [writer.take() for _ in range(6)]
    scanned(spec, of, constants, writer.take(), writer)


@_write.register
def _(spec: Attention, writer: Writer) -> None:
    query, key, value, exp, multiplier, ratio = (writer.take() for _ in range(6))
    added = added_to_scores(spec, 1, spec.one_row, writer)
    attention(writer, (query, key, value), 1, (exp, multiplier, ratio), writer.take(), added(query, key))


@_write.register
def _(spec: Cumsum, writer: Writer) -> None:
    x, out = writer.take(), writer.take()
    writer.put(out, f"running_sum({x})")


@_write.register
def _(spec: Rescale, writer: Writer) -> None:
    x, multiplier, out = (writer.take() for _ in range(3))
    rows = "" if spec.row is None else f"[{spec.row}:{spec.row + 1}]"
    writer.put(out, f"saturate(multiply_high({x}{rows} * 2**{RESCALE_BITS}, {multiplier}))")


@_write.register
def _(spec: Gate, writer: Writer) -> None:
    a, b, multiplier, out = (writer.take() for _ in range(4))
    left, right = (
        name if row is None else f"{name}[{row}:{row + 1}]" for name, row in zip((a, b), spec.rows, strict=True)
    )
    writer.put(out, f"saturate(multiply_high({left} * {right} * 2**{GATE_BITS}, {multiplier}))")


@_write.register
def _(spec: IntegerRecurrence, writer: Writer) -> None:
    given, constants = writer.take(), [writer.take() for _ in range(len(spec.matrices) + 6)]
    recurred(spec, given, constants, writer.take(), writer)


def _half_rows(source: half.HalfInput, one_row: bool, writer: Writer) -> str:
    """How a kernel of halves reads an operand."""
    name = writer.take()
    if source.indexed:
        return f"{name}[{writer.take()}{'[0:1]' if one_row else ''}]"
    return f"{name}[0:1]" if one_row else name if source.table is None else f"{name}[0:L]"


@_write.register
def _(spec: half.HalfProduct, writer: Writer) -> None:
    dots = []
    for source in spec.sources:
        read = _half_rows(source, spec.one_row, writer)
        dots.append(f"dot({read}, T({writer.take()}))")
    bias = writer.take()
    tables = [half.HalfInput(spec.n, size, True) for size in spec.small_tables]
    terms = [*dots, bias, *(_half_rows(source, spec.one_row, writer) for source in (*tables, *spec.residuals))]
    vectors = [writer.take() for _ in range({None: 0, "rms_norm": 1, "layer_norm": 2}[spec.norm])]
    half_result(spec, " + ".join(terms), vectors, writer)(writer.take())


@_write.register
def _(spec: half.HalfAttention, writer: Writer) -> None:
    query, key, value = (writer.take() for _ in range(3))
    half_attention(f"{query}[0:1]" if spec.one_row else query, key, value, writer.take(), writer)


@_write.register
def _(spec: half.HalfConv, writer: Writer) -> None:
    x, weight, bias = (writer.take() for _ in range(3))
    row = "[0:1]" if spec.one_row else ""
    rows = filtered(x, weight, spec.expansion, Reach(spec.taps))
    writer.put(writer.take(), f"half({activated(spec.activation, f'{rows}{row} + {bias}')})")


_write.register(row_block.RowBlock, write_row_block)
