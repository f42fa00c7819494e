"""Weights of fewer than 8 bits in memory: codes, multipliers of blocks, and how a kernel makes int8 of them.

A weight of row j and column k is the int8 `(first + step * code) * m`, m the multiplier of its block: two neighbouring
rows by `block` columns. Codes of 6 and 3 bits lie in two planes, the low 4 (2) bits of all and then the high 2 (1). A
plane of p bits is words of 32 / p codes: byte lane i of a word holds the codes i, 4 + i, 8 + i, ..., the first lowest,
so that a mask takes four neighbours of it at once. Multipliers lie two a byte, less one, the first lowest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from tvm import tirx

from embbert_tvm.kernels.builder import address, argument, call, i32, loop, store, workspace
from embbert_tvm.kernels.layouts import INTERLEAVE

ROWS = INTERLEAVE  # of a block
MOST = 16  # of a multiplier
BLOCKS = (16, 32, 64)  # columns
# The types in which biases and small tables, and multipliers and gains, are stored.
UNCOMPRESSED, COMPRESSED = ("int32", "int32"), ("int8", "int16")


@dataclass(frozen=True)
class WeightFormat:
    """What a weight can be: its level is first + step * code, for `count` codes of `bits` bits. block: columns of a
    block, None for all of a row, whose multiplier is then `most` and is not stored."""

    name: str
    bits: int
    first: int
    step: int
    count: int
    block: int | None = None

    @property
    def peak(self) -> int:
        """The largest level."""
        return self.first + self.step * (self.count - 1)

    @property
    def most(self) -> int:
        return min(MOST, 128 // max(-self.first, self.peak))

    @property
    def stored(self) -> bool:
        """Whether its weights are stored as codes, not as int8."""
        return self.bits < 8

    @property
    def label(self) -> str:
        """Name in kernels and reports."""
        return self.name if self.block is None else f"{self.name}b{self.block}"

    @property
    def planes(self) -> tuple[tuple[int, int], ...]:
        """(bits, the lowest of them in a code) of each plane."""
        return {6: ((4, 0), (2, 4)), 3: ((2, 0), (1, 2))}.get(self.bits, ((self.bits, 0),))

    def within(self, k: int) -> WeightFormat:
        """The format for rows of k: a block that holds all of a row is none."""
        return replace(self, block=None) if self.block is not None and self.block >= k else self

    def plane_bytes(self, count: int) -> tuple[int, ...]:
        """Bytes of each plane of so many codes: whole words."""
        return tuple(4 * -(-count * bits // 32) for bits, _ in self.planes)

    def columns(self, k: int) -> int:
        """Blocks side by side in rows of k."""
        return -(-k // self.block) if self.block else 0

    def to_levels(self, x: np.ndarray) -> np.ndarray:
        """The nearest levels, in float."""
        return self.first + self.step * np.clip(np.rint((x - self.first) / self.step), 0, self.count - 1)


# Each is there with blocks of some widths. All but binary have a zero, which many small weights need more than levels
# that lie evenly around it.
FORMATS = {
    weight_format.label: weight_format
    for base in (
        WeightFormat("int8", 8, -127, 1, 255),
        WeightFormat("int6", 6, -32, 1, 64),
        WeightFormat("int4", 4, -8, 1, 16),
        WeightFormat("int3", 3, -4, 1, 8),
        WeightFormat("int2", 2, -2, 1, 4),
        WeightFormat("ternary", 2, -1, 1, 3),
        WeightFormat("binary", 1, -1, 2, 2),
    )
    for weight_format in (base, *(replace(base, block=block) for block in BLOCKS if base.stored))
}


def pack_codes(weight_format: WeightFormat, levels: np.ndarray) -> np.ndarray:
    """Levels, flat in the order in which they are read, as the bytes of their planes."""
    codes = ((levels.reshape(-1).astype(np.int32) - weight_format.first) // weight_format.step).astype(np.uint8)
    planes = []
    for (bits, low), size in zip(weight_format.planes, weight_format.plane_bytes(len(codes)), strict=True):
        part = np.zeros(size * 8 // bits, np.uint8)
        part[: len(codes)] = codes >> low & (1 << bits) - 1
        words = part.reshape(-1, 8 // bits, 4) << (bits * np.arange(8 // bits, dtype=np.uint8))[None, :, None]
        planes.append(np.bitwise_or.reduce(words, 1).astype(np.uint8).reshape(-1))
    return np.concatenate(planes)


def pack_multipliers(multipliers: np.ndarray) -> np.ndarray:
    """Multipliers from 1 to 16, block by block along the rows, as bytes."""
    flat = multipliers.reshape(-1).astype(np.uint8) - 1
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    return flat[::2] | flat[1::2] << 4


@dataclass(frozen=True)
class Codes:
    """The buffers of a matrix (rows, k) of `weight_format`, stored row after row or, as pairs, two rows at a time."""

    weight_format: WeightFormat
    rows: int
    k: int
    codes: object
    multipliers: object | None

    def at(self, row, column, flat):
        """The int8 of `row` and `column` as int32, stored at place `flat`."""
        code, offset = None, 0
        for (bits, low), size in zip(
            self.weight_format.planes, self.weight_format.plane_bytes(self.rows * self.k), strict=True
        ):
            word = tirx.floordiv(flat, 32 // bits)
            inside = tirx.floormod(flat, 32 // bits)
            byte = i32(self.codes[offset + word * 4 + tirx.floormod(inside, 4)])
            shift = tirx.Cast("int32", tirx.floordiv(inside, 4) * bits)
            part = ((byte >> shift) & i32((1 << bits) - 1)) << i32(low)
            code, offset = part if code is None else code + part, offset + size
        level = code * i32(self.weight_format.step) + i32(self.weight_format.first)
        return level * self.multiplier(row, column)

    def multiplier(self, row, column):
        if self.multipliers is None:
            return i32(self.weight_format.most)
        block = tirx.floordiv(row, ROWS) * self.weight_format.columns(self.k) + tirx.floordiv(
            column, self.weight_format.block
        )
        byte = i32(self.multipliers[tirx.floordiv(block, 2)])
        return ((byte >> tirx.Cast("int32", tirx.floormod(block, 2) * 4)) & i32(15)) + i32(1)

    def element(self, row, column):
        """The element of a matrix stored row after row."""
        return self.at(row, column, row * self.k + column)

    def unpack_pair(self, intrinsic: bool, out, pair) -> None:
        """out int8 (1, k, 2): rows 2 * pair and 2 * pair + 1 of a matrix stored in pairs."""
        if intrinsic and rows_unpack(self.weight_format, INTERLEAVE * self.k, INTERLEAVE):
            self._call(out, pair * (INTERLEAVE * self.k), pair, INTERLEAVE * self.k, INTERLEAVE)
            return
        with loop("k", self.k) as k, loop("c", INTERLEAVE) as c:
            row = pair * INTERLEAVE + c
            store(out, tirx.Cast("int8", self.at(row, k, (pair * self.k + k) * INTERLEAVE + c)), 0, k, c)

    def unpack_pairs(self, out, pair, count: int) -> None:
        """out int8 (count, k, 2): the same of so many pairs, by the micro-kernel; where `rows_unpack` of a pair."""
        self._call(out, pair * (INTERLEAVE * self.k), pair, count * INTERLEAVE * self.k, INTERLEAVE)

    def unpack_row(self, out, row) -> None:
        """out int8 (k,): a row of a matrix stored row after row, by the micro-kernel; where `rows_unpack`."""
        self._call(out, row * self.k, tirx.floordiv(row, ROWS), self.k, 1)

    def _call(self, out, first, pair, count: int, interleave: int) -> None:
        """The codes from `first` on, which starts a word of every plane."""
        weight_format, sizes = self.weight_format, self.weight_format.plane_bytes(self.rows * self.k)
        low, high = weight_format.planes[0][0], weight_format.planes[1][0] if len(weight_format.planes) > 1 else 0
        starts = [address(self.codes, tirx.floordiv(first * low, 8))]
        starts.append(address(self.codes, sizes[0] + tirx.floordiv(first * high, 8)) if high else starts[0])
        if self.multipliers is None:
            multipliers, block = starts[0], 0
        else:
            multipliers, block = address(self.multipliers, 0), weight_format.block
        at = pair * weight_format.columns(self.k)
        args = (
            *starts,
            multipliers,
            at,
            count,
            block * interleave,
            low,
            high,
            weight_format.first,
            weight_format.step,
            weight_format.most,
        )
        call("embbert_unpack", address(out, *[0] * len(out.shape)), *args)


def rows_unpack(weight_format: WeightFormat, k: int, interleave: int = 1) -> bool:
    """Whether rows of k, of blocks of so many rows, are whole blocks, and these whole words of every plane."""
    run = k if weight_format.block is None else weight_format.block * interleave
    few = run < 32 and all(run * bits % 32 == 0 for bits, _ in weight_format.planes)
    return k % run == 0 and (run % 32 == 0 or few)


def codes(name: str, rows: int, k: int, weight_format: WeightFormat) -> Codes:
    """Arguments `name` uint8 and, where blocks have multipliers, `name_multipliers` uint8."""
    packed = argument(name, (sum(weight_format.plane_bytes(rows * k)),), "uint8")
    multipliers = None
    if weight_format.block is not None:
        count = -(-rows // ROWS) * weight_format.columns(k)
        multipliers = argument(f"{name}_multipliers", (-(-count // 2),), "uint8")
    return Codes(weight_format, rows, k, packed, multipliers)


def stored(name: str, shape: tuple, weight_format: WeightFormat | None):
    """An int8 argument: a buffer of `shape`, (rows, k) or row-interleaved, or its codes."""
    if weight_format is None:
        return argument(name, shape, "int8")
    rows, k = shape[:2]
    return codes(name, rows * INTERLEAVE if len(shape) == 3 else rows, k, weight_format)


class CompressedVector:
    """int32 (..., n) stored in int8 or int16: the stored number times 2^shift, the shift being the last."""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        self.name, self.shape = name, shape
        self._last = math.prod(shape)
        self.buffer = argument(name, (self._last + 1,), dtype)

    def __getitem__(self, at):
        *rows, column = at if isinstance(at, tuple) else (at,)
        flat = rows[0] * self.shape[-1] + column if rows else column
        # Not shifted: in C a shift of a negative number is undefined.
        return i32(self.buffer[flat]) * (i32(1) << self.shift)

    @property
    def shift(self):
        return i32(self.buffer[self._last])


def constants(name: str, shape: tuple[int, ...], dtype: str = "int32"):
    """An argument of int32 numbers that are stored in `dtype`."""
    return argument(name, shape, dtype) if dtype == "int32" else CompressedVector(name, shape, dtype)


def widened(fills_blocks: bool, vector):
    """A vector as the micro-kernels take it: where they fill whole blocks, int32 in a workspace."""
    if not fills_blocks or not isinstance(vector, CompressedVector):
        return vector
    out = workspace(f"{vector.name}_wide", vector.shape, "int32")
    with loop("j", vector.shape[0]) as j:
        store(out, vector[j], j)
    return out


def compressed(values: np.ndarray, dtype: str) -> np.ndarray:
    """int32 (..., n) as `CompressedVector` reads them; they must be what `rounded_to` gives."""
    shift = _shift(values, dtype)
    return np.append((values.reshape(-1) >> shift), shift).astype(dtype)


def rounded_to(values: np.ndarray, dtype: str) -> np.ndarray:
    """int32 values rounded to those that `dtype` holds with one shift for all."""
    shift = _shift(values, dtype)
    most = np.iinfo(dtype).max
    return (np.clip(np.rint(values / 2.0**shift), -most, most).astype(np.int64) << shift).astype(np.int32)


def _shift(values: np.ndarray, dtype: str) -> int:
    """The least shift that brings the largest magnitude to what `dtype` holds, rounded down."""
    most, peak, shift = np.iinfo(dtype).max, int(np.abs(values.astype(np.int64)).max(initial=0)), 0
    while peak >> shift > most:
        shift += 1
    return shift
