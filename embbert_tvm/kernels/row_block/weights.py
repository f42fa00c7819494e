"""A product's weights in memory, as the loops of a block read them: row-interleaved int8, or codes of fewer bits."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from embbert_tvm.kernels.builder import address, argument, call, i32, loop, store, workspace
from embbert_tvm.kernels.isa.base import Isa
from embbert_tvm.kernels.layouts import INTERLEAVE, ROWS
from embbert_tvm.kernels.low_bits import Codes, WeightFormat, stored
from embbert_tvm.kernels.mve_codes import SPARE, block_columns
from embbert_tvm.kernels.row_block.spec import MVE_CODES, RAW_WORDS


@dataclass(frozen=True)
class Packed:
    """int8 (n / 2, k, 2); raw: as kernels/raw_words.py packs them."""

    buffer: object
    k: int
    raw: bool = False

    def tile_rows(self, isa: Isa) -> int:
        """Rows of a tile."""
        return isa.raw_rows if self.raw else ROWS

    def dot(self, isa: Isa, acc, left, row: int, pair) -> None:
        """acc (tile_rows, 2) += rows of left from `row` on . the two rows of a pair."""
        if self.raw:
            isa.dot_raw(acc, left, row, self.buffer, pair, self.k)
            return
        isa.dot(acc, (), left, self.buffer, (pair, 0), self.k)

    def product(self, isa, sums, left, pairs: int) -> None:
        """A block of sums: left . all rows."""
        isa.product(sums, left, self.buffer, (0, 0), pairs, self.k)


@dataclass(frozen=True)
class Coded:
    """Codes of rows in pairs, unpacked a pair at a time into tile, int8 (1, k, 2)."""

    codes: Codes
    tile: object
    k: int

    def tile_rows(self, isa: Isa) -> int:
        return ROWS

    def dot(self, isa: Isa, acc, left, row: int, pair) -> None:
        self.codes.unpack_pair(isa.intrinsic, self.tile, pair)
        isa.dot(acc, (), left, self.tile, (0, 0), self.k)

    def product(self, isa, sums, left, pairs: int) -> None:
        per_block = isa.columns // INTERLEAVE
        with loop("j", pairs) as j:
            self.codes.unpack_pair(isa.intrinsic, self.tile, j)
            at = address(sums, tirx.floordiv(j, per_block), 0, tirx.floormod(j, per_block) * INTERLEAVE)
            args = (address(left, 0, 0, 0), address(self.tile, 0, 0, 0), 1, self.k)
            if self.k % 32 == 0:
                call("embbert_mve_product", at, *args)
            else:
                call("embbert_mve_product_strided", at, *args, INTERLEAVE * self.k)


@dataclass(frozen=True)
class MveCodes:
    """Codes of `weight_format` as kernels/mve_codes.py packs them, and the multipliers of their blocks, int8."""

    codes: object
    multipliers: object
    weight_format: WeightFormat
    k: int

    def tile_rows(self, isa: Isa) -> int:
        return ROWS

    def dot(self, isa: Isa, acc, left, row: int, pair) -> None:
        with loop("k", self.k) as i, loop("r", ROWS) as r, loop("c", INTERLEAVE) as c:
            product = i32(left[isa.at(r, i)]) * self.at(pair, i, c)
            store(acc, acc[r, c] + product, r, c)

    def at(self, pair, column, second):
        """A weight of the first (second: 0) or second (1) row of a pair, as int32."""
        bits = self.weight_format.bits
        columns, block = 64 // bits, block_columns(bits)
        inside = tirx.floormod(column, columns)
        at = pair * (self.k * bits // 4) + tirx.floordiv(column, columns) * 16 + tirx.floormod(inside, 16)
        shift = tirx.Cast("int32", (tirx.floordiv(inside, 16) * 2 + second) * bits)
        code = (i32(self.codes[at]) >> shift) & i32((1 << bits) - 1)
        level = code - tirx.Select(code >= i32(1 << bits - 1), i32(1 << bits), i32(0))
        return level * i32(self.multipliers[pair * (self.k // block) + tirx.floordiv(column, block)])

    def product(self, isa, sums, left, pairs: int) -> None:
        places = (address(left, 0, 0, 0), address(self.codes, 0), address(self.multipliers, 0))
        call("embbert_mve_product_codes", address(sums, 0, 0, 0), *places, pairs, self.k, self.weight_format.bits)


def declare(n: int, k: int, weight_format: WeightFormat | None, packing: str | None):
    """The parameters of a weight."""
    if packing == MVE_CODES:
        pairs = n // INTERLEAVE
        codes = argument("weight", (pairs * k * weight_format.bits // 4 + SPARE,), "uint8")
        blocks = pairs * (k // block_columns(weight_format.bits)) + 1
        return MveCodes(codes, argument("weight_multipliers", (blocks,), "int8"), weight_format, k)
    return stored("weight", (n // INTERLEAVE, k, INTERLEAVE), weight_format)


def tile_of(k: int):
    """Room for two rows of k weights."""
    return workspace("tile", (1, k, INTERLEAVE), "int8")


def matrix(declared, tile, k: int, packing: str | None) -> Packed | Coded | MveCodes:
    if isinstance(declared, MveCodes):
        return declared
    if isinstance(declared, Codes):
        return Coded(declared, tile, k)
    return Packed(declared, k, packing == RAW_WORDS)
