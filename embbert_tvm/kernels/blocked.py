"""Kernels that work on four rows at a time, each bit for bit what the kernels of one row compute.

Activations lie as pairs matrices, int8 (rows / 2, width, 2): rows 2i and 2i + 1 side by side (intrinsics.py). Their
rows come in whole blocks of four; rows past the length hold anything and are never read into a result.

`layer` is a whole EmbBERT layer over one block after another: queries, scores, softmax, context, and one product with
RMSNorm straight from its accumulators. What it needs at once is its input, the convolution's output, which it
overwrites with its own, and a few rows.
"""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels import steps
from embbert_tvm.kernels.attention import ENTRIES
from embbert_tvm.kernels.builder import argument, length, loop, prim_func, store, tokens, workspace
from embbert_tvm.kernels.intrinsics import LANES, ROWS, Isa

# A block's operands are taken this many columns at a time.
COLUMNS = 32


def pairs_of(count):
    """Pairs of rows in a matrix of `count` rows, in whole blocks."""
    return (count + (ROWS - 1)) // ROWS * (ROWS // LANES)


def embedding(widths: tuple[int, int], tables: tuple[int, int], segments: int, n: int, isa: Isa) -> tirx.PrimFunc:
    """product(Product((Source(indexed), Source(table)), n, RmsNorm(), (segments,))) over pairs matrices.

    Arguments: x0 int8 (tables[0], widths[0]), its ids int32 (1, L), x1 int8 (tables[1], widths[1]); weight int8
    (n / 2, k, 2); bias (n,); lookup int32 (segments, n), its ids; common, epsilon, gain; out int8 (pairs, n, 2).
    """
    k = sum(widths)

    def body() -> None:
        rows = length()
        x0 = argument("x0", (tables[0], widths[0]), "int8")
        ids = argument("x0_ids", (1, rows), "int32")
        x1 = argument("x1", (tables[1], widths[1]), "int8")
        weight = argument("weight", (n // 2, k, LANES), "int8")
        bias = argument("bias", (n,), "int32")
        lookup = argument("table0", (segments, n), "int32")
        segment = argument("table0_ids", (1, rows), "int32")
        common, epsilon = argument("common", (n,), "int32"), argument("epsilon", (1,), "int32")
        gain = argument("gain", (n,), "int32")
        out = argument("out", (pairs_of(rows), n, LANES), "int8")
        with T.sblock("embedding"):
            left, wide = isa.operand("left", k), isa.sums("wide", n)
            with loop("b", (rows + (ROWS - 1)) // ROWS) as b:

                def at(r):
                    """The last block repeats the last token."""
                    return tirx.min(b * ROWS + r, rows - 1)

                with loop("r", ROWS) as r:
                    for data, row, offset, width in ((x0, ids[0, at(r)], 0, widths[0]), (x1, at(r), *widths)):
                        with loop("k", width) as i:
                            store(left, tirx.Cast(isa.dtype, data[row, i]), *isa.at(r, offset + i))
                norm = (common, epsilon, gain)
                steps.normalized(isa, out, b, wide, left, weight, bias, lambda r, j: lookup[segment[0, at(r)], j], norm)

    return prim_func(f"blocked_embedding_{widths[0]}_{widths[1]}x{n}", body, compact=False)


def conv(taps: int, channels: int, isa: Isa) -> tirx.PrimFunc:
    """depthwise_conv(taps, channels, Activate()) over pairs matrices, two channels at a time along the text.

    Arguments: x int8 (pairs, channels, 2); weight int8 (channels / 2, taps, 2); bias, multiplier int32 (channels,);
    table int8 (256,); out int8 (pairs, channels, 2).
    """

    def body() -> None:
        pairs = length("M")
        x = argument("x", (pairs, channels, LANES), "int8")
        weight = argument("weight", (channels // 2, taps, 2), "int8")
        bias = argument("bias", (channels,), "int32")
        multiplier, table = argument("multiplier", (channels,), "int32"), argument("table", (256,), "int8")
        out = argument("out", (pairs, channels, LANES), "int8")
        with T.sblock("conv"):
            line = steps.line_of(isa, taps, pairs)
            with loop("c", channels) as c:
                steps.filtered(isa, out, x, c, line, weight, bias, multiplier, table)

    return prim_func(f"blocked_conv_{taps}x{channels}", body, compact=False)


def attention_row(width: int, isa: Isa) -> tirx.PrimFunc:
    """attention(Attention(width, single=True, pairs=True)) as a block of four rows, all the same.

    Arguments: L; query int8 (1, width); key, value int8 (pairs, width, 2); table int8 (256,); step, ratio int32 (1,);
    out int8 (1, width).
    """

    def body() -> None:
        count, pairs = tokens(), length("M")
        query = argument("query", (1, width), "int8")
        key, value = (argument(name, (pairs, width, LANES), "int8") for name in ("key", "value"))
        table = argument("table", (ENTRIES,), "int8")
        step, ratio = argument("step", (1,), "int32"), argument("ratio", (1,), "int32")
        out = argument("out", (1, width), "int8")
        with T.sblock("attention"):
            columns = tirx.max(pairs * LANES, width)
            left, right, wide = isa.operand("left", width), isa.operand("right", columns), isa.sums("wide", columns)
            factor = workspace("factor", (ROWS,), "int32")
            with loop("r", ROWS) as r, loop("k", width) as k:
                store(left, tirx.Cast(isa.dtype, query[0, k]), *isa.at(r, k))
            steps.scores(isa, wide, left, key, count)
            steps.softmax(isa, right, factor, wide, table, step, ratio, count)
            steps.attended(isa, left, wide, right, value, factor, count)
            with loop("k", width) as k:
                store(out, tirx.Cast("int8", left[isa.at(0, k)]), 0, k)

    return prim_func(f"blocked_attention_row_{width}", body, compact=False)


def layer(width: int, isa: Isa) -> tirx.PrimFunc:
    """A layer: product to int8 queries, attention over the input, and the joined product with RMSNorm.

    Arguments: L; y int8 (pairs, width, 2); query_weight int8 (width / 2, width, 2), query_bias, query_multiplier int32
    (width,); exp int8 (256,); step, ratio int32 (1,); weight int8 (width / 2, 2 * width, 2): of the context, then of
    the convolution; bias, common int32 (width,); epsilon int32 (1,); gain int32 (width,); conv int8 (pairs, width, 2):
    the convolution's output, overwritten with the layer's.
    """

    def body() -> None:
        count, pairs = tokens(), length("M")
        y = argument("y", (pairs, width, LANES), "int8")
        query_weight = argument("query_weight", (width // 2, width, LANES), "int8")
        query_bias, query_multiplier = (
            argument(name, (width,), "int32") for name in ("query_bias", "query_multiplier")
        )
        exp = argument("exp", (ENTRIES,), "int8")
        step, ratio = argument("step", (1,), "int32"), argument("ratio", (1,), "int32")
        weight = argument("weight", (width // 2, 2 * width, LANES), "int8")
        bias, common = argument("bias", (width,), "int32"), argument("common", (width,), "int32")
        epsilon, gain = argument("epsilon", (1,), "int32"), argument("gain", (width,), "int32")
        conv_out = argument("conv", (pairs, width, LANES), "int8")
        with T.sblock("layer"):
            # Each of these serves twice: the block's rows, then context and convolution; queries, then softmax
            # weights; sums of every product.
            columns = tirx.max(pairs * LANES, width)
            left = isa.operand("left", 2 * width)
            right, wide = isa.operand("right", columns), isa.sums("wide", columns)
            factor = workspace("factor", (ROWS,), "int32")
            with loop("b", pairs // 2) as b:
                steps.widen(isa, left, 0, y, b * 2)
                steps.requantized(isa, right, wide, left, query_weight, query_bias, query_multiplier)
                steps.scores(isa, wide, right, y, count)
                steps.softmax(isa, right, factor, wide, exp, step, ratio, count)
                steps.attended(isa, left, wide, right, y, factor, count)
                steps.widen(isa, left, width, conv_out, b * 2)
                norm = (common, epsilon, gain)
                steps.normalized(isa, conv_out, b, wide, left, weight, bias, None, norm)

    return prim_func(f"blocked_layer_{width}", body, compact=False)
