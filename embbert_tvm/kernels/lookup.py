"""Ternary weights as embbert_lookup_product reads them: three columns' levels are an index into 27 sums.

A block is 32 columns: ten groups of three and one of two. A group's index is the sum of its codes, 0, 1 or 2, times 1,
3 and 9, the first column's first; five bits hold it. A row of a block is two words, of six groups and of five, the
first lowest. After the words of all rows come the multipliers of the pairs of rows, a byte each, in whole words. Block
follows block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx

from embbert_tvm.errors import InputError
from embbert_tvm.kernels.builder import argument, i32
from embbert_tvm.kernels.layouts import INTERLEAVE
from embbert_tvm.kernels.low_bits import WeightFormat

COLUMNS = 32  # of a block
GROUP = 3
GROUPS = -(-COLUMNS // GROUP)
ENTRIES = 3**GROUP
TABLE_WORDS = GROUPS * ENTRIES * 2  # an entry is the sums of four rows, two a word
_IN_WORD, _BITS, _WORDS, _LANES = 6, 5, 2, 4


def fits_lookup(weight_format: WeightFormat, n: int, k: int) -> bool:
    """Whether (n, k) weights of a format can be packed: ternary, in whole blocks and pairs of rows."""
    ternary = (weight_format.first, weight_format.step, weight_format.count) == (-1, 1, 3)
    whole = weight_format.block is None or weight_format.block % COLUMNS == 0
    return ternary and whole and k % COLUMNS == 0 and n % INTERLEAVE == 0


def block_words(n: int) -> int:
    """Words of a block of n rows, with its multipliers."""
    return _WORDS * n + -(-(n // INTERLEAVE) // _LANES)


def pack_lookup(levels: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    """The words, int32, of levels -1, 0 and 1 (n, k) and multipliers (n / 2, k / 32). InputError for other shapes."""
    n, k = levels.shape
    if n % INTERLEAVE or k % COLUMNS:
        raise InputError(f"ternary weights, {n} by {k}: must be pairs of rows by whole blocks of {COLUMNS} columns")
    codes = (levels.astype(np.int32) + 1).reshape(n, -1, COLUMNS)
    codes = np.pad(codes, ((0, 0), (0, 0), (0, GROUPS * GROUP - COLUMNS)))
    indices = codes.reshape(n, -1, GROUPS, GROUP) @ np.array([1, 3, 9])
    indices = np.pad(indices, ((0, 0), (0, 0), (0, _WORDS * _IN_WORD - GROUPS)))
    shifted = indices.reshape(n, -1, _WORDS, _IN_WORD) << (_BITS * np.arange(_IN_WORD))
    words = shifted.sum(-1).transpose(1, 0, 2).reshape(k // COLUMNS, -1)
    lanes = multipliers.astype(np.int64).T
    lanes = np.pad(lanes, ((0, 0), (0, -lanes.shape[1] % _LANES))).reshape(k // COLUMNS, -1, _LANES)
    return np.concatenate([words, (lanes << (8 * np.arange(_LANES))).sum(-1)], 1).reshape(-1).astype(np.int32)


@dataclass(frozen=True)
class LookupRows:
    """A matrix (rows, k), as `pack_lookup` has it."""

    buffer: object
    rows: int
    k: int

    def element(self, row, column):
        """A weight as int32."""
        start = tirx.floordiv(column, COLUMNS) * block_words(self.rows)
        inside = tirx.floormod(column, COLUMNS)
        group, place = tirx.floordiv(inside, GROUP), tirx.floormod(inside, GROUP)
        word = self.buffer[start + row * _WORDS + tirx.floordiv(group, _IN_WORD)]
        index = (word >> tirx.Cast("int32", tirx.floormod(group, _IN_WORD) * _BITS)) & i32((1 << _BITS) - 1)
        rest = tirx.floordiv(index, tirx.Select(place == 0, i32(1), tirx.Select(place == 1, i32(3), i32(9))))
        pair = tirx.floordiv(row, INTERLEAVE)
        lanes = self.buffer[start + _WORDS * self.rows + tirx.floordiv(pair, _LANES)]
        multiplier = (lanes >> tirx.Cast("int32", tirx.floormod(pair, _LANES) * 8)) & i32(255)
        return (tirx.floormod(rest, i32(3)) - i32(1)) * multiplier


def lookup_rows(name: str, rows: int, k: int) -> LookupRows:
    """Argument `name`, int32."""
    return LookupRows(argument(name, (k // COLUMNS * block_words(rows),), "int32"), rows, k)
