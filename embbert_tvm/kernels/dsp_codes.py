"""Weights of four or two bits as embbert_dsp_codes_2x4 reads them: four neighbouring rows side by side.

Four rows' codes of a column are one number: of four bits a halfword, of two a byte. It multiplies as it is; so do its
lowest three codes, two and one, each a mask away; the differences are the four sums. Codes are levels in offset binary,
less the least level, but the fourth row's of four bits, whose sign is the halfword's. A word holds two columns by four
bits. By two it holds four: byte 0 is the first's, byte 2 the second's, bytes 1 and 3 are the third's and the fourth's.

After the words of a block of columns comes one of its multipliers: the first two rows' in the low half, in the high
half that of the other two, shifted up, so that SMLAWT brings a sum down as it multiplies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx

from embbert_tvm.errors import InputError
from embbert_tvm.kernels.builder import address, argument, call, i32
from embbert_tvm.kernels.low_bits import WeightFormat

BITS = (4, 2)
ROWS = 4  # side by side
BLOCKS = (64, 32)  # columns of a block, as the micro-kernel's rounds are
_SHIFTS = {4: 8, 2: 10}  # of the second multiplier, by bits
_WORD = 4  # bytes


def block_columns(weight_format: WeightFormat, k: int) -> int | None:
    """The columns that share a multiplier, of rows of k; None where no round has so many."""
    if weight_format.block is not None:
        return weight_format.block if weight_format.block in BLOCKS else None
    return next((columns for columns in BLOCKS if k % columns == 0), None)


def fits_four_rows(weight_format: WeightFormat, n: int, k: int) -> bool:
    """Whether (n, k) weights of a format can be packed: whole blocks of four rows, levels of two or four bits."""
    columns = block_columns(weight_format, k)
    in_range = weight_format.step == 1 and weight_format.count <= 1 << weight_format.bits
    signed = weight_format.bits == 2 or weight_format.first == -8
    return weight_format.bits in BITS and in_range and signed and n % ROWS == 0 and bool(columns) and k % columns == 0


def block_bytes(bits: int, columns: int) -> int:
    """Bytes of a block of four rows, with its multipliers."""
    return columns * bits // 2 + _WORD


def pack_four_rows(
    levels: np.ndarray, multipliers: np.ndarray, weight_format: WeightFormat, columns: int
) -> np.ndarray:
    """The bytes of int8 levels (n, k), n a multiple of four, and their multipliers (n / 2, k / columns). InputError
    where k is no multiple of a block's columns."""
    bits, (n, k) = weight_format.bits, levels.shape
    if n % ROWS or k % columns:
        raise InputError(f"codes of {bits} bits, {n} by {k}: must be whole blocks of four rows by {columns} columns")
    codes = (levels.astype(np.int32) - weight_format.first).reshape(n // ROWS, ROWS, k)
    if bits == 4:
        codes[:, ROWS - 1] ^= 8
    numbers = np.bitwise_or.reduce(codes << (bits * np.arange(ROWS))[:, None], 1)
    if bits == 4:
        packed = np.ascontiguousarray(numbers.astype("<u2")).view(np.uint8)
    else:
        fours = numbers.astype(np.uint8).reshape(n // ROWS, k // 4, 2, 2)
        packed = np.ascontiguousarray(fours.transpose(0, 1, 3, 2))
    first, second = multipliers.astype(np.uint32).reshape(n // ROWS, 2, -1).transpose(1, 0, 2)
    words = np.ascontiguousarray((first | second << (16 + _SHIFTS[bits])).astype("<u4")).view(np.uint8)
    blocks = (n // ROWS, k // columns)
    return np.concatenate([packed.reshape(*blocks, -1), words.reshape(*blocks, _WORD)], 2).reshape(-1)


@dataclass(frozen=True)
class FourRows:
    """A matrix (rows, k) of `weight_format`, as `pack_four_rows` has it."""

    buffer: object
    weight_format: WeightFormat
    rows: int
    k: int

    @property
    def block(self) -> int:
        found = block_columns(self.weight_format, self.k)
        assert found is not None, "packed for another micro-kernel"
        return found

    @property
    def offset(self) -> int:
        """What a level is less than its code."""
        return -self.weight_format.first

    @property
    def sizes(self) -> tuple[int, ...]:
        """What micro-kernels are told of it: offset, columns, those of a block, bits."""
        return self.offset, self.k, self.block, self.weight_format.bits

    def start(self, four):
        """Address of four rows."""
        return address(self.buffer, four * self._row_bytes)

    def element(self, row, column):
        """A weight as int32."""
        return self.at(tirx.floordiv(row, ROWS), column, tirx.floormod(row, ROWS))

    def at(self, four, column, lane):
        """A weight of row `lane` of four as int32."""
        bits, columns = self.weight_format.bits, self.block
        start = four * self._row_bytes + tirx.floordiv(column, columns) * block_bytes(bits, columns)
        inside = tirx.floormod(column, columns)
        if bits == 4:
            byte, shift = inside * 2 + tirx.floordiv(lane, 2), tirx.floormod(lane, 2) * 4
        else:
            byte = (
                tirx.floordiv(inside, 4) * 4 + tirx.floormod(inside, 2) * 2 + tirx.floordiv(tirx.floormod(inside, 4), 2)
            )
            shift = lane * 2
        code = self._shifted(start + byte, shift) & i32((1 << bits) - 1)
        if bits == 4:
            code = code ^ tirx.Select(lane == ROWS - 1, i32(8), i32(0))
        words = start + columns * bits // 2
        high = (i32(self.buffer[words + 2]) | i32(self.buffer[words + 3]) << i32(8)) >> i32(_SHIFTS[bits])
        return (code - i32(self.offset)) * tirx.Select(lane < 2, i32(self.buffer[words]), high)

    @property
    def _row_bytes(self) -> int:
        return self.k // self.block * block_bytes(self.weight_format.bits, self.block)

    def _shifted(self, at, shift):
        return i32(self.buffer[at]) >> tirx.Cast("int32", shift)


def four_rows(name: str, rows: int, k: int, weight_format: WeightFormat) -> FourRows:
    """Argument `name`, uint8."""
    columns = block_columns(weight_format, k)
    assert columns is not None, "packed for another micro-kernel"
    size = rows // ROWS * (k // columns) * block_bytes(weight_format.bits, columns)
    return FourRows(argument(name, (size,), "uint8"), weight_format, rows, k)


def row_product(acc, row, weight: FourRows) -> None:
    """acc[j] += row . row j of weight, by the micro-kernel."""
    offset, *sizes = weight.sizes
    call("embbert_dsp_codes_rows", address(acc, 0), address(row, 0), weight.start(0), offset, weight.rows, *sizes)
