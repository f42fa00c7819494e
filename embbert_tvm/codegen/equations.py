"""What a kernel computes, as equations over whole matrices that stand in comments of the C.

They are written so that a reader can redo a step in NumPy; `LEGEND` says what the functions in them mean. Integers come
out to the bit, norms to one step, as their root is taken in integers.
"""

from __future__ import annotations

import textwrap
from collections import deque
from collections.abc import Sequence
from functools import singledispatch

from embbert_tvm.codegen.equation_writer import (
    UnwrittenError,
    Writer,
    attention,
    epilogue_of,
    filtered,
    pooled,
    residual_terms,
    scanned,
    side_by_side,
    source_of,
)
from embbert_tvm.codegen.row_block_equations import write_row_block
from embbert_tvm.escape import c_formula
from embbert_tvm.kernels.attention import Attention
from embbert_tvm.kernels.convert import RESCALE_BITS, Rescale
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv
from embbert_tvm.kernels.gate import GATE_BITS, Gate
from embbert_tvm.kernels.integer_scan import IntegerScan
from embbert_tvm.kernels.layouts import DSP_CODES
from embbert_tvm.kernels.pool import Pool
from embbert_tvm.kernels.product import Product
from embbert_tvm.kernels.row_block import spec as row_block

LEGEND = """\
Equations are of whole matrices, a row a token, in integers where nothing is divided:
  dot(a, b)[i, j] = the sum over the k of a of a[i, k] * b[j, k]; T(a) is a with rows and columns exchanged
  multiply_high(a, m) = (a * m + 2**31) >> 32; saturate() clamps to int8, saturate_wide() to int16
  sum(), max() and mean(), which is cut to an integer, are of each row; concat() puts columns side by side
  heads(a, n) are n groups of columns, each for itself; joined() puts them side by side; per_head(v) is v[h] in head h
  filter(a, w, n)[i, c] = the sum over k of a[i + n + k - taps + 1, c] * w[c, k], where rows outside of the text are 0
  spread(a, n)[i, c] = a[i, c / n]; taps(w)[c, k] = w[c][k / 2][0][k % 2]
  scan(m, x)[i] = multiply_high(2 * scan(m, x)[i - 1], m[i]) + x[i], which is 0 before the text; None is an index more
  unborrowed(w)[i, j] is w[i, j], and for odd i one more where w[i - 1, j] is negative
A weight or tensor of shape (n / 2, k, 2) is a matrix (n, k): element [i, j] lies at [i / 2][j][i % 2]."""


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
    return () if writer.names else tuple(writer.lines)


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
    if spec.dilation != 1:
        raise UnwrittenError("a filter that skips rows")
    x, weight, bias = writer.take(), writer.coded(spec.weight_format), writer.take()
    # Codes are stored a channel after the other, and so is what a filter along row-interleaved rows reads.
    by_channel = spec.weight_format is not None or (spec.interleaved and spec.row is None)
    weight = weight if by_channel else f"T({weight})"
    rows = "" if spec.row is None else f"[{spec.row}:{spec.row + 1}]"
    rows_made = filtered(x, weight, spec.expansion, spec.after)
    finish = epilogue_of(spec.epilogue, f"{rows_made}{rows} + {bias}", writer)
    finish(writer.take())


@_write.register
def _(spec: Pool, writer: Writer) -> None:
    x, constants = writer.take(), [writer.take() for _ in range(1 + (spec.kind == "rms"))]
    pooled(spec, x, constants, writer.take(), writer)


@_write.register
def _(spec: IntegerScan, writer: Writer) -> None:
    of, constants = [writer.take() for _ in range(4)], [writer.take() for _ in range(6)]
    scanned(spec, of, constants, writer.take(), writer)


@_write.register
def _(spec: Attention, writer: Writer) -> None:
    query, key, value, exp, step, ratio, out = (writer.take() for _ in range(7))
    attention(writer, (query, key, value), 1, (exp, step, ratio), out)


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


_write.register(row_block.RowBlock, write_row_block)
