"""Means of neighbouring rows against int64 arithmetic in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from running import Kernel, extreme_int8, multiply_high, saturate

from embbert_tvm.kernels.pool_rows import BITS, MOST, PoolRows, pool_rows


def expected(x: np.ndarray, size: int, stride: int, rows: int, factors: np.ndarray) -> np.ndarray:
    found = []
    for i in range(rows):
        window = x[i * stride : i * stride + size].astype(np.int64)
        found.append(saturate(multiply_high(window.sum(0) << BITS, factors[len(window) - 1])))
    return np.array(found)


@pytest.mark.parametrize("length", [1, 2, 5, 64, 255])
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 3), (4, 4), (3, 2), (MOST, MOST)])
def test_every_window_is_divided_by_the_rows_that_it_has(size, stride, length):
    rng = np.random.default_rng([size, stride, length])
    x = extreme_int8(rng, length, 6)
    rows = -(-length // stride)
    factors = np.array([2**17 * 1.0 / n for n in range(1, size + 1)]).astype(np.int32)
    kernel = Kernel(pool_rows(PoolRows(size, stride, 6)))
    found = kernel(x, factors, out=((rows, 6), "int8"), length=length, M=rows)
    np.testing.assert_array_equal(found, expected(x, size, stride, rows, factors))
    # A factor of 2^17 / n is that of the mean itself.
    means = np.array([x[i * stride : i * stride + size].mean(0) for i in range(rows)])
    assert np.abs(found - means).max() <= 0.51
