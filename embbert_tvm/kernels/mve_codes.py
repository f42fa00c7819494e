"""Weights of four or two bits as embbert_mve_product_codes_4 and _2 read them.

Sixteen bytes hold sixteen columns of a row-interleaved pair of rows by four bits, thirty-two by two: byte i has column
i in its lowest bits, of the first row and then of the second, and, by two bits, column 16 + i above. Codes of two bits
are levels in two's complement: a shift up and one down make signed bytes of sixteen neighbouring columns of one row. Of
four bits the first row's have 8 added, so that a byte is 16 times the second row's level and the first's, and 8.
"""

from __future__ import annotations

import numpy as np

from embbert_tvm.errors import InputError
from embbert_tvm.kernels.low_bits import WeightFormat

BITS = (4, 2)
FIRST_ROW = 8  # what a first row's code of four bits is more than its level
SPARE = 16  # bytes past the last code that are loaded and not used


def block_columns(bits: int) -> int:
    """The columns that share a multiplier."""
    return 16 * bits


def fits_codes(weight_format: WeightFormat, k: int) -> bool:
    """Whether weights of a format and k columns can be packed: levels in two's complement, whole blocks."""
    columns = block_columns(weight_format.bits)
    in_range = (
        weight_format.step == 1
        and weight_format.first >= -(1 << weight_format.bits - 1)
        and weight_format.peak < 1 << weight_format.bits - 1
    )
    whole = k % columns == 0 and (weight_format.block is None or weight_format.block % columns == 0)
    return weight_format.bits in BITS and in_range and whole


def pack_levels(levels: np.ndarray, bits: int) -> np.ndarray:
    """The bytes of int8 levels (n / 2, k, 2); InputError where k is no multiple of a block's columns or a level needs
    more bits."""
    pairs, k, _ = levels.shape
    if bits not in BITS or k % block_columns(bits):
        raise InputError(
            f"codes of {bits} bits, {k} columns: must be 4 or 2 bits and whole blocks of 16 * bits columns"
        )
    if levels.min(initial=0) < -(1 << bits - 1) or levels.max(initial=0) >= 1 << bits - 1:
        raise InputError(f"a level from {levels.min()} to {levels.max()} does not fit {bits} bits")
    parts = 8 // bits  # of a byte: rows and, by two bits, halves
    added = np.array([FIRST_ROW if bits == 4 else 0, 0], np.int8)
    codes = (levels + added & (1 << bits) - 1).astype(np.uint8)
    # (pair, piece of 16 bytes, half, byte, row) to (..., byte, half, row): the lowest bits first.
    pieces = codes.reshape(pairs, -1, parts // 2, 16, 2).transpose(0, 1, 3, 2, 4).reshape(-1, parts)
    packed = np.bitwise_or.reduce(pieces << (bits * np.arange(parts, dtype=np.uint8)), 1).astype(np.uint8)
    return np.append(packed, np.zeros(SPARE, np.uint8))


def pack_block_multipliers(multipliers: np.ndarray) -> np.ndarray:
    """Multipliers (pairs, blocks), from 1 to 127, as int8, one more at the end."""
    return np.append(multipliers.reshape(-1), 1).astype(np.int8)
