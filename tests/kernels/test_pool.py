"""Pooling over rows against int64 arithmetic in numpy, and how near it comes to the real figure."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from running import Kernel, extreme_int8, multiply_high, saturate
from test_mve import in_c

from embbert_tvm.kernels.fixed_point import multiplier
from embbert_tvm.kernels.pool import BITS, KINDS, SQUARE_BITS, Pool, pool


@functools.cache
def kernel(kind: str, width: int, dtype: str) -> Kernel:
    return Kernel(pool(Pool(kind, width, dtype)))


def towards_zero(a, b):
    return np.sign(a) * (np.abs(a) // b)


def quotient(total, count, bits):
    whole = towards_zero(total, count)
    return whole * 2**bits + towards_zero((total - whole * count) * 2**bits, count)


def pooled(kind: str, x: np.ndarray, epsilon: int) -> np.ndarray:
    """t, in BITS fraction bits."""
    wide, count = x.astype(np.int64), len(x)
    if kind == "max":
        return wide.max(0) << BITS
    if kind == "last":
        return wide[-1] << BITS
    if kind == "mean":
        return quotient(wide.sum(0), count, BITS)
    squares = (wide * wide).sum(0)
    if x.dtype == np.int16:
        square, shift = squares // count, BITS
    else:
        square, shift = quotient(squares, count, SQUARE_BITS), BITS - SQUARE_BITS // 2
    return np.floor(np.sqrt((square + epsilon).astype(np.float64))).astype(np.int64) << shift


def run(kind, x, ratio, epsilon):
    factor = multiplier(np.array([ratio / 2.0**BITS]))
    extra = [np.array([epsilon], np.int32)] if kind == "rms" else []
    found = kernel(kind, x.shape[1], str(x.dtype))(x, *extra, factor, out=((1, x.shape[1]), "int8"), length=len(x))
    np.testing.assert_array_equal(found[0], saturate(multiply_high(pooled(kind, x, epsilon), factor)))
    return found[0]


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_pool(kind, dtype, length):
    rng = np.random.default_rng([length, len(kind)])
    x = extreme_int8(rng, length, 5)
    ratio = 1.0
    if dtype == "int16":
        x, ratio = (x.astype(np.int16) * 256 + rng.integers(-128, 128, x.shape)).astype(np.int16), 1 / 256
    found = run(kind, x, ratio, 0)
    real = {
        "mean": lambda v: v.mean(0),
        "max": lambda v: v.max(0),
        "rms": lambda v: np.sqrt((v * v).mean(0)),
        "last": lambda v: v[-1],
    }
    assert np.abs(found - np.clip(real[kind](x.astype(np.float64)) * ratio, -128, 127)).max() <= 0.52


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("kind", KINDS)
def test_as_many_rows_as_it_takes_of_the_extremes(kind, dtype):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    x = np.array([[low, high, 0]] * 65535, dtype)
    ratio = 1.0 if dtype == "int8" else 1 / 256
    found = run(kind, x, ratio, 2**29 if kind == "rms" else 0)
    if kind != "rms":
        assert found.tolist() == [-128, 127, 0]


@pytest.mark.parametrize("length", [1, 7, 65535])
def test_a_mean_in_int16_is_exact_to_a_256th(length):
    """The mean of rows that cancel, which int8 would round to a few steps or to none."""
    rng = np.random.default_rng(length)
    x, factor = extreme_int8(rng, length, 6), multiplier(np.array([2.0**8 / 2**BITS]))
    x[:, 0], x[:, 1] = 127, -128
    expected = np.clip(multiply_high(pooled("mean", x, 0), factor), -(2**15), 2**15 - 1)
    spec = Pool("mean", 6, made="int16")
    found = Kernel(pool(spec))(x, factor, out=((1, 6), "int16"), length=length)
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(in_c(pool(spec), [x, factor, np.zeros((1, 6), np.int16)], {"L": length})[0], expected)
    assert np.abs(found[0] / 256 - x.astype(np.float64).mean(0)).max() <= 1 / 256


def test_epsilon_keeps_a_root_from_zero():
    x = np.zeros((3, 2), np.int8)
    assert run("rms", x, 1.0, 4 << SQUARE_BITS).tolist() == [2, 2]


@pytest.mark.parametrize("kind", ["mean", "rms"])
def test_a_quotient_does_not_overflow_in_c(kind):
    """TVM distributed the remainder's product with 2^14: total * 2^14 is past int32, which C leaves undefined."""
    rows = np.full((40, 4), 127, np.int8)
    epsilon = [np.array([1], np.int32)] if kind == "rms" else []
    scale = multiplier(np.array([2.0**-10])).astype(np.int32)
    arrays = [rows, *epsilon, scale, np.zeros((1, 4), np.int8)]
    found = in_c(pool(Pool(kind, 4)), arrays, {"L": len(rows)})  # under the undefined-behaviour sanitizer
    expected = saturate(multiply_high(pooled(kind, rows, 1), scale[0]))
    np.testing.assert_array_equal(found[0], expected)
