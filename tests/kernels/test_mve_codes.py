"""Weights of four and two bits as MVE unpacks them: where each code lies."""

from __future__ import annotations

import numpy as np
import pytest

from embbert_tvm.errors import InputError
from embbert_tvm.kernels.mve_codes import FIRST_ROW, SPARE, block_columns, pack_block_multipliers, pack_levels


def level_at(packed: np.ndarray, pair: int, row: int, k: int, column: int, bits: int) -> int:
    """As embbert_mve_level has it."""
    columns = 64 // bits
    byte = packed[pair * k * bits // 4 + column // columns * 16 + column % 16]
    code = int(byte) >> (column % columns // 16 * 2 + row) * bits & (1 << bits) - 1
    if bits == 4 and row == 0:
        return code - FIRST_ROW
    return code - (1 << bits) if code >= 1 << bits - 1 else code


@pytest.mark.parametrize(("bits", "k"), [(4, 64), (4, 192), (2, 32), (2, 96)])
def test_every_level_is_where_the_micro_kernel_reads_it(bits, k):
    most = 1 << bits - 1
    levels = np.random.default_rng(k).integers(-most, most, (3, k, 2)).astype(np.int8)
    packed = pack_levels(levels, bits)
    assert packed.nbytes == levels.size * bits // 8 + SPARE
    found = [[[level_at(packed, p, r, k, i, bits) for r in range(2)] for i in range(k)] for p in range(3)]
    np.testing.assert_array_equal(found, levels)


def test_what_cannot_be_packed():
    with pytest.raises(InputError, match="whole blocks"):
        pack_levels(np.zeros((1, 32, 2), np.int8), 4)
    with pytest.raises(InputError, match="does not fit 2 bits"):
        pack_levels(np.full((1, 32, 2), 2, np.int8), 2)
    assert block_columns(4) == 64


def test_multipliers_have_one_to_spare():
    assert pack_block_multipliers(np.array([[3, 16]])).tolist() == [3, 16, 1]
