"""A linear layer of float32 rows in integers: the equations of kernels/row_product.py, in numpy."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Kernel

from embbert_tvm.kernels.row_product import RowProduct, most_columns, row_product

K, N = 12, 5
SPECS = {
    "rows": RowProduct(K, N),
    "a row": RowProduct(K, N, one_row=True),
    "outliers": RowProduct(K, N, threshold=6.0),
    "int16": RowProduct(K, N, dtype="int16", static=True),
}


@functools.cache
def kernel(name: str) -> Kernel:
    return Kernel(row_product(SPECS[name]))


def expected(spec: RowProduct, x, step, weight, scale, bias) -> np.ndarray:
    inner = x if spec.threshold is None else np.where(np.abs(x) <= spec.threshold, x, np.float32(0))
    if not spec.static:
        step = np.maximum(np.abs(inner).max(1, keepdims=True), np.float32(1e-20)) / np.float32(spec.levels)
    steps = np.clip(np.floor(inner / step + np.float32(0.5)), -spec.levels, spec.levels).astype(np.int64)
    assert np.abs(steps @ weight.astype(np.int64).T).max() < 2**31
    real = (steps @ weight.astype(np.int64).T).astype(np.float32) * (step * scale)
    return real + (x - inner) @ weight.astype(np.float32).T * scale + bias


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=12, deadline=None)
@given(st.integers(1, 5), st.sampled_from([0.0, 1e-3, 1.0, 5.0, 1e4]), st.integers(0, 999))
def test_the_equations(name, rows, size, seed):
    spec, rng = SPECS[name], np.random.default_rng(seed)
    rows = 1 if spec.one_row else rows
    x = (size * rng.standard_normal((rows, K))).astype(np.float32)
    weight = rng.integers(-127, 128, (N, K)).astype(np.int8)
    scale, bias = rng.random(N).astype(np.float32), rng.standard_normal(N).astype(np.float32)
    # A step too fine by half saturates.
    step = np.full((1,), max(size, 1e-6) / spec.levels, np.float32)
    args = [x[None], *([step] if spec.static else []), weight, scale, bias]
    found = kernel(name)(*args, out=((1, rows, N), "float32"), length=rows)[0]
    np.testing.assert_allclose(found, expected(spec, x, step, weight, scale, bias), rtol=2e-6, atol=2e-3 * size)


def test_a_row_of_zeros_is_the_bias():
    bias = np.arange(N, dtype=np.float32)
    args = (np.zeros((1, 2, K), np.float32), np.ones((N, K), np.int8), np.ones(N, np.float32), bias)
    assert np.array_equal(kernel("rows")(*args, out=((1, 2, N), "float32"), length=2)[0], [bias, bias])


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_the_largest_sums_fit(dtype):
    k, largest = most_columns(dtype), 127 * RowProduct(1, 1, dtype=dtype).levels
    assert k * largest < 2**31 <= (k + 1) * largest
