"""The DSP extension: SMLAD, two 16-bit products an instruction, on a tile of four rows by two columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from embbert_tvm.kernels.builder import address, call, i32, i64, loop, store, workspace
from embbert_tvm.kernels.dsp_codes import fits_four_rows
from embbert_tvm.kernels.epilogues import reciprocal_root
from embbert_tvm.kernels.fixed_point import clamp, multiply_high
from embbert_tvm.kernels.isa.base import Isa, Start, started
from embbert_tvm.kernels.isa.destination import Destination
from embbert_tvm.kernels.isa.norm import Norm
from embbert_tvm.kernels.isa.registry import MicroKernel, Variant, listed
from embbert_tvm.kernels.isa.softmax import context_factor
from embbert_tvm.kernels.layouts import DSP_CODES, INTERLEAVE, LOOKUP, ROWS
from embbert_tvm.kernels.lookup import fits_lookup
from embbert_tvm.kernels.low_bits import CompressedVector, WeightFormat
from embbert_tvm.kernels.raw_words import MOST_COLUMNS

# Pairs of columns between two branches of the product's loop, and the fewest that it is written for.
_STEPS, _LEAST, _MOST = 16, 2, 24
# A table of sums of three columns is made once for all rows of weights: fewer than these are not worth it.
_LEAST_ROWS = 64
# The context's loop reaches this far by immediate offsets.
_OFFSET_BYTES = 4096

_HEADER = "embbert_dsp.h"


def _dot(loads: str, steps: int) -> Variant:
    def fits(pairs: int | None) -> bool:
        return pairs is not None and pairs % steps == 0

    return Variant(f"embbert_dsp_dot_{loads}_{steps}", fits=fits, features=(loads == "ldrd", 1, steps, 8))


def _context(loads: str, steps: int) -> Variant:
    def fits(stride: int | None, pairs: int | None) -> bool:
        return stride is not None and stride * steps <= _OFFSET_BYTES

    return Variant(f"embbert_dsp_context_{loads}_{steps}", fits=fits, features=(loads == "ldrd", 1, steps, 8))


def _raw(loads: str, steps: int) -> Variant:
    def fits(pairs: int | None) -> bool:
        return pairs is not None and pairs % steps == 0

    return Variant(f"embbert_dsp_dot_raw_{loads}_{steps}", fits=fits, features=(0, 1, steps, 8))


def _plain(name: str) -> tuple[Variant, ...]:
    tiles = ((4, 2), (4, 1), (2, 2), (2, 1), (1, 2), (1, 1))
    return tuple(Variant(name, tile, features=(0, 0, 1, tile[0] * tile[1])) for tile in tiles)


def _tile(pairs: int) -> int:
    return 16 * pairs


def _context_tile(stride: int, pairs: int) -> int:
    return 16 * pairs


_DOTS = (
    *(_dot(loads, steps) for loads in ("ldrd", "single") for steps in (4, 8, 16, 32)),
    *_plain("embbert_dsp_dot_plain"),
    *(_dot("grouped", steps) for steps in (4, 8, 16, 32)),
)
_CONTEXTS = (
    *(_context(loads, steps) for loads in ("ldrd", "single") for steps in (2, 4, 8)),
    *_plain("embbert_dsp_context_plain"),
)
_RAWS = tuple(_raw(loads, steps) for loads in ("single", "grouped") for steps in (16, 32))
# By rows and columns of a tile.
_RAW_TILES = {(4, 2): "embbert_dsp_dot_raw", (2, 2): "embbert_dsp_dot_raw_2x2", (2, 4): "embbert_dsp_dot_raw_2x4"}
_MICRO_KERNELS = (
    MicroKernel("embbert_dsp_dot_4x2", _HEADER, _tile, _DOTS),
    MicroKernel("embbert_dsp_context_4x2", _HEADER, _context_tile, _CONTEXTS),
    MicroKernel("embbert_dsp_dot_raw", _HEADER, _tile, _RAWS),
    *listed(
        _HEADER,
        {
            **{f"embbert_dsp_dot_4x2_{steps}": _tile for steps in range(_LEAST, _MOST + 1)},
            "embbert_dsp_dot_raw_2x2": lambda pairs: 8 * pairs,
            "embbert_dsp_dot_raw_2x4": _tile,
            "embbert_dsp_filter": lambda pairs, channels, taps: 4 * pairs * taps,
            "embbert_dsp_fir_4": lambda taps: 4 * taps,
            "embbert_dsp_rows": lambda n, k: n * k,
            "embbert_dsp_normalize": lambda width: 0,
            "embbert_dsp_offset": lambda pairs, width: 0,
            "embbert_dsp_scores": lambda pairs, stride, k: 8 * pairs * k,
            "embbert_dsp_softmax": lambda columns: 0,
            "embbert_dsp_softmax_fours": lambda columns: 0,
            "embbert_dsp_squares": lambda width: 0,
            "embbert_dsp_store": lambda: 0,
            "embbert_dsp_values": lambda fours, stride, width: 16 * fours * width,
            "embbert_dsp_widen_4": lambda width: 0,
            "embbert_dsp_widen_offset_4": lambda width: 0,
        },
    ),
    *listed("embbert_lookup.h", {"embbert_lookup_product": lambda n, k: ROWS * n * k}),
    *listed(
        "embbert_dsp_codes.h",
        {
            "embbert_dsp_block_sums": lambda k, block, offset: 0,
            "embbert_dsp_codes_2x4": lambda offset, k, block, bits: 8 * k,
            "embbert_dsp_codes_product": lambda n, k, block: ROWS * n * k,
            "embbert_dsp_codes_rows": lambda offset, n, k, block, bits: n * k,
        },
    ),
)


@dataclass(frozen=True)
class Dsp(Isa):
    """simd: whether the CPU has the extension; else the micro-kernels are plain C, and what only its instructions make
    worth while is left out. raw_words: whether weights, keys and values are raw words where they can be."""

    name: str = "dsp"
    row_cost: float = 1.8
    intrinsic: bool = True
    simd: bool = True
    raw_words: bool = True
    micro_kernels: ClassVar[tuple[MicroKernel, ...]] = _MICRO_KERNELS

    @property
    def rows_intrinsic(self) -> bool:
        return self.simd_intrinsic

    @property
    def simd_intrinsic(self) -> bool:
        return self.intrinsic and self.simd

    @property
    def widens_gains(self) -> bool:
        return self.simd_intrinsic

    @property
    def attends_in_blocks(self) -> bool:
        return self.simd

    def attending(self, width: int, columns: int) -> DspOffset | None:
        fits = self.takes_raw(width) and 2 * INTERLEAVE * columns <= _OFFSET_BYTES
        return DspOffset(simd=self.simd, raw_tile=self.raw_tile) if self.intrinsic and fits else None

    def takes_raw(self, k: int) -> bool:
        return self.simd and self.raw_words and k % (2 * _STEPS) == 0 and k <= MOST_COLUMNS

    def codes_packing(self, weight_format: WeightFormat, n: int, k: int, one_row: bool = False) -> str | None:
        if not one_row and n >= (_LEAST_ROWS if self.simd else 1) and fits_lookup(weight_format, n, k):
            return LOOKUP
        return DSP_CODES if self.simd and fits_four_rows(weight_format, n, k) else None

    def dot_columns(self, columns: int) -> int:
        pairs = max((columns + 1) // 2, _LEAST)
        while steps_of(pairs) is None:
            pairs += 1
        return 2 * pairs

    def load(self, out, tensor, first_pair, width: int) -> None:
        if not self.intrinsic:
            super().load(out, tensor, first_pair, width)
            return
        pairs = (address(tensor, first_pair, 0, 0), address(tensor, first_pair + 1, 0, 0))
        call("embbert_dsp_widen_4", address(out, 0, 0, 0), *pairs, width)

    def dot(self, acc, acc_at: tuple, left, right, right_at: tuple, k: int) -> None:
        steps = steps_of(k // 2) if k % 2 == 0 else None
        if not self.intrinsic or steps is None:
            super().dot(acc, acc_at, left, right, right_at, k)
            return
        pair, first = right_at
        name = "embbert_dsp_dot_4x2" if steps == _STEPS else f"embbert_dsp_dot_4x2_{steps}"
        args = (address(acc, *acc_at, 0, 0), address(left, 0, 0, 0), address(right, pair, first, 0), k // 2)
        call(name, *args)

    def requantize(self, out: Destination, sums, left, weight, n: int, bias, start, multiplier, table) -> None:
        if not self.simd_intrinsic or out.operand is None or out.tensor is not None:
            super().requantize(out, sums, left, weight, n, bias, start, multiplier, table)
            return
        beside: list = []

        def finish(r, column, acc) -> None:
            level = clamp(multiply_high(acc, multiplier[column]))
            beside.append(level if table is None else i32(table[level + 128]))
            if len(beside) == INTERLEAVE:
                call("embbert_dsp_store", address(out.operand, *self.at(r, column - 1)), *beside)
                beside.clear()

        self.tiles(sums, left, weight, n, started(bias, start), finish)

    def dot_raw(self, acc, left, row: int, right, pair, k: int, tile: tuple[int, int]) -> None:
        if not self.intrinsic:
            super().dot_raw(acc, left, row, right, pair, k, tile)
            return
        args = (address(acc, 0, 0), address(left, 0, row, 0), address(right, pair, 0, 0), k // 2)
        call(_RAW_TILES[tile], *args)

    def normalize(
        self, out: Destination, sums, left, weight, width: int, n: int, bias, start: Start, norm: Norm
    ) -> None:
        uncompressed = not isinstance(norm.gain, CompressedVector)
        plain = weight is not None and norm.shift is None and uncompressed
        if not (self.simd_intrinsic and plain and out.operand is None and n == width):
            super().normalize(out, sums, left, weight, width, n, bias, start, norm)
            return
        self.scaled(sums, left, weight, n, started(bias, start), norm)
        with weight.each():
            self._normalized(out, sums, n, norm)

    def _normalized(self, out: Destination, sums, n: int, norm: Norm) -> None:
        """RMSNorm of a block's scaled sums, by micro-kernels."""
        square_sum = workspace("square_sum", (1,), "int64")
        shift, inverse = workspace("shift", (1,), "int32"), workspace("inverse", (1,), "int32")
        squares = workspace("squares", (ROWS,), "int64")
        lefts, inverses = workspace("lefts", (ROWS,), "int32"), workspace("inverses", (ROWS,), "int32")
        at = address(sums, 0, 0, 0)
        call("embbert_dsp_squares", address(squares, 0), at, n)
        with loop("r", ROWS) as r:
            store(square_sum, squares[r] + i64(norm.epsilon[0]), 0)
            reciprocal_root(square_sum, shift, inverse)
            store(lefts, i32(16) - shift[0], r)
            store(inverses, inverse[0], r)
        pairs = (address(out.tensor, out.first_pair, 0, 0), address(out.tensor, out.first_pair + 1, 0, 0))
        rows = (at, address(lefts, 0), address(inverses, 0), address(norm.gain, 0))
        call("embbert_dsp_normalize", *pairs, *rows, n)

    def softmax_weights(self, weights, total, score, exp, score_multiplier, count) -> None:
        if not self.simd_intrinsic:
            super().softmax_weights(weights, total, score, exp, score_multiplier, count)
            return
        args = (address(total, 0), address(score, 0, 0, 0), address(exp, 0), score_multiplier, count)
        call("embbert_dsp_softmax", address(weights, 0, 0, 0), *args)

    def context_tile(self, acc, weights, values, column, pairs) -> None:
        stride = int(values.shape[1]) * INTERLEAVE
        if not self.intrinsic or 2 * stride > _OFFSET_BYTES:
            super().context_tile(acc, weights, values, column, pairs)
            return
        args = (address(acc, 0, 0), address(weights, 0, 0, 0), address(values, 0, column, 0), stride, pairs)
        call("embbert_dsp_context_4x2", *args)

    def fir(self, acc, line, start, weight, taps: int) -> None:
        if not self.intrinsic:
            super().fir(acc, line, start, weight, taps)
            return
        call("embbert_dsp_fir_4", address(acc, 0), address(line, start), address(weight, 0, 0, 0), taps)

    def fir_at(self, acc, line, weight, channel, taps: int) -> None:
        if not self.intrinsic:
            super().fir_at(acc, line, weight, channel, taps)
            return
        args = (address(acc, 0), address(line, 0, 0), address(weight, channel, 0, 0, 0), taps)
        call("embbert_dsp_fir_4", *args)

    def line(self, taps: int, pairs, table):
        if not self.simd_intrinsic or table is None:
            return super().line(taps, pairs, table)
        line = workspace("line", (INTERLEAVE, taps + pairs * INTERLEAVE), "int16")
        with loop("h", INTERLEAVE) as h, loop("t", taps) as t:
            store(line, tirx.const(0, "int16"), h, t)
        return line

    def filter_channels(self, out, x, line, weight, at, pair, bias, multiplier, table) -> None:
        if not self.simd_intrinsic or table is None:
            super().filter_channels(out, x, line, weight, at, pair, bias, multiplier, table)
            return
        taps, channels, pairs = int(weight.shape[1]), int(x.shape[1]), x.shape[0]
        laid = workspace("laid", (INTERLEAVE, taps // 2 + 1, 2, 2), "int16")
        first = pair * INTERLEAVE
        vectors = [vector[first + h] for vector in (bias, multiplier) for h in range(INTERLEAVE)]
        args = (address(x, 0, first, 0), address(line, 0, 0), address(laid, 0, 0, 0, 0), address(weight, at, 0, 0))
        call("embbert_dsp_filter", address(out, 0, first, 0), *args, *vectors, address(table, 0), pairs, channels, taps)

    def row_product(self, acc, row, weight) -> None:
        if not self.rows_intrinsic:
            super().row_product(acc, row, weight)
            return
        n, k = (int(dim) for dim in weight.shape)
        call("embbert_dsp_rows", address(acc, 0), address(row, 0), address(weight, 0, 0), n, k)

    def row_dot(self, acc, j, row, weight) -> None:
        if not self.rows_intrinsic:
            super().row_dot(acc, j, row, weight)
            return
        call("embbert_dsp_rows", address(acc, j), address(row, 0), address(weight, 0), 1, int(weight.shape[0]))


@dataclass(frozen=True)
class DspOffset(Dsp):
    """Keys and values whose first rows of each pair lie in offset binary, 128 more without a sign: a halfword is then
    256 times the second row's value and the first's, and multiplies as a raw word does."""

    @property
    def factors(self) -> int:
        """After the factors of the rows what their sums start from."""
        return 2 * ROWS

    def offset(self, tensor) -> None:
        """Change a tensor to offset binary, or back."""
        pairs, width = tensor.shape[0], int(tensor.shape[1])
        call("embbert_dsp_offset", address(tensor, 0, 0, 0), pairs, width)

    def load(self, out, tensor, first_pair, width: int) -> None:
        pairs = (address(tensor, first_pair, 0, 0), address(tensor, first_pair + 1, 0, 0))
        call("embbert_dsp_widen_offset_4", address(out, 0, 0, 0), *pairs, width)

    def scores(self, out, left, keys, first_column, width: int, count) -> None:
        _, beside = self.raw_tile
        pairs, stride = (count + (beside - 1)) // beside * (beside // INTERLEAVE), int(keys.shape[1]) * INTERLEAVE
        args = (address(left, 0, 0, 0), address(keys, 0, first_column, 0), pairs, stride, width)
        call("embbert_dsp_scores", address(out, 0, 0, 0), *args)

    def softmax(self, weights, factor, score, exp, score_multiplier, ratio, count) -> None:
        totals = workspace("totals", (self.factors,), "int32")
        args = (address(totals, 0), address(score, 0, 0, 0), address(exp, 0), score_multiplier, count)
        call("embbert_dsp_softmax_fours", address(weights, 0, 0, 0), *args)
        with loop("r", ROWS) as r:
            store(factor, context_factor(totals[r], ratio), r)
            store(factor, totals[ROWS + r], ROWS + r)

    def context(self, out: Destination, sums, weights, values, first_column, width: int, factor, count) -> None:
        stride, fours = int(values.shape[1]) * INTERLEAVE, (count + (ROWS - 1)) // ROWS
        places = (address(sums, 0, 0, 0), address(weights, 0, 0, 0), address(values, 0, first_column, 0))
        args = (*places, address(factor, 0), fours, stride, width)
        call("embbert_dsp_values", address(out.operand, 0, 0, 0), *args)


def steps_of(pairs: int) -> int | None:
    """Pairs of columns that the product's loop takes between two branches, a divisor of `pairs`; None where none is
    written for it."""
    if pairs % _STEPS == 0:
        return _STEPS
    return next((steps for steps in range(_MOST, _LEAST - 1, -1) if pairs % steps == 0), None)


# Of a tile of two rows by four columns all loads are a group, which takes a cycle more than it has loads.
DSP = Dsp(raw_tile=(2, 4))
# Two instructions issue at once: a tile of two rows has a load for every SMLAD.
DSP_DUAL = Dsp(raw_tile=(2, 2), codes_fill_sums=True)
PLAIN = Dsp(row_cost=4.7, simd=False)
