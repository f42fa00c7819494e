"""Depthwise convolution, conversions, the running sum and tabulated functions."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Kernel, extreme_int8, multiply_high, saturate

from embbert_tvm.graph.quantize import activations
from embbert_tvm.kernels import convert, epilogues
from embbert_tvm.kernels.cumsum import Cumsum, cumsum
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv, depthwise_conv
from embbert_tvm.kernels.fixed_point import multiplier, rescaled


@functools.cache
def convolution(taps: int, channels: int, row: int | None = None) -> Kernel:
    return Kernel(depthwise_conv(DepthwiseConv(taps, channels, epilogues.Requantize(), row)))


def in_integers(x, weight, bias) -> np.ndarray:
    taps = len(weight)
    padded = np.concatenate([np.zeros((taps - 1, x.shape[1]), np.int64), x.astype(np.int64)])
    return np.array([(padded[t : t + taps] * weight).sum(axis=0) + bias for t in range(len(x))])


@pytest.mark.parametrize(("taps", "channels"), [(1, 1), (1, 5), (2, 3), (8, 16), (32, 7)])
@pytest.mark.parametrize("length", [1, 2, 7, 33])
def test_convolution(taps, channels, length):
    rng = np.random.default_rng([taps, channels, length])
    x, weight = extreme_int8(rng, length, channels), extreme_int8(rng, taps, channels)
    bias = rng.integers(-9000, 9000, channels).astype(np.int32)
    factor = multiplier(rng.uniform(0, 0.02, channels))
    found = convolution(taps, channels)(x, weight, bias, factor, out=((length, channels), "int8"), length=length)
    np.testing.assert_array_equal(found, saturate(multiply_high(in_integers(x, weight, bias), factor)))


@pytest.mark.parametrize(("row", "rows"), [(None, 9), (0, 1), (3, 1)])
def test_a_convolution_that_makes_two_channels_of_each(row, rows):
    rng = np.random.default_rng(1)
    x, weight = extreme_int8(rng, 9, 3), extreme_int8(rng, 4, 6)
    bias, factor = rng.integers(-900, 900, 6).astype(np.int32), multiplier(rng.uniform(0, 0.02, 6))
    kernel = Kernel(depthwise_conv(DepthwiseConv(4, 6, epilogues.Requantize(), row, expansion=2)))
    found = kernel(x, weight, bias, factor, out=((rows, 6), "int8"), length=9)
    expected = saturate(multiply_high(in_integers(np.repeat(x, 2, axis=1), weight, bias), factor))
    np.testing.assert_array_equal(found, expected if row is None else expected[row : row + 1])


@pytest.mark.parametrize(("taps", "after", "dilation"), [(3, 1, 1), (4, 2, 1), (5, 0, 3), (2, 1, 1), (3, 4, 2)])
@pytest.mark.parametrize("length", [1, 2, 13])
def test_a_convolution_that_reads_ahead_or_far_apart(taps, after, dilation, length):
    rng = np.random.default_rng([taps, after, length])
    x, weight = extreme_int8(rng, length, 3), extreme_int8(rng, taps, 6)
    bias, factor = rng.integers(-900, 900, 6).astype(np.int32), multiplier(rng.uniform(0, 0.02, 6))
    spec = DepthwiseConv(taps, 6, epilogues.Requantize(), expansion=2, after=after, dilation=dilation)
    found = Kernel(depthwise_conv(spec))(x, weight, bias, factor, out=((length, 6), "int8"), length=length)
    reach = dilation * (taps - 1)
    padded = np.zeros((length + reach, 6), np.int64)
    padded[reach - after : reach - after + length] = np.repeat(x, 2, axis=1)
    acc = np.array([(padded[t : t + reach + 1 : dilation] * weight).sum(axis=0) + bias for t in range(length)])
    np.testing.assert_array_equal(found, saturate(multiply_high(acc, factor)))


@pytest.mark.parametrize("row", [0, 2, 5])
def test_one_row_of_a_convolution(row):
    rng = np.random.default_rng(row)
    x, weight = extreme_int8(rng, 9, 4), extreme_int8(rng, 4, 4)
    bias, factor = np.zeros(4, np.int32), multiplier(np.full(4, 0.01))
    found = convolution(4, 4, row)(x, weight, bias, factor, out=((1, 4), "int8"), length=9)
    np.testing.assert_array_equal(found[0], saturate(multiply_high(in_integers(x, weight, bias), factor))[row])


def test_a_convolution_sees_no_future():
    rng = np.random.default_rng(0)
    x, weight = extreme_int8(rng, 12, 5), extreme_int8(rng, 8, 5)
    bias, factor = np.zeros(5, np.int32), multiplier(np.full(5, 0.01))
    whole = convolution(8, 5)(x, weight, bias, factor, out=((12, 5), "int8"), length=12)
    start = convolution(8, 5)(x[:4], weight, bias, factor, out=((4, 5), "int8"), length=4)
    np.testing.assert_array_equal(whole[:4], start)


@functools.cache
def conversion(kind: str, width: int) -> Kernel:
    return Kernel(getattr(convert, kind)(width))


REALS = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.5, -1.5, 127.4, 127.5, -128.5, 1e30])


@settings(max_examples=60, deadline=None)
@given(st.lists(REALS, min_size=1, max_size=40), st.sampled_from([1.0, 0.25, 3.7, 100.0]))
def test_quantize_rounds_with_ties_upward_and_saturates(values, inverse):
    x = np.array(values, np.float32).reshape(1, -1, 1)
    length = x.shape[1]
    found = conversion("quantize", 1)(x, np.array([inverse], np.float32), out=((length, 1), "int8"), length=length)
    level = np.clip(x[0] * np.float32(inverse), np.float32(-128), np.float32(128))
    np.testing.assert_array_equal(found, np.clip(np.floor(level + np.float32(0.5)), -128, 127).astype(np.int8))


def test_quantize_of_infinities():
    x = np.array([np.inf, -np.inf, 3e38, -3e38], np.float32).reshape(1, 1, 4)
    found = conversion("quantize", 4)(x, np.array([9.0], np.float32), out=((1, 4), "int8"), length=1)
    assert found.tolist() == [[127, -128, 127, -128]]


def test_dequantize_is_exact_and_quantize_its_inverse():
    x = np.arange(-128, 128).astype(np.int8).reshape(64, 4)
    scale = np.float32(0.0371)
    real = conversion("dequantize", 4)(x, np.array([scale]), out=((1, 64, 4), "float32"), length=64)
    np.testing.assert_array_equal(real[0], x.astype(np.float32) * scale)
    back = conversion("quantize", 4)(real, np.array([1 / scale]), out=((64, 4), "int8"), length=64)
    np.testing.assert_array_equal(back, x)


def test_int16_is_exact_both_ways():
    x = np.arange(-(2**15), 2**15, 13).astype(np.int16)[: 4 * 1260].reshape(-1, 4)
    scale = np.float32(2.0**-7)
    to_real, to_wide = Kernel(convert.dequantize(4, "int16")), Kernel(convert.quantize(4, "int16"))
    real = to_real(x, np.array([scale]), out=((1, len(x), 4), "float32"), length=len(x))
    np.testing.assert_array_equal(real[0], x.astype(np.float32) * scale)
    back = to_wide(real, np.array([1 / scale]), out=((len(x), 4), "int16"), length=len(x))
    np.testing.assert_array_equal(back, x)
    ends = np.array([np.inf, -np.inf, 1e9, -1e9], np.float32).reshape(1, 1, 4)
    found = to_wide(ends, np.array([1.0], np.float32), out=((1, 4), "int16"), length=1)
    assert found.tolist() == [[32767, -32768, 32767, -32768]]


@pytest.mark.parametrize("row", [None, 0])
def test_int8_of_an_int16_path(row):
    rng = np.random.default_rng(3)
    x = rng.integers(-(2**15), 2**15, (7, 5)).astype(np.int16)
    factor, scale = rescaled(0.004, 1.0, convert.RESCALE_BITS)
    assert 1.0 <= scale <= 1.01
    kernel = Kernel(convert.rescale(convert.Rescale(5, row)))
    found = kernel(x, factor, out=((7 if row is None else 1, 5), "int8"), length=7)
    expected = saturate(multiply_high(x.astype(np.int64) << convert.RESCALE_BITS, factor))
    np.testing.assert_array_equal(found, expected if row is None else expected[row : row + 1])
    assert np.abs(expected - np.clip(x * 0.004 / scale, -128, 127)).max() <= 0.51


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("length", [1, 2, 48])
def test_cumsum(dtype, length):
    x = np.random.default_rng(length).integers(-5, 6, (1, length)).astype(dtype)
    found = running_sum(dtype)(x, out=((1, length), dtype), length=length)
    np.testing.assert_array_equal(found, np.cumsum(x, axis=1, dtype=dtype))


@functools.cache
def running_sum(dtype: str) -> Kernel:
    return Kernel(cumsum(Cumsum(dtype)))


@pytest.mark.parametrize("function", activations.FUNCTIONS)
def test_a_table_is_its_function_at_every_int8(function):
    import torch

    scale_in, scale_out = 0.05, 0.03
    table = activations.table(function, scale_in, scale_out)
    x = torch.arange(-128, 128, dtype=torch.float64) * scale_in
    name, options = function.removeprefix("nn."), {}
    if name == "gelu_tanh":
        name, options = "gelu", {"approximate": "tanh"}
    theirs = getattr(torch.nn.functional, name)(x, **options).numpy() / scale_out
    assert np.abs(table - np.clip(theirs, -128, 127)).max() <= 0.5 + 1e-9 + (theirs < -127.5).any()
