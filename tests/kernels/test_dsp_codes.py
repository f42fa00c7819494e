"""Weights of four and two bits as DSP multiplies by them: where each code and multiplier lies."""

from __future__ import annotations

import numpy as np
import pytest

from embbert_tvm.errors import InputError
from embbert_tvm.kernels.dsp_codes import block_bytes, block_columns, fits_four_rows, pack_four_rows
from embbert_tvm.kernels.low_bits import FORMATS


def weight_at(packed: np.ndarray, row: int, column: int, k: int, columns: int, weight_format) -> int:
    """As embbert_dsp_weight has it."""
    bits, lane, inside = weight_format.bits, row % 4, column % columns
    start = (row // 4 * (k // columns) + column // columns) * block_bytes(bits, columns)
    byte = 2 * inside + lane // 2 if bits == 4 else inside // 4 * 4 + inside % 2 * 2 + inside // 2 % 2
    code = int(packed[start + byte]) >> (lane % 2 * 4 if bits == 4 else 2 * lane) & (1 << bits) - 1
    first, _, *second = packed[start + columns * bits // 2 :][:4].astype(int)
    multiplier = first if lane < 2 else (second[0] | second[1] << 8) >> (8 if bits == 4 else 10)
    return ((code ^ 8 if bits == 4 and lane == 3 else code) + weight_format.first) * multiplier


@pytest.mark.parametrize(("label", "k"), [("int4b64", 128), ("int4b32", 96), ("ternaryb32", 64), ("int2b64", 192)])
def test_every_weight_is_where_the_micro_kernel_reads_it(label, k):
    weight_format, rng = FORMATS[label], np.random.default_rng(k)
    levels = rng.integers(weight_format.first, weight_format.peak + 1, (8, k)).astype(np.int8)
    multipliers = rng.integers(1, 17, (4, k // weight_format.block))
    packed = pack_four_rows(levels, multipliers, weight_format, weight_format.block)
    assert len(packed) == 2 * (k // weight_format.block) * block_bytes(weight_format.bits, weight_format.block)
    columns = weight_format.block
    found = [[weight_at(packed, row, i, k, columns, weight_format) for i in range(k)] for row in range(8)]
    np.testing.assert_array_equal(found, levels * multipliers.repeat(2, 0).repeat(columns, 1))


def test_what_can_be_packed():
    assert fits_four_rows(FORMATS["int4b64"], 4, 128)
    assert block_columns(FORMATS["int4"], 96) == 32
    for label, n, k in (
        ("int4b64", 6, 128),
        ("int4b16", 4, 128),
        ("int6b64", 4, 64),
        ("binary", 4, 64),
        ("int4", 4, 16),
    ):
        assert not fits_four_rows(FORMATS[label], n, k)
    with pytest.raises(InputError, match="whole blocks of four rows by 32 columns"):
        pack_four_rows(np.zeros((4, 48), np.int8), np.ones((2, 1)), FORMATS["int4b32"], 32)
