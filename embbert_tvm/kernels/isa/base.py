"""What an instruction set does to a block of four rows, in plain TIR: the semantics that every other one must meet.

A block operand holds ROWS rows of small integers, `columns` columns of each together: (k / columns, ROWS, columns). A
block of sums has the same layout and is int32. A tensor between kernels is row-interleaved, int8 (L / 2, K, 2): rows 2i
and 2i + 1 side by side, in whole blocks; rows past the length hold anything.

The methods of `Isa` write loops. A subclass overrides those for which it has a micro-kernel, and takes the loops where
`intrinsic` is false, so that TVM's LLVM build can run its layouts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

from tvm import tirx

from embbert_tvm.kernels.builder import From, i32, loop, store, workspace
from embbert_tvm.kernels.fixed_point import clamp, multiply_high
from embbert_tvm.kernels.isa.destination import Destination
from embbert_tvm.kernels.isa.norm import Norm, normalize_rows, normalize_sums
from embbert_tvm.kernels.isa.registry import MicroKernel
from embbert_tvm.kernels.isa.softmax import context_factor, softmax_row
from embbert_tvm.kernels.isa.taps import lay_out_taps
from embbert_tvm.kernels.layouts import INTERLEAVE, ROWS
from embbert_tvm.kernels.low_bits import Codes, CompressedVector, WeightFormat

# A tile's accumulators are written out, not looped over: an array stays in registers only where every index is known.
TILE = tuple((r, c) for r in range(ROWS) for c in range(INTERLEAVE))


@dataclass(frozen=True)
class Added:
    """What is added to accumulators, by row of the block and column. residual: a block operand and factors, if all.
    tables: compressed tables, each with a function from a row of the block to one of its own, if these are all."""

    at: Callable[[object, object], object]
    residual: tuple[object, object] | None = None
    tables: tuple[tuple[CompressedVector, Callable], ...] = ()

    def __call__(self, row, column):
        return self.at(row, column)


Start = Added | None


@dataclass(frozen=True)
class Isa:
    """How one instruction set lays out and multiplies a block of `rows` rows.

    interleave: rows that lie side by side in a tensor. micro_kernels: those that its methods call. raw_tile: rows and
    columns of a tile whose weights are raw words. row_cost: MACs of one-row kernels relative to block kernels, at 64
    tokens. together: blocks that read each weight one after another. most_taps: of a filter; None for any.
    filters_by_channel: whether a filter's taps lie together, int8 (channels, taps), not two channels' side by side.
    """

    name: str = "reference"
    columns: int = 2
    rows: int = ROWS
    interleave: int = INTERLEAVE
    operand_dtype: str = "int16"
    raw_tile: tuple[int, int] = (ROWS, INTERLEAVE)
    row_cost: float = 4.7
    together: int = 1
    codes_fill_sums: bool = False
    most_taps: int | None = None
    filters_by_channel: bool = False
    intrinsic: bool = False
    micro_kernels: ClassVar[tuple[MicroKernel, ...]] = ()

    @property
    def reference(self) -> Isa:
        """The same layouts without micro-kernels."""
        return replace(self, intrinsic=False)

    @property
    def rows_intrinsic(self) -> bool:
        """Whether micro-kernels multiply a single row."""
        return False

    @property
    def attends_in_blocks(self) -> bool:
        """Whether the attention of one query is that of a block of rows that are all the same."""
        return False

    def padded(self, width: int) -> int:
        """Columns that `width` columns of a tensor or operand take."""
        return width + width % 2

    def dot_columns(self, columns: int) -> int:
        """Columns that a product over `columns` reads: those past the operand's meet weights of 0."""
        return columns

    def shape(self, columns) -> tuple:
        """The shape of a block of that many columns."""
        return (tirx.floordiv(columns + (self.columns - 1), self.columns), ROWS, self.columns)

    def at(self, row, column) -> tuple:
        """The index of an element in a block."""
        return (tirx.floordiv(column, self.columns), row, tirx.floormod(column, self.columns))

    def view(self, buffer, column: int):
        """A block operand from `column`, a multiple of `columns`, on."""
        return From(buffer, column // self.columns) if column else buffer

    def view_at(self, buffer, column: int, offset):
        """A block operand from `column` + `offset` on; both multiples of `columns`, offset perhaps a loop's."""
        if isinstance(offset, int):
            return self.view(buffer, column + offset)
        return From(buffer, tirx.floordiv(offset, self.columns) + column // self.columns)

    @property
    def reads_in_place(self) -> bool:
        """Whether a block of a tensor is an operand as it lies."""
        return False

    @property
    def joins_sources(self) -> bool:
        """Whether what a product reads must lie side by side, and heads are one operator."""
        return True

    @property
    def factors(self) -> int:
        """How many int32 a softmax leaves for the context."""
        return ROWS

    def attending(self, width: int, columns: int) -> Isa | None:
        """How heads of `width` columns attend over tensors of `columns`, where that wants the tensors otherwise:
        `offset` is called on each, once before the first block and once after the last."""
        return None

    def groups_of(self, count):
        """Groups of rows that lie side by side in a tensor of `count` rows, in whole blocks."""
        return (count + (self.rows - 1)) // self.rows * (self.rows // self.interleave)

    @property
    def fills_blocks(self) -> bool:
        """Whether a product fills a block of sums before anything is made of it."""
        return False

    @property
    def widens_gains(self) -> bool:
        """Whether a micro-kernel of RMSNorm takes its gains as int32."""
        return False

    # Between tensors and operands.

    def load(self, out, tensor, first_pair, width: int) -> None:
        """out[at(r, k)] = tensor[first_pair + r / 2, k, r % 2] for `width` columns."""
        with loop("k", width) as k, loop("r", ROWS) as r:
            value = tensor[first_pair + tirx.floordiv(r, INTERLEAVE), k, tirx.floormod(r, INTERLEAVE)]
            store(out, tirx.Cast(self.operand_dtype, value), *self.at(r, k))

    def save(self, tensor, first_pair, operand, width: int) -> None:
        """The inverse of `load`."""
        with loop("k", width) as k, loop("r", ROWS) as r:
            pair = first_pair + tirx.floordiv(r, INTERLEAVE)
            store(tensor, tirx.Cast("int8", operand[self.at(r, k)]), pair, k, tirx.floormod(r, INTERLEAVE))

    # Products.

    def dot(self, acc, acc_at: tuple, left, right, right_at: tuple, k: int) -> None:
        """acc[*acc_at, r, c] += sum_i left[at(r, i)] * right[right_at[0], right_at[1] + i, c] for i < k.

        acc int32 (..., 4, 2); left a block operand; right row-interleaved.
        """
        pair, first = right_at
        with loop("k", k) as i, loop("r", ROWS) as r, loop("c", INTERLEAVE) as c:
            product = i32(left[self.at(r, i)]) * i32(right[pair, first + i, c])
            store(acc, acc[(*acc_at, r, c)] + product, *acc_at, r, c)

    def takes_raw(self, k: int) -> bool:
        """Whether int8 weights of k columns lie as raw words (kernels/raw_words.py)."""
        return False

    def codes_packing(self, weight_format: WeightFormat, n: int, k: int, one_row: bool = False) -> str | None:
        """How (n, k) weights of fewer bits lie for a micro-kernel that multiplies a block of rows, or one, by them
        (layouts.py), if any does."""
        return None

    def dot_raw(self, acc, left, row: int, right, pair, k: int, tile: tuple[int, int]) -> None:
        """`dot` on raw words: acc `tile` += rows of left from `row` on . as many of right from `pair` on."""
        rows, columns = tile
        with loop("k", k) as i, loop("r", rows) as r:
            for p in range(columns // INTERLEAVE):
                first, borrowed = (i32(right[pair + p, i, c]) for c in range(INTERLEAVE))
                second = borrowed + tirx.Cast("int32", first < i32(0))
                for c, weight in enumerate((first, second), p * INTERLEAVE):
                    store(acc, acc[r, c] + i32(left[self.at(row + r, i)]) * weight, r, c)

    def tiles(self, sums, left, weight, n: int, start: Callable, finish: Callable[[int, object, object], None]) -> None:
        """finish(r, column, acc) for every column, acc = start(r, column) + left . row `column` of weight. sums: room
        for a block of them, where the weight `fills_sums`."""
        if weight is not None and weight.fills_sums(self):
            weight.fill(self, sums, left, n, start, finish)
            return
        rows, columns = (ROWS, INTERLEAVE) if weight is None else weight.tile_shape(self, n)
        acc = workspace("acc", (rows, columns), "int32")
        if weight is not None:
            weight.begin(self, left)

        def one(row, j) -> None:
            tile = [(row + r, j * columns + c, (r, c)) for r in range(rows) for c in range(columns)]
            for r, column, at in tile:
                store(acc, start(r, column), *at)
            if weight is not None:
                weight.dot(self, acc, left, row, j * (columns // INTERLEAVE))
            for r, column, at in tile:
                finish(r, column, acc[at])

        each = nullcontext if weight is None else weight.each
        with loop("j", n // columns) as j, each():
            if columns == INTERLEAVE:
                for row in range(0, ROWS, rows):
                    one(row, j)
                return
            # Not written out twice: such a tile is 2 KB of code.
            with loop("h", ROWS // rows) as h:
                one(h * rows, j)

    def requantize(self, out: Destination, sums, left, weight, n: int, bias, start: Start, multiplier, table) -> None:
        """The table, if any, of clamp(multiply_high(acc, multiplier[j])), acc of bias, start and left . weight."""

        def finish(r, column, acc) -> None:
            level = clamp(multiply_high(acc, multiplier[column]))
            out.write(r, column, level if table is None else i32(table[level + 128]))

        self.tiles(sums, left, weight, n, started(bias, start), finish)

    def accumulate(self, write: Callable, sums, left, weight, n: int, bias, start: Start) -> None:
        """write(r, j, acc) of the accumulators."""
        self.tiles(sums, left, weight, n, started(bias, start), write)

    def normalize(
        self, out: Destination, sums, left, weight, width: int, n: int, bias, start: Start, norm: Norm
    ) -> None:
        """A norm of `width` columns, of n with padding, from their accumulators."""

        start = started(bias, start)
        if weight is None:
            normalize_sums(self, out, sums, width, start, norm)
            return

        self.scaled(sums, left, weight, n, start, norm)
        with weight.each():
            normalize_rows(out, lambda r, j: sums[self.at(r, j)], width, norm)

    def scaled(self, sums, left, weight, n: int, start: Callable, norm: Norm) -> None:
        """A norm's accumulators, brought to one scale, in `sums`."""

        def scale(r, column, acc) -> None:
            store(sums, multiply_high(acc, norm.channel_rescale[column]), *self.at(r, column))

        self.tiles(sums, left, weight, n, start, scale)

    # Attention.

    def scores(self, out, left, keys, first_column, width: int, count) -> None:
        """out[at(r, j)] = left . row j of `keys`, j < count, over `width` columns; where count is odd one more."""
        pairs = (count + 1) // INTERLEAVE
        if self.columns == INTERLEAVE:
            with loop("p", pairs) as p:
                for r, c in TILE:
                    store(out, i32(0), p, r, c)
                self.dot(out, (p,), left, keys, (p, first_column), width)
            return
        acc = workspace("acc", (ROWS, INTERLEAVE), "int32")
        with loop("p", pairs) as p:
            for r, c in TILE:
                store(acc, i32(0), r, c)
            self.dot(acc, (), left, keys, (p, first_column), width)
            for r, c in TILE:
                store(out, acc[r, c], *self.at(r, p * INTERLEAVE + c))

    def softmax(self, weights, factor, score, exp, score_multiplier, ratio, count) -> None:
        """The softmax of attention.py: weights[at(r, j)] from score[at(r, j)], factor[r] from their sum."""
        total = workspace("total", (ROWS,), "int32")
        self.softmax_weights(weights, total, score, exp, score_multiplier, count)
        with loop("r", ROWS) as r:
            store(factor, context_factor(total[r], ratio), r)

    def softmax_weights(self, weights, total, score, exp, score_multiplier, count) -> None:
        with loop("r", ROWS) as r:
            softmax_row(self, weights, total, score, exp, score_multiplier, count, r)

    def context_tile(self, acc, weights, values, column, pairs) -> None:
        """acc[r, c] += sum_p sum_h weights[at(r, 2p + h)] * values[p, column + c, h]."""
        with loop("p", pairs) as p, loop("r", ROWS) as r, loop("c", INTERLEAVE) as c, loop("h", INTERLEAVE) as h:
            product = i32(weights[self.at(r, p * INTERLEAVE + h)]) * i32(values[p, column + c, h])
            store(acc, acc[r, c] + product, r, c)

    def context(self, out: Destination, sums, weights, values, first_column, width: int, factor, count) -> None:
        """clamp(multiply_high(sum_j weights[at(r, j)] * values' row j [first_column + k], factor[r])), k < width."""
        acc = workspace("acc", (ROWS, INTERLEAVE), "int32")
        with loop("j", width // INTERLEAVE) as j:
            for r, c in TILE:
                store(acc, i32(0), r, c)
            self.context_tile(acc, weights, values, first_column + j * INTERLEAVE, (count + 1) // INTERLEAVE)
            for r, c in TILE:
                out.write(r, j * INTERLEAVE + c, clamp(multiply_high(acc[r, c], factor[r])))

    # Filters along the text.

    def line(self, taps: int, pairs, table):
        """A workspace for one channel's samples after as many zeros as there are taps, or what `filter_channels` needs
        where a table follows."""
        line = workspace("line", (taps + pairs * INTERLEAVE,), "int16")
        with loop("t", taps) as t:
            store(line, tirx.const(0, "int16"), t)
        return line

    def fir(self, acc, line, start, weight, taps: int) -> None:
        """acc[o] += sum_k tap[k] * line[start + o + 1 + k] for four outputs o, the taps as `lay_out_taps` has them.

        acc int32 (4,); line int16; start a multiple of 4; weight int16 (taps / 2 + 1, 2, 2).
        """
        with loop("o", 4) as o, loop("p", taps // 2 + 1) as p, loop("h", 2) as h:
            # An odd output starts at a pair of samples and uses taps // 2 of them, an even one straddles one more.
            odd = tirx.floormod(o, 2)
            sample = start + tirx.floordiv(o, 2) * 2 + odd * 2 + p * 2 + h
            inside = tirx.any(odd == 0, p < taps // 2)
            value = tirx.if_then_else(inside, i32(line[tirx.min(sample, start + taps + 3)]), i32(0))
            store(acc, acc[o] + value * i32(weight[p, 1 - odd, h]), o)

    def fir_at(self, acc, line, weight, channel, taps: int) -> None:
        """`fir` of a line from its start on, with the taps weight[channel]. line int16 (1, taps + 4)."""
        with loop("o", 4) as o, loop("p", taps // 2 + 1) as p, loop("h", 2) as h:
            odd = tirx.floormod(o, 2)
            sample = tirx.floordiv(o, 2) * 2 + odd * 2 + p * 2 + h
            inside = tirx.any(odd == 0, p < taps // 2)
            value = tirx.if_then_else(inside, i32(line[0, tirx.min(sample, taps + 3)]), i32(0))
            store(acc, acc[o] + value * i32(weight[channel, p, 1 - odd, h]), o)

    def filter_channel(self, out, x, channel, line, weight, pair, bias, multiplier, table) -> None:
        """Channel `channel` of out: a causal filter along the rows of x, and what a table makes of it.

        x, out row-interleaved; weight int8 (..., taps, 2), at `pair` the channel's, or (channels, taps); line a
        workspace of `line`.
        """

        def tap(k):
            return weight[channel, k] if by_channel else weight[pair, k, tirx.floormod(channel, INTERLEAVE)]

        by_channel = len(weight.shape) == 2
        taps, pairs = int(weight.shape[1]), x.shape[0]
        filters, acc = workspace("filters", (taps // 2 + 1, 2, 2), "int16"), workspace("acc", (4,), "int32")
        with loop("p", pairs) as p:
            for h in range(INTERLEAVE):
                store(line, tirx.Cast("int16", x[p, channel, h]), taps + p * INTERLEAVE + h)
        lay_out_taps(filters, tap, taps)
        with loop("b", pairs // 2) as b:
            for o in range(4):
                store(acc, bias[channel], o)
            self.fir(acc, line, b * 4, filters, taps)
            for o in range(4):
                level = clamp(multiply_high(acc[o], multiplier[channel]))
                value = tirx.Cast("int8", level) if table is None else table[level + 128]
                store(out, value, b * 2 + o // INTERLEAVE, channel, o % INTERLEAVE)

    def filter_channels(self, out, x, line, weight, at, pair, bias, multiplier, table) -> None:
        """`filter_channel` for the two channels of a pair; weight has theirs at `at`."""
        with loop("h", INTERLEAVE) as h:
            self.filter_channel(out, x, pair * INTERLEAVE + h, line, weight, at, bias, multiplier, table)

    def filter_pair(self, write: Callable, sums, left, weight, at: tuple, taps: int) -> None:
        """write(r, c, acc) of two filters c over the taps of four outputs r, a block operand `left`.

        weight row-interleaved, its pair of filters and first tap at `at`.
        """
        acc = workspace("acc", (ROWS, INTERLEAVE), "int32")
        for r, c in TILE:
            store(acc, i32(0), r, c)
        self.dot(acc, (), left, weight, at, taps)
        for r, c in TILE:
            write(r, c, acc[r, c])

    # One row.

    def row_product(self, acc, row, weight) -> None:
        """acc[j] += row . weight[j]. acc int32 (n,); row int8 (k,); weight int8 (n, k)."""
        n, k = (int(dim) for dim in weight.shape)
        with loop("j", n) as j, loop("k", k) as i:
            store(acc, acc[j] + i32(row[i]) * i32(weight[j, i]), j)

    def row_codes(self, acc, row, weight: Codes) -> bool:
        """`row_product` by codes as they lie; False where no micro-kernel has it."""
        return False

    def row_dot(self, acc, j, row, weight) -> None:
        """acc[j] += row . weight, int8 (k,)."""
        with loop("k", int(weight.shape[0])) as i:
            store(acc, acc[j] + i32(row[i]) * i32(weight[i]), j)


def started(bias, start: Start) -> Callable:
    """What accumulators begin with, by row and column."""
    return lambda r, column: bias[column] if start is None else bias[column] + start(r, column)
