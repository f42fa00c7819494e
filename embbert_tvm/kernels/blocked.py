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

from embbert_tvm.kernels import intrinsics
from embbert_tvm.kernels.attention import ENTRIES
from embbert_tvm.kernels.builder import argument, i32, i64, length, loop, prim_func, store, tokens, workspace
from embbert_tvm.kernels.epilogues import reciprocal_root
from embbert_tvm.kernels.fixed_point import clamp, multiply_high, saturate, saturate_unsigned
from embbert_tvm.kernels.intrinsics import LANES, ROWS, Isa

# A block's operands are taken this many columns at a time.
COLUMNS = 32
# A tile's accumulators are written out, not looped over: an array stays in registers only where every index is known.
TILE = tuple((r, c) for r in range(ROWS) for c in range(LANES))


def pairs_of(count):
    """Pairs of rows in a matrix of `count` rows, in whole blocks."""
    return (count + (ROWS - 1)) // ROWS * (ROWS // LANES)


def _fill_tile(acc, at: tuple, values) -> None:
    """acc[*at, r, c] = values[c] for the four rows."""
    for r, c in TILE:
        store(acc, values[c], *at, r, c)


def _normalize(scaled, gain, epsilon, out, block, n: int) -> None:
    """The rows of scaled (n / 2, 4, 2) over their root mean square, to rows 4 * block on of the pairs matrix `out`."""
    square_sum = workspace("square_sum", (1,), "int64")
    shift, inverse = workspace("shift", (1,), "int32"), workspace("inverse", (1,), "int32")
    with loop("r", ROWS) as r:
        store(square_sum, i64(epsilon[0]), 0)
        with loop("p", n // 2) as p:
            for c in range(LANES):
                store(square_sum, square_sum[0] + i64(scaled[p, r, c]) * i64(scaled[p, r, c]), 0)
        reciprocal_root(square_sum, shift, inverse)
        with loop("p", n // 2) as p:
            for c in range(LANES):
                unit = multiply_high(scaled[p, r, c] * (i32(1) << (i32(16) - shift[0])), inverse[0])
                row = block * (ROWS // LANES) + tirx.floordiv(r, LANES)
                store(out, saturate(multiply_high(unit, gain[p * 2 + c])), row, p * 2 + c, tirx.floormod(r, LANES))


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
            left = workspace("left", (k // 2, ROWS, 2), "int16")
            scaled = workspace("scaled", (n // 2, ROWS, LANES), "int32")
            acc = workspace("acc", (ROWS, LANES), "int32")
            with loop("b", (rows + (ROWS - 1)) // ROWS) as b:
                with loop("r", ROWS) as r:
                    # The last block repeats the last token.
                    at = tirx.min(b * ROWS + r, rows - 1)
                    for data, row, offset, width in ((x0, ids[0, at], 0, widths[0]), (x1, at, widths[0], widths[1])):
                        with loop("p", width // 2) as p:
                            for h in range(2):
                                store(left, tirx.Cast("int16", data[row, p * 2 + h]), offset // 2 + p, r, h)
                with loop("j", n // 2) as j:
                    for r, c in TILE:
                        kind = segment[0, tirx.min(b * ROWS + r, rows - 1)]
                        store(acc, bias[j * 2 + c] + lookup[kind, j * 2 + c], r, c)
                    intrinsics.dot(isa, acc, (), left, 0, weight, j, 0, k // 2)
                    for r, c in TILE:
                        store(scaled, multiply_high(acc[r, c], common[j * 2 + c]), j, r, c)
                _normalize(scaled, gain, epsilon, out, b, n)

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
            line = workspace("line", (taps + pairs * LANES,), "int16")
            filters = workspace("filters", (taps // 2 + 1, 2, 2), "int16")
            acc = workspace("acc", (4,), "int32")
            with loop("t", taps) as t:
                store(line, tirx.const(0, "int16"), t)
            with loop("c", channels) as c:
                with loop("p", pairs) as p:
                    for h in range(LANES):
                        store(line, tirx.Cast("int16", x[p, c, h]), taps + p * LANES + h)
                intrinsics.fir_weights(filters, weight, tirx.floordiv(c, 2), tirx.floormod(c, 2), taps)
                with loop("b", pairs // 2) as b:
                    for o in range(4):
                        store(acc, bias[c], o)
                    intrinsics.fir(isa, acc, line, b * 4, filters, taps)
                    for o in range(4):
                        level = clamp(multiply_high(acc[o], multiplier[c]))
                        store(out, table[level + 128], b * 2 + o // LANES, c, o % LANES)

    return prim_func(f"blocked_conv_{taps}x{channels}", body, compact=False)


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
            # weights; scores, then the product's scaled rows.
            left = workspace("left", (width, ROWS, 2), "int16")
            right = workspace("right", (tirx.max(pairs, width // 2), ROWS, 2), "int16")
            wide = workspace("wide", (tirx.max(pairs, width // 2), ROWS, LANES), "int32")
            acc, factor = workspace("acc", (ROWS, LANES), "int32"), workspace("factor", (ROWS,), "int32")
            with loop("b", pairs // 2) as b:
                intrinsics.widen(isa, left, 0, y, b * 2, width)
                with loop("j", width // 2) as j:
                    _fill_tile(acc, (), [query_bias[j * 2], query_bias[j * 2 + 1]])
                    intrinsics.dot(isa, acc, (), left, 0, query_weight, j, 0, width // 2)
                    for r, c in TILE:
                        query = clamp(multiply_high(acc[r, c], query_multiplier[j * 2 + c]))
                        store(right, tirx.Cast("int16", query), j, r, c)
                with loop("p", (count + 1) // 2) as p:
                    _fill_tile(wide, (p,), [i32(0), i32(0)])
                    intrinsics.dot(isa, wide, (p,), right, 0, y, p, 0, width // 2)
                _softmax(wide, right, factor, exp, step, ratio, count)
                with loop("j", width // 2) as j:
                    _fill_tile(acc, (), [i32(0), i32(0)])
                    intrinsics.context(isa, acc, right, y, j * 2, (count + 1) // 2)
                    for r, c in TILE:
                        store(left, tirx.Cast("int16", clamp(multiply_high(acc[r, c], factor[r]))), j, r, c)
                intrinsics.widen(isa, left, width // 2, conv_out, b * 2, width)
                with loop("j", width // 2) as j:
                    _fill_tile(acc, (), [bias[j * 2], bias[j * 2 + 1]])
                    intrinsics.dot(isa, acc, (), left, 0, weight, j, 0, width)
                    for r, c in TILE:
                        store(wide, multiply_high(acc[r, c], common[j * 2 + c]), j, r, c)
                _normalize(wide, gain, epsilon, conv_out, b, width)

    return prim_func(f"blocked_layer_{width}", body, compact=False)


def _softmax(score, weights, factor, exp, step, ratio, count) -> None:
    """attention.py's softmax of four rows: weights[p, r, c] from score[p, r, c], factor[r] from their sum.

    An odd length leaves the last pair's second column free: it takes part as a copy of a score that is there, and is
    taken out of the sum and set to weigh nothing afterwards.
    """
    peak, total = workspace("peak", (1,), "int32"), workspace("total", (1,), "int32")
    below, weight = workspace("below", (1,), "int32"), workspace("weight", (1,), "int32")
    last, odd = count // 2, tirx.floormod(count, 2) == 1
    with loop("r", ROWS) as r:
        with T.If(odd), T.Then():
            store(score, score[0, r, 0], last, r, 1)
        store(peak, score[0, r, 0], 0)
        with loop("p", (count + 1) // 2) as p:
            for c in range(LANES):
                store(peak, tirx.max(peak[0], score[p, r, c]), 0)
        store(total, i32(0), 0)
        with loop("p", (count + 1) // 2) as p:
            for c in range(LANES):
                store(below, peak[0] - score[p, r, c], 0)
                store(weight, i32(exp[saturate_unsigned(multiply_high(below[0], step[0]))]), 0)
                store(weights, tirx.Cast("int16", weight[0]), p, r, c)
                store(total, total[0] + weight[0], 0)
        with T.If(odd), T.Then():
            store(total, total[0] - i32(weights[last, r, 1]), 0)
            store(weights, tirx.const(0, "int16"), last, r, 1)
        inverse = tirx.truncdiv(i32(2**31 - 1), total[0]) << i32(6)
        store(factor, multiply_high(inverse, ratio[0]), r)
