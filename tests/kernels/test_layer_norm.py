"""The integer LayerNorm: rows against the norm in float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from running import Kernel, extreme_int8

from embbert_tvm.kernels import epilogues
from embbert_tvm.kernels.fixed_point import multiplier
from embbert_tvm.kernels.product import Product, ProductInput, product

BITS = epilogues.NORM_BITS - epilogues.SHIFT_BITS


@functools.cache
def norm(n: int, k: int) -> Kernel:
    return Kernel(product(Product((ProductInput(k),), n, epilogues.LayerNorm())))


def away(x, weight, bias, scale, epsilon, gain, shift, out_scale) -> np.ndarray:
    """How far each int8 is from the float norm, in steps of the output, saturated alike."""
    length, n = len(x), len(weight)
    step = scale.max() * 2.01  # as graph/quantize folds it
    found = norm(n, x.shape[1])(
        x, weight, bias,
        multiplier(scale / step),
        np.array([min(max(round(n * epsilon / step**2), 1), 2**31 - 1)], np.int32),
        multiplier(gain * np.sqrt(n) / out_scale / 2.0**BITS),
        np.rint((shift / out_scale + 0.5) * 2**epilogues.SHIFT_BITS).astype(np.int32),
        out=((length, n), "int8"), length=length,
    )  # fmt: skip
    real = (x.astype(np.float64) @ weight.T.astype(np.float64) + bias) * scale
    centred = real - real.mean(axis=1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon) * gain + shift
    return np.abs(found - np.clip(expected / out_scale, -128, 127))


@pytest.mark.parametrize(("n", "k"), [(32, 16), (80, 40), (7, 3)])
@pytest.mark.parametrize("mean", [0, 20000, -300000])
def test_rows_are_within_a_step_of_float(n, k, mean):
    rng = np.random.default_rng([n, k])
    x, weight = extreme_int8(rng, 12, k), extreme_int8(rng, n, k)
    bias = rng.integers(-3000, 3000, n).astype(np.int32) * 4 + mean
    scale = np.full(n, 1e-4) if mean else rng.uniform(1, 30, n) * 1e-4
    gain, shift = rng.uniform(-2, 2, n), rng.uniform(-1, 1, n)
    assert away(x, weight, bias, scale, 1e-5, gain, shift, 5 / 127).max() <= 0.7


def test_a_row_of_one_value_is_its_shift():
    n = 8
    x, weight, bias = np.zeros((2, 4), np.int8), np.zeros((n, 4), np.int8), np.full(n, 123457, np.int32)
    shift = np.linspace(-3, 3, n)
    assert away(x, weight, bias, np.full(n, 1e-4), 1e-5, np.ones(n), shift, 4 / 127).max() <= 0.55


@pytest.mark.parametrize("size", [40, 2**29])
def test_a_row_of_any_size_does_not_overflow(size):
    n, rng = 32, np.random.default_rng(1)
    x, weight = np.zeros((1, 4), np.int8), np.zeros((n, 4), np.int8)
    bias = (rng.uniform(-1, 1, n) * size).round().astype(np.int32)
    limit = 3.5 if size < 1000 else 0.6
    assert away(x, weight, bias, np.full(n, 1e-4), 1e-9, np.ones(n), np.zeros(n), 3 / 127).max() <= limit
