"""A product's weights in memory, as the loops of a block read them: row-interleaved int8, or codes of fewer bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

from tvm import tirx

from embbert_tvm.kernels import dsp_codes
from embbert_tvm.kernels.builder import address, argument, call, i32, loop, store, workspace
from embbert_tvm.kernels.dsp_codes import FourRows
from embbert_tvm.kernels.isa.base import TILE, Isa
from embbert_tvm.kernels.layouts import DSP_CODES, INTERLEAVE, LOOKUP, MVE_CODES, RAW_WORDS, ROWS
from embbert_tvm.kernels.lookup import LookupRows, lookup_rows
from embbert_tvm.kernels.low_bits import Codes, WeightFormat, rows_unpack, stored
from embbert_tvm.kernels.mve_codes import FIRST_ROW, SPARE, block_columns

Each = Callable[[], AbstractContextManager]
_TILE_COLUMNS = 256  # of pairs of rows that are unpacked at once


class _Tiled:
    """Weights that are multiplied by a tile of sums at a time."""

    def begin(self, isa: Isa, left) -> None:
        """What a product by tiles sets up, once for a block operand."""

    def fills_sums(self, isa: Isa) -> bool:
        """Whether `fill` does what tiles do."""
        return False

    def fill(self, isa: Isa, sums, left, n: int, start: Callable, finish: Callable) -> None:
        """`Isa.tiles` by a block of sums, (n / 2, 4, 2)."""
        raise NotImplementedError(type(self).__name__)


@dataclass(frozen=True)
class Packed(_Tiled):
    """int8 (n / 2, k, 2); raw: as kernels/raw_words.py packs them. each: a loop over the blocks that a tile of weights
    meets, one after another."""

    buffer: object
    k: int
    raw: bool = False
    each: Each = nullcontext

    def tile_shape(self, isa: Isa, n: int) -> tuple[int, int]:
        """Rows and columns of a tile of a product of n columns."""
        return isa.raw_tile if self.raw and n % isa.raw_tile[1] == 0 else (ROWS, INTERLEAVE)

    def dot(self, isa: Isa, acc, left, row: int, pair) -> None:
        """acc (tile_shape) += rows of left from `row` on . the rows of `pair` and, of four columns, the next."""
        if self.raw:
            isa.dot_raw(acc, left, row, self.buffer, pair, self.k, tuple(int(dim) for dim in acc.shape))
            return
        isa.dot(acc, (), left, self.buffer, (pair, 0), self.k)

    def product(self, isa, sums, left, pairs: int) -> None:
        """A block of sums: left . all rows."""
        isa.product(sums, left, self.buffer, (0, 0), pairs, self.k)


@dataclass(frozen=True)
class Coded(_Tiled):
    """Codes of rows in pairs, unpacked a pair at a time into tile, int8 (1, k, 2)."""

    codes: Codes
    tile: object
    k: int
    each: ClassVar[Each] = nullcontext

    def tile_shape(self, isa: Isa, n: int) -> tuple[int, int]:
        return ROWS, INTERLEAVE

    def dot(self, isa: Isa, acc, left, row: int, pair) -> None:
        self.codes.unpack_pair(isa.intrinsic, self.tile, pair)
        isa.dot(acc, (), left, self.tile, (0, 0), self.k)

    def product(self, isa, sums, left, pairs: int) -> None:
        per_block = isa.columns // INTERLEAVE
        together = 1
        if isa.intrinsic and rows_unpack(self.codes.weight_format, INTERLEAVE * self.k, INTERLEAVE):
            together = math.gcd(int(self.tile.shape[0]), pairs, per_block)
        with loop("j", pairs // together) as j:
            if together > 1:
                self.codes.unpack_pairs(self.tile, j * together, together)
            else:
                self.codes.unpack_pair(isa.intrinsic, self.tile, j)
            first = j * together
            at = address(sums, tirx.floordiv(first, per_block), 0, tirx.floormod(first, per_block) * INTERLEAVE)
            args = (address(left, 0, 0, 0), address(self.tile, 0, 0, 0), together, self.k)
            if self.k % 32 == 0:
                call("embbert_mve_product", at, *args)
            else:
                call("embbert_mve_product_strided", at, *args, INTERLEAVE * self.k)


@dataclass(frozen=True)
class MveCodes(_Tiled):
    """Codes of `weight_format` as kernels/mve_codes.py packs them, and the multipliers of their blocks, int8.
    starts: of four bits, what the sums of a block operand's rows start from, (blocks, 4)."""

    codes: object
    multipliers: object
    weight_format: WeightFormat
    k: int
    starts: object = None
    each: ClassVar[Each] = nullcontext

    def tile_shape(self, isa: Isa, n: int) -> tuple[int, int]:
        return ROWS, INTERLEAVE

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
        if bits == 4:
            level = tirx.Select(second == 0, code - i32(FIRST_ROW), level)
        return level * i32(self.multipliers[pair * (self.k // block) + tirx.floordiv(column, block)])

    def product(self, isa, sums, left, pairs: int) -> None:
        places = [address(left, 0, 0, 0), address(self.codes, 0), address(self.multipliers, 0)]
        if self.starts is not None:
            places.append(address(self.starts, 0, 0))
        name = f"embbert_mve_product_codes_{self.weight_format.bits}"
        call(name, address(sums, 0, 0, 0), *places, pairs, self.k)


@dataclass(frozen=True)
class DspCodes(_Tiled):
    """Codes as kernels/dsp_codes.py packs them. starts: what the sums of a block operand's rows start from,
    (blocks, 4)."""

    four_rows: FourRows
    starts: object
    each: ClassVar[Each] = nullcontext

    def tile_shape(self, isa: Isa, n: int) -> tuple[int, int]:
        return INTERLEAVE, dsp_codes.ROWS

    def begin(self, isa: Isa, left) -> None:
        if isa.intrinsic:
            at = (address(self.starts, 0, 0), address(left, 0, 0, 0))
            call("embbert_dsp_block_sums", *at, self.four_rows.k, self.four_rows.block, self.four_rows.offset)

    def fills_sums(self, isa: Isa) -> bool:
        return isa.intrinsic and isa.codes_fill_sums and self.four_rows.weight_format.bits == 4

    def fill(self, isa: Isa, sums, left, n: int, start: Callable, finish: Callable) -> None:
        self.begin(isa, left)
        with loop("j", n // INTERLEAVE) as j:
            for r, c in TILE:
                store(sums, start(r, j * INTERLEAVE + c), j, r, c)
        places = (address(left, 0, 0, 0), self.four_rows.start(0), address(self.starts, 0, 0))
        call("embbert_dsp_codes_product", address(sums, 0, 0, 0), *places, n, self.four_rows.k, self.four_rows.block)
        with loop("j", n // INTERLEAVE) as j:
            for r, c in TILE:
                finish(r, j * INTERLEAVE + c, sums[j, r, c])

    def dot(self, isa: Isa, acc, left, row, pair) -> None:
        four = tirx.floordiv(pair, dsp_codes.ROWS // INTERLEAVE)
        if not isa.intrinsic:
            with loop("k", self.four_rows.k) as i, loop("r", INTERLEAVE) as r, loop("c", dsp_codes.ROWS) as c:
                product = i32(left[isa.at(row + r, i)]) * self.four_rows.at(four, i, c)
                store(acc, acc[r, c] + product, r, c)
            return
        places = (address(left, 0, row, 0), self.four_rows.start(four), address(self.starts, 0, row))
        call("embbert_dsp_codes_2x4", address(acc, 0, 0), *places, *self.four_rows.sizes)


@dataclass(frozen=True)
class Lookup(_Tiled):
    """Ternary weights as kernels/lookup.py packs them. table: room for the sums of one block's groups of columns."""

    weight: LookupRows
    table: object
    each: ClassVar[Each] = nullcontext

    def tile_shape(self, isa: Isa, n: int) -> tuple[int, int]:
        return ROWS, INTERLEAVE

    def fills_sums(self, isa: Isa) -> bool:
        return isa.intrinsic

    def fill(self, isa: Isa, sums, left, n: int, start: Callable, finish: Callable) -> None:
        with loop("j", n // INTERLEAVE) as j:
            for r, c in TILE:
                store(sums, start(r, j * INTERLEAVE + c), j, r, c)
        places = (address(left, 0, 0, 0), address(self.weight.buffer, 0), address(self.table, 0))
        call("embbert_lookup_product", address(sums, 0, 0, 0), *places, n, self.weight.k)
        with loop("j", n // INTERLEAVE) as j:
            for r, c in TILE:
                finish(r, j * INTERLEAVE + c, sums[j, r, c])

    def dot(self, isa: Isa, acc, left, row: int, pair) -> None:
        with loop("k", self.weight.k) as i, loop("r", ROWS) as r, loop("c", INTERLEAVE) as c:
            product = i32(left[isa.at(r, i)]) * self.weight.element(pair * INTERLEAVE + c, i)
            store(acc, acc[r, c] + product, r, c)


def declare(n: int, k: int, weight_format: WeightFormat | None, packing: str | None):
    """The parameters of a weight."""
    if packing == MVE_CODES:
        pairs = n // INTERLEAVE
        codes = argument("weight", (pairs * k * weight_format.bits // 4 + SPARE,), "uint8")
        blocks = pairs * (k // block_columns(weight_format.bits)) + 1
        return MveCodes(codes, argument("weight_multipliers", (blocks,), "int8"), weight_format, k)
    if packing == DSP_CODES:
        return dsp_codes.four_rows("weight", n, k, weight_format)
    if packing == LOOKUP:
        return lookup_rows("weight", n, k)
    return stored("weight", (n // INTERLEAVE, k, INTERLEAVE), weight_format)


def tile_of(k: int, fills_blocks: bool = False):
    """Room for two rows of k weights, or, where a product fills whole blocks of sums, for as many as 256 columns
    are."""
    pairs = 1 << max(0, (_TILE_COLUMNS // k).bit_length() - 1) if fills_blocks else 1
    return workspace("tile", (pairs, k, INTERLEAVE), "int8")


def matrix(
    declared, room, k: int, packing: str | None, each: Each = nullcontext
) -> Packed | Coded | MveCodes | DspCodes | Lookup:
    """room: a tile for unpacked weights, or a table of sums."""
    if isinstance(declared, LookupRows):
        return Lookup(declared, room)
    if isinstance(declared, FourRows):
        return DspCodes(declared, workspace("starts", (k // declared.block, ROWS), "int32"))
    if isinstance(declared, MveCodes):
        if (bits := declared.weight_format.bits) != 4:
            return declared
        return replace(declared, starts=workspace("starts", (k // block_columns(bits), ROWS), "int32"))
    if isinstance(declared, Codes):
        return Coded(declared, room, k)
    return Packed(declared, k, packing == RAW_WORDS, each)
