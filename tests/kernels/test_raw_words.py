"""Weights as raw words: their packing, and what a multiplication by them gives."""

from __future__ import annotations

import numpy as np
import pytest
from running import extreme_int8

from embbert_tvm.errors import InputError
from embbert_tvm.kernels.raw_words import MOST_COLUMNS, pack_raw_words, unpack_raw_words


def weights(k: int) -> np.ndarray:
    return np.maximum(extreme_int8(np.random.default_rng(k), 4, k, 2), -127)


@pytest.mark.parametrize("k", [2, 32, 512])
def test_a_halfword_is_256_times_the_second_and_the_first(k):
    weight = weights(k)
    raw = pack_raw_words(weight)
    assert (raw.shape, raw.dtype) == (weight.shape, np.int8)
    halfwords = np.ascontiguousarray(raw).view("<i2")[..., 0].astype(int)
    np.testing.assert_array_equal(halfwords, 256 * weight[..., 1].astype(int) + weight[..., 0])
    np.testing.assert_array_equal(unpack_raw_words(raw), weight)


def test_the_two_sums_come_apart_at_the_most_columns_and_the_largest_values():
    """As embbert_dsp_dot_raw takes them apart, in 32 bits."""
    weight = np.full((1, MOST_COLUMNS, 2), -127, np.int8)
    halfwords = np.ascontiguousarray(pack_raw_words(weight)).view("<i2")[0, :, 0].astype(np.int64)
    x = np.full(MOST_COLUMNS, -128, np.int64)
    both, first = int(x @ halfwords), int(x @ weight[0, :, 0])
    wrapped = (both - first + 2**31) % 2**32 - 2**31
    assert wrapped >> 8 == int(x @ weight[0, :, 1]) == 128 * 127 * MOST_COLUMNS


def test_what_cannot_be_packed():
    lends = np.array([[[-1, -128]]], np.int8)
    with pytest.raises(InputError, match="-128 cannot lend"):
        pack_raw_words(lends)
    np.testing.assert_array_equal(unpack_raw_words(pack_raw_words(-lends)), -lends)
    with pytest.raises(InputError, match="513 columns, 512 are the most"):
        pack_raw_words(weights(513))
