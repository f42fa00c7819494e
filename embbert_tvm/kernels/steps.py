"""The steps of a layer on a block of four rows: for an ISA of tiles the loops around its tiles, for one of whole blocks
the calls of the micro-kernels of micro/embbert_mve.h. A described ISA writes the loops, which define the bits.

A block (intrinsics.py) of 8 bits or so is an operand, one of int32 holds sums; `wide` has room for the sums of a step.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels import intrinsics
from embbert_tvm.kernels.builder import i32, i64, loop, store, workspace
from embbert_tvm.kernels.epilogues import reciprocal_root
from embbert_tvm.kernels.fixed_point import clamp, multiply_high, saturate, saturate_unsigned
from embbert_tvm.kernels.intrinsics import LANES, ROWS, Isa, address, call
from embbert_tvm.kernels.low_bits import Codes

# A tile's accumulators are written out, not looped over: an array stays in registers only where every index is known.
TILE = tuple((r, c) for r in range(ROWS) for c in range(LANES))


def _tile():
    return workspace("acc", (ROWS, LANES), "int32")


def widen(isa: Isa, out, column: int, rows, first) -> None:
    """out[at(r, column + k)] = rows[first + r / 2, k, r % 2] for four rows r. rows int8 (n, width, 2)."""
    width = int(rows.shape[1])
    if isa.calls:
        name = "embbert_mve_widen" if isa.whole else "embbert_dsp_widen_4"
        pairs = (address(rows, first, 0, 0), address(rows, first + 1, 0, 0))
        call(name, address(out, column // isa.columns, 0, 0), *pairs, width)
        return
    with loop("k", width) as k, loop("r", ROWS) as r:
        value = rows[first + tirx.floordiv(r, LANES), k, tirx.floormod(r, LANES)]
        store(out, tirx.Cast(isa.dtype, value), *isa.at(r, column + k))


def _product(sums, left, weight, pairs) -> None:
    k = int(weight.shape[1])
    call("embbert_mve_product", address(sums, 0, 0, 0), address(left, 0, 0, 0), address(weight, 0, 0, 0), pairs, k)


def _sums(isa: Isa, sums, left, weight, pairs: int, tile) -> None:
    """`_product`, of codes a pair of rows at a time."""
    if not isinstance(weight, Codes):
        _product(sums, left, weight, pairs)
        return
    with loop("j", pairs) as j:
        weight.unpack_pair(isa, tile, j)
        columns = isa.columns // LANES
        at = address(sums, tirx.floordiv(j, columns), 0, tirx.floormod(j, columns) * LANES)
        call("embbert_mve_product", at, address(left, 0, 0, 0), address(tile, 0, 0, 0), 1, weight.k)


def _dot(isa: Isa, acc, left, weight, j, tile) -> None:
    if isinstance(weight, Codes):
        weight.unpack_pair(isa, tile, j)
        intrinsics.dot(isa, acc, (), left, tile, 0, weight.k)
    else:
        intrinsics.dot(isa, acc, (), left, weight, j)


def requantized(isa: Isa, out, wide, left, weight, bias, multiplier, tile=None) -> None:
    """tile: int8 (1, k, 2) to work in where the weights are codes.

    out[at(r, j)] = clamp(multiply_high(bias[j] + left . weight[j], multiplier[j]))."""
    n = int(bias.shape[0])
    if isa.whole:
        _sums(isa, wide, left, weight, n // LANES, tile)
        args = (address(wide, 0, 0, 0), address(bias, 0), address(multiplier, 0))
        call("embbert_mve_requantize", address(out, 0, 0, 0), *args, n)
        return
    acc = _tile()
    with loop("j", n // LANES) as j:
        for r, c in TILE:
            store(acc, bias[j * LANES + c], r, c)
        _dot(isa, acc, left, weight, j, tile)
        for r, c in TILE:
            column = j * LANES + c
            value = clamp(multiply_high(acc[r, c], multiplier[column]))
            store(out, tirx.Cast(isa.dtype, value), *isa.at(r, column))


def scores(isa: Isa, out, left, rows, count) -> None:
    """out[at(r, j)] = left . row j of the pairs matrix `rows`, j < count; where count is odd one more."""
    pairs = (count + 1) // LANES
    if isa.whole:
        _product(out, left, rows, pairs)
        return
    if isa.columns == LANES:
        with loop("p", pairs) as p:
            for r, c in TILE:
                store(out, i32(0), p, r, c)
            intrinsics.dot(isa, out, (p,), left, rows, p)
        return
    acc = _tile()
    with loop("p", pairs) as p:
        for r, c in TILE:
            store(acc, i32(0), r, c)
        intrinsics.dot(isa, acc, (), left, rows, p)
        for r, c in TILE:
            store(out, acc[r, c], *isa.at(r, p * LANES + c))


def softmax(isa: Isa, weights, factor, score, exp, step, ratio, count) -> None:
    """attention.py's softmax of four rows: weights[at(r, j)] from score[at(r, j)], factor[r] from their sum."""
    total = workspace("total", (ROWS,), "int32")
    if isa.whole:
        args = (address(total, 0), address(score, 0, 0, 0), address(exp, 0), step[0], count)
        call("embbert_mve_softmax", address(weights, 0, 0, 0), *args)
    else:
        with loop("r", ROWS) as r:
            _softmax_row(isa, weights, total, score, exp, step, count, r)
    with loop("r", ROWS) as r:
        inverse = tirx.truncdiv(i32(2**31 - 1), total[r]) << i32(6)
        store(factor, multiply_high(inverse, ratio[0]), r)


