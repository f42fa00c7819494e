"""MVE, Helium, on integers: VMLADAV, sixteen 8-bit products and their sum an instruction.

Its micro-kernels fill whole blocks of sums, which one pass then requantizes or normalizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from embbert_tvm.kernels.builder import address, call, i32, loop, store, workspace
from embbert_tvm.kernels.epilogues import reciprocal_root
from embbert_tvm.kernels.isa.base import Isa, Start
from embbert_tvm.kernels.isa.destination import Destination
from embbert_tvm.kernels.isa.norm import Norm
from embbert_tvm.kernels.isa.registry import MicroKernel, Variant, listed
from embbert_tvm.kernels.layouts import INTERLEAVE, MVE_CODES, ROWS
from embbert_tvm.kernels.low_bits import Codes, WeightFormat
from embbert_tvm.kernels.mve_codes import fits_codes


def _columns(count: int) -> Variant:
    def fits(pairs: int | None, k: int | None) -> bool:
        return k is not None and k % count == 0

    return Variant(f"embbert_mve_product_{count}", fits=fits, features=(0, 1, count / 16, 8))


_PRODUCTS = tuple(map(_columns, (32, 64, 128)))
_MICRO_KERNELS = (
    MicroKernel("embbert_mve_product", "embbert_mve.h", lambda pairs, k: 8 * pairs * k, _PRODUCTS),
    *listed(
        "embbert_mve_codes.h",
        {
            **{f"embbert_mve_product_codes_{bits}": lambda pairs, k: 8 * pairs * k for bits in (4, 2)},
            "embbert_mve_codes_rows": lambda n, k: n * k,
        },
    ),
    *listed(
        "embbert_mve.h",
        {
            "embbert_mve_product_strided": lambda pairs, k, stride: 8 * pairs * k,
            "embbert_mve_context": lambda rows, width: 4 * rows * width,
            "embbert_mve_context_strided": lambda rows, width, stride: 4 * rows * width,
            "embbert_mve_filter": lambda pairs, channels, taps: 2 * pairs * taps,
            "embbert_mve_filter_laid": lambda pairs, channels, taps: 2 * pairs * taps,
            "embbert_mve_rows": lambda n, k: n * k,
            **{
                f"embbert_mve_{name}": lambda n: 0
                for name in (
                    "widen", "interleave", "requantize", "rescale", "table", "residual", "add_row", "softmax",
                    "scale", "scale_centred", "normalize", "normalize_block", "normalize_shifted",
                )
            },
        },
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Mve(Isa):
    name: str = "mve"
    columns: int = 16
    operand_dtype: str = "int8"
    row_cost: float = 28.0
    most_taps: int | None = 32
    filters_by_channel: bool = True
    intrinsic: bool = True
    micro_kernels: ClassVar[tuple[MicroKernel, ...]] = _MICRO_KERNELS

    @property
    def rows_intrinsic(self) -> bool:
        return self.intrinsic

    @property
    def attends_in_blocks(self) -> bool:
        return True

    @property
    def fills_blocks(self) -> bool:
        return self.intrinsic

    def padded(self, width: int) -> int:
        return -(-width // self.columns) * self.columns

    def dot_columns(self, columns: int) -> int:
        return self.padded(columns)

    def load(self, out, tensor, first_pair, width: int) -> None:
        if not self.intrinsic:
            super().load(out, tensor, first_pair, width)
            return
        pairs = (address(tensor, first_pair, 0, 0), address(tensor, first_pair + 1, 0, 0))
        call("embbert_mve_widen", address(out, 0, 0, 0), *pairs, width)

    def save(self, tensor, first_pair, operand, width: int) -> None:
        if not self.intrinsic:
            super().save(tensor, first_pair, operand, width)
            return
        pairs = (address(tensor, first_pair, 0, 0), address(tensor, first_pair + 1, 0, 0))
        call("embbert_mve_interleave", *pairs, address(operand, 0, 0, 0), width)

    def codes_packing(self, weight_format: WeightFormat, n: int, k: int, one_row: bool = False) -> str | None:
        return MVE_CODES if fits_codes(weight_format, k) else None

    def product(self, sums, left, right, right_at: tuple, pairs, k: int) -> None:
        """sums[at(r, j)] = left . column j of `pairs` pairs of rows of `right`, from right_at on, over k columns."""
        stride = int(right.shape[1])
        args = (address(sums, 0, 0, 0), address(left, 0, 0, 0), address(right, *right_at, 0), pairs, k)
        if stride == k and k % 32 == 0:
            call("embbert_mve_product", *args)
        else:
            call("embbert_mve_product_strided", *args, stride * INTERLEAVE)

    def requantize(self, out: Destination, sums, left, weight, n: int, bias, start: Start, multiplier, table) -> None:
        if not self.intrinsic:
            super().requantize(out, sums, left, weight, n, bias, start, multiplier, table)
            return
        self._sums(sums, left, weight, n)
        self._add(sums, start, n)
        place = address(out.operand, 0, 0, 0)
        args = (address(sums, 0, 0, 0), address(bias, 0), address(multiplier, 0), n)
        call("embbert_mve_requantize", place, *args)
        if table is not None:
            call("embbert_mve_table", place, address(table, 0), n)
        self._save_bytes(out, place, n)

    def accumulate(self, write, sums, left, weight, n: int, bias, start: Start) -> None:
        if not self.intrinsic:
            super().accumulate(write, sums, left, weight, n, bias, start)
            return
        self._sums(sums, left, weight, n)
        self._add(sums, start, n)
        with loop("r", ROWS) as r, loop("j", n) as j:
            write(r, j, sums[self.at(r, j)] + bias[j])

    def normalize(
        self, out: Destination, sums, left, weight, width: int, n: int, bias, start: Start, norm: Norm
    ) -> None:
        if not self.intrinsic:
            super().normalize(out, sums, left, weight, width, n, bias, start, norm)
            return
        square_sum = workspace("square_sum", (1,), "int64")
        shift, inverse = workspace("shift", (1,), "int32"), workspace("inverse", (1,), "int32")
        squares = workspace("squares", (ROWS,), "int64")
        lefts, inverses = workspace("lefts", (ROWS,), "int32"), workspace("inverses", (ROWS,), "int32")
        at = address(sums, 0, 0, 0)
        self._sums(sums, left, weight, n)
        self._add(sums, start, n)
        args = (address(squares, 0), at, address(bias, 0), address(norm.channel_rescale, 0), norm.epsilon[0], n)
        if norm.shift is None:
            call("embbert_mve_scale", *args)
        else:
            call("embbert_mve_scale_centred", *args, width)
        with loop("r", ROWS) as r:
            store(square_sum, squares[r], 0)
            reciprocal_root(square_sum, shift, inverse)
            store(lefts, i32(16) - shift[0], r)
            store(inverses, inverse[0], r)
        rows = (at, address(lefts, 0), address(inverses, 0), address(norm.gain, 0))
        if norm.shift is None and out.operand is None:
            pairs = (address(out.tensor, out.first_pair, 0, 0), address(out.tensor, out.first_pair + 1, 0, 0))
            call("embbert_mve_normalize", *pairs, *rows, n)
            return
        place = address(out.operand, 0, 0, 0)
        if norm.shift is None:
            call("embbert_mve_normalize_block", place, *rows, n)
        else:
            call("embbert_mve_normalize_shifted", place, *rows, address(norm.shift, 0), n)
        self._save_bytes(out, place, n)

    def scores(self, out, left, keys, first_column, width: int, count) -> None:
        if not self.intrinsic:
            super().scores(out, left, keys, first_column, width, count)
            return
        self.product(out, left, keys, (0, first_column), (count + 1) // INTERLEAVE, width)

    def softmax_weights(self, weights, total, score, exp, score_multiplier, count) -> None:
        if not self.intrinsic:
            super().softmax_weights(weights, total, score, exp, score_multiplier, count)
            return
        args = (address(total, 0), address(score, 0, 0, 0), address(exp, 0), score_multiplier, count)
        call("embbert_mve_softmax", address(weights, 0, 0, 0), *args)

    def context(self, out: Destination, sums, weights, values, first_column, width: int, factor, count) -> None:
        if not self.intrinsic:
            super().context(out, sums, weights, values, first_column, width, factor, count)
            return
        stride = int(values.shape[1])
        at = address(sums, 0, 0, 0)
        args = (at, address(weights, 0, 0, 0), address(values, 0, first_column, 0), count, width)
        if stride == width:
            call("embbert_mve_context", *args)
        else:
            call("embbert_mve_context_strided", *args, stride)
        call("embbert_mve_rescale", address(out.operand, 0, 0, 0), at, address(factor, 0), width)

    def filter_pair(self, write, sums, left, weight, at: tuple, taps: int) -> None:
        if not self.intrinsic or taps % self.columns:
            super().filter_pair(write, sums, left, weight, at, taps)
            return
        self.product(sums, left, weight, at, 1, taps)
        with loop("r", ROWS) as r, loop("c", INTERLEAVE) as c:
            write(r, c, sums[0, r, c])

    def line(self, taps: int, pairs, table):
        if not self.intrinsic or table is None:
            return super().line(taps, pairs, table)
        return workspace("line", (taps + pairs * INTERLEAVE + 31,), "int8")

    def filter_channel(self, out, x, channel, line, weight, pair, bias, multiplier, table) -> None:
        if not self.intrinsic or table is None:
            super().filter_channel(out, x, channel, line, weight, pair, bias, multiplier, table)
            return
        taps, channels, pairs = int(weight.shape[1]), int(x.shape[1]), x.shape[0]
        by_channel = len(weight.shape) == 2
        tap = (
            address(weight, channel, 0) if by_channel else address(weight, pair, 0, tirx.floormod(channel, INTERLEAVE))
        )
        args = (address(x, 0, channel, 0), address(line, 0), tap, bias[channel], multiplier[channel], address(table, 0))
        name = "embbert_mve_filter_laid" if by_channel else "embbert_mve_filter"
        call(name, address(out, 0, channel, 0), *args, pairs, channels, taps)

    def row_product(self, acc, row, weight) -> None:
        if not self.intrinsic:
            super().row_product(acc, row, weight)
            return
        n, k = (int(dim) for dim in weight.shape)
        call("embbert_mve_rows", address(acc, 0), address(row, 0), address(weight, 0, 0), n, k)

    def row_codes(self, acc, row, weight: Codes) -> bool:
        weight_format = weight.weight_format
        if not self.intrinsic or (weight_format.bits, weight_format.block) != (4, 64) or weight.k % 64:
            return False
        parted, starts = workspace("parted", (weight.k,), "int8"), workspace("starts", (weight.k // 64,), "int32")
        codes = (address(weight.codes, 0), address(weight.multipliers, 0))
        room = (address(parted, 0), address(starts, 0))
        args = (address(acc, 0), address(row, 0), *codes, *room, weight.rows, weight.k)
        call("embbert_mve_codes_rows", *args)
        return True

    def row_dot(self, acc, j, row, weight) -> None:
        if not self.intrinsic:
            super().row_dot(acc, j, row, weight)
            return
        call("embbert_mve_rows", address(acc, j), address(row, 0), address(weight, 0), 1, int(weight.shape[0]))

    def _sums(self, sums, left, weight, n: int) -> None:
        if weight is not None:
            weight.product(self, sums, left, n // INTERLEAVE)
            return
        with loop("j", n // self.columns) as j, loop("r", ROWS) as r, loop("c", self.columns) as c:
            store(sums, i32(0), j, r, c)

    def _add(self, sums, start: Start, n: int) -> None:
        if start is None:
            return
        if start.residual is not None:
            operand, factor = start.residual
            call("embbert_mve_residual", address(sums, 0, 0, 0), address(operand, 0, 0, 0), address(factor, 0), n)
            return
        if start.tables:
            with loop("r", ROWS) as r:
                for table, row_of in start.tables:
                    row = (address(table.buffer, row_of(r) * n), table.shift)
                    call("embbert_mve_add_row", address(sums, 0, r, 0), *row, n)
            return
        with loop("r", ROWS) as r, loop("j", n // self.columns) as j, loop("c", self.columns) as c:
            store(sums, sums[j, r, c] + start(r, j * self.columns + c), j, r, c)

    def _save_bytes(self, out: Destination, place, n: int) -> None:
        if out.tensor is None:
            return
        pairs = (address(out.tensor, out.first_pair, 0, 0), address(out.tensor, out.first_pair + 1, 0, 0))
        call("embbert_mve_interleave", *pairs, place, n)


MVE = Mve()
