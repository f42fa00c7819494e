"""Ternary weights as tables of sums are read by: where each lies, and products at the ends of int8."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from embbert_tvm.errors import InputError
from embbert_tvm.kernels import micro
from embbert_tvm.kernels.isa import isa_of
from embbert_tvm.kernels.layouts import DSP_CODES, LOOKUP
from embbert_tvm.kernels.lookup import TABLE_WORDS, block_words, fits_lookup, pack_lookup
from embbert_tvm.kernels.low_bits import FORMATS
from tests.running import compile_c

SOURCE = """
#include "embbert_lookup.h"
void product(int32_t *sums, const int16_t *a, const int32_t *weight, int32_t *table, int32_t n, int32_t k);
void product(int32_t *sums, const int16_t *a, const int32_t *weight, int32_t *table, int32_t n, int32_t k)
{
    embbert_lookup_product(sums, a, weight, table, n, k);
}
"""


def weight_at(packed: np.ndarray, row: int, column: int, n: int) -> int:
    """As embbert_lookup_product has it."""
    start, inside = column // 32 * block_words(n), column % 32
    group = inside // 3
    index = int(packed[start + 2 * row + group // 6]) >> 5 * (group % 6) & 31
    multiplier = packed[start + 2 * n :].view(np.uint8)[row // 2]
    return (index // 3 ** (inside % 3) % 3 - 1) * int(multiplier)


@pytest.mark.parametrize(("n", "k"), [(2, 32), (10, 64), (16, 96)])
def test_every_weight_is_where_the_micro_kernel_reads_it(n, k):
    rng = np.random.default_rng(n)
    levels, multipliers = rng.integers(-1, 2, (n, k)), rng.integers(1, 17, (n // 2, k // 32))
    packed = pack_lookup(levels, multipliers)
    assert len(packed) == k // 32 * block_words(n)
    found = [[weight_at(packed, row, i, n) for i in range(k)] for row in range(n)]
    np.testing.assert_array_equal(found, levels * multipliers.repeat(2, 0).repeat(32, 1))


@pytest.mark.parametrize("values", [(-128, -128), (127, 127), (-128, 127), (-128, 128)])
def test_no_sum_leaves_its_half_of_a_word(values):
    """Rows all at one end of int8, or at one end each, by weights all of one sign."""
    n, k = 6, 64
    flags = ("-O2", f"-I{Path(micro.__file__).parent}", "-DEMBBERT_DUAL_ISSUE=0")
    product = ctypes.CDLL(str(compile_c([SOURCE], flags))).product
    rng = np.random.default_rng(0)
    rows = rng.choice(values, (4, k))
    rows[:2] = np.array(values)[:, None]
    for levels in (np.ones((n, k), int), -np.ones((n, k), int), rng.integers(-1, 2, (n, k))):
        multipliers = rng.integers(1, 17, (n // 2, k // 32))
        packed, table = pack_lookup(levels, multipliers), np.zeros(TABLE_WORDS, np.int32)
        left = np.ascontiguousarray(rows.reshape(4, k // 2, 2).transpose(1, 0, 2).astype(np.int16))
        sums = rng.integers(-1000, 1000, (n // 2, 4, 2)).astype(np.int32)
        before = sums.copy()
        product(*(x.ctypes.data_as(ctypes.c_void_p) for x in (sums, left, packed, table)), n, k)
        expected = rows @ (levels * multipliers.repeat(2, 0).repeat(32, 1)).T
        np.testing.assert_array_equal(sums - before, expected.reshape(4, n // 2, 2).transpose(1, 0, 2))


def test_which_products_take_it():
    ternary = FORMATS["ternaryb32"]
    assert isa_of(("dsp",)).codes_packing(ternary, 64, 128) == LOOKUP
    assert isa_of(("dsp",)).codes_packing(ternary, 32, 128) == DSP_CODES
    assert isa_of(("dsp",)).codes_packing(ternary, 64, 128, one_row=True) == DSP_CODES
    assert isa_of(()).codes_packing(ternary, 8, 128) == LOOKUP
    assert isa_of(()).codes_packing(ternary, 8, 128, one_row=True) is None
    for label, n, k in (("ternaryb16", 8, 32), ("int2b32", 8, 32), ("ternaryb32", 8, 48), ("ternary", 7, 32)):
        assert not fits_lookup(FORMATS[label], n, k)
    with pytest.raises(InputError, match="pairs of rows by whole blocks of 32 columns"):
        pack_lookup(np.zeros((3, 32), np.int8), np.ones((1, 1)))