def _softmax_row(isa: Isa, weights, total, score, exp, step, count, r) -> None:
    """An odd length leaves the last pair's second column free: it takes part as a copy of a score that is there, and is
    taken out of the sum and set to weigh nothing afterwards."""
    peak, sum_ = workspace("peak", (1,), "int32"), workspace("sum", (1,), "int32")
    below, weight = workspace("below", (1,), "int32"), workspace("weight", (1,), "int32")
    odd = tirx.floormod(count, LANES) == 1
    with T.If(odd), T.Then():
        store(score, score[isa.at(r, 0)], *isa.at(r, count))
    store(peak, score[isa.at(r, 0)], 0)
    with loop("p", (count + 1) // LANES) as p:
        for c in range(LANES):
            store(peak, tirx.max(peak[0], score[isa.at(r, p * LANES + c)]), 0)
    store(sum_, i32(0), 0)
    with loop("p", (count + 1) // LANES) as p:
        for c in range(LANES):
            at = isa.at(r, p * LANES + c)
            store(below, peak[0] - score[at], 0)
            store(weight, i32(exp[saturate_unsigned(multiply_high(below[0], step[0]))]), 0)
            store(weights, tirx.Cast(isa.dtype, weight[0]), *at)
            store(sum_, sum_[0] + weight[0], 0)
    with T.If(odd), T.Then():
        store(sum_, sum_[0] - i32(weights[isa.at(r, count)]), 0)
        store(weights, tirx.const(0, isa.dtype), *isa.at(r, count))
    store(total, sum_[0], r)


def attended(isa: Isa, out, wide, weights, values, factor, count) -> None:
    """out[at(r, k)] = clamp(multiply_high(sum_j weights[at(r, j)] * row j of values [k], factor[r]))."""
    width = int(values.shape[1])
    if isa.whole:
        sums = address(wide, 0, 0, 0)
        call("embbert_mve_context", sums, address(weights, 0, 0, 0), address(values, 0, 0, 0), count, width)
        call("embbert_mve_rescale", address(out, 0, 0, 0), sums, address(factor, 0), width)
        return
    acc = _tile()
    with loop("j", width // LANES) as j:
        for r, c in TILE:
            store(acc, i32(0), r, c)
        intrinsics.context(isa, acc, weights, values, j * LANES, (count + 1) // LANES)
        for r, c in TILE:
            value = clamp(multiply_high(acc[r, c], factor[r]))
            store(out, tirx.Cast(isa.dtype, value), *isa.at(r, j * LANES + c))


def normalized(isa: Isa, out, block, wide, left, weight, bias, start: Callable | None, norm: tuple, tile=None) -> None:
    """Rows 4 * block on of the pairs matrix `out`: RmsNorm of left . weight[j] + bias[j] + start(r, j).

    norm: RmsNorm's common, epsilon and gain. tile: as `requantized` takes it.
    """
    common, epsilon, gain = norm
    n = int(bias.shape[0])
    first = block * (ROWS // LANES)
    shift, inverse = workspace("shift", (1,), "int32"), workspace("inverse", (1,), "int32")
    square_sum = workspace("square_sum", (1,), "int64")
    if isa.whole:
        squares = workspace("squares", (ROWS,), "int64")
        lefts, inverses = workspace("lefts", (ROWS,), "int32"), workspace("inverses", (ROWS,), "int32")
        sums = address(wide, 0, 0, 0)
        _sums(isa, wide, left, weight, n // LANES, tile)
        if start is not None:
            with loop("r", ROWS) as r, loop("j", n // isa.columns) as j, loop("c", isa.columns) as c:
                store(wide, wide[j, r, c] + start(r, j * isa.columns + c), j, r, c)
        call("embbert_mve_scale", address(squares, 0), sums, address(bias, 0), address(common, 0), epsilon[0], n)
        with loop("r", ROWS) as r:
            store(square_sum, squares[r], 0)
            reciprocal_root(square_sum, shift, inverse)
            store(lefts, i32(16) - shift[0], r)
            store(inverses, inverse[0], r)
        args = (sums, address(lefts, 0), address(inverses, 0), address(gain, 0), n)
        call("embbert_mve_normalize", address(out, first, 0, 0), address(out, first + 1, 0, 0), *args)
        return
    acc = _tile()
    with loop("j", n // LANES) as j:
        for r, c in TILE:
            column = j * LANES + c
            store(acc, bias[column] if start is None else bias[column] + start(r, column), r, c)
        _dot(isa, acc, left, weight, j, tile)
        for r, c in TILE:
            column = j * LANES + c
            store(wide, multiply_high(acc[r, c], common[column]), *isa.at(r, column))
    with loop("r", ROWS) as r:
        store(square_sum, i64(epsilon[0]), 0)
        with loop("p", n // LANES) as p:
            for c in range(LANES):
                scaled = i64(wide[isa.at(r, p * LANES + c)])
                store(square_sum, square_sum[0] + scaled * scaled, 0)
        reciprocal_root(square_sum, shift, inverse)
        with loop("p", n // LANES) as p:
            for c in range(LANES):
                column = p * LANES + c
                unit = multiply_high(wide[isa.at(r, column)] * (i32(1) << (i32(16) - shift[0])), inverse[0])
                row = first + tirx.floordiv(r, LANES)
                store(out, saturate(multiply_high(unit, gain[column])), row, column, tirx.floormod(r, LANES))


def row_product(isa: Isa, acc, row, weight) -> None:
    """acc[j] += row . weight[j]. acc int32 (n,); row int8 (k,); weight int8 (n, k) or its codes."""
    if isinstance(weight, Codes):
        tile = workspace("tile", (weight.k,), "int8")
        with loop("j", weight.rows) as j:
            weight.unpack_row(tile, j)
            if isa.whole:
                call("embbert_mve_rows", address(acc, j), address(row, 0), address(tile, 0), 1, weight.k)
            else:
                with loop("k", weight.k) as i:
                    store(acc, acc[j] + i32(row[i]) * i32(tile[i]), j)
        return
    n, k = (int(dim) for dim in weight.shape)
    if isa.whole:
        call("embbert_mve_rows", address(acc, 0), address(row, 0), address(weight, 0, 0), n, k)
        return
    with loop("j", n) as j, loop("k", k) as i:
        store(acc, acc[j] + i32(row[i]) * i32(weight[j, i]), j)


def filtered(isa: Isa, out, x, c, line, weight, pair, bias, multiplier, table) -> None:
    """Channel c of out: a causal filter along the rows of the pairs matrix x, and a table of what it gives.

    weight int8 (..., taps, 2), at `pair` the channel's; line a workspace of `line_of`.
    """
    taps, channels, pairs = int(weight.shape[1]), int(x.shape[1]), x.shape[0]
    if isa.whole:
        tap = address(weight, pair, 0, tirx.floormod(c, LANES))
        args = (address(x, 0, c, 0), address(line, 0), tap, bias[c], multiplier[c], address(table, 0))
        call("embbert_mve_filter", address(out, 0, c, 0), *args, pairs, channels, taps)
        return
    filters, acc = workspace("filters", (taps // 2 + 1, 2, 2), "int16"), workspace("acc", (4,), "int32")
    with loop("p", pairs) as p:
        for h in range(LANES):
            store(line, tirx.Cast("int16", x[p, c, h]), taps + p * LANES + h)
    intrinsics.fir_weights(filters, weight, pair, tirx.floormod(c, LANES), taps)
    with loop("b", pairs // 2) as b:
        for o in range(4):
            store(acc, bias[c], o)
        intrinsics.fir(isa, acc, line, b * 4, filters, taps)
        for o in range(4):
            level = clamp(multiply_high(acc[o], multiplier[c]))
            store(out, table[level + 128], b * 2 + o // LANES, c, o % LANES)


def line_of(isa: Isa, taps: int, pairs):
    """One channel's samples after as many zeros as there are taps."""
    if isa.whole:
        return workspace("line", (taps + pairs * LANES + 31,), "int8")
    line = workspace("line", (taps + pairs * LANES,), "int16")
    with loop("t", taps) as t:
        store(line, tirx.const(0, "int16"), t)
    return line
