"""The selective scan in integers against int64 arithmetic in numpy, against the recurrence in float, at its worst."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from running import Kernel, extreme_int8, multiply_high, saturate

from embbert_tvm.graph.quantize.selective_scan import tabulate
from embbert_tvm.kernels.fixed_point import multiplier
from embbert_tvm.kernels.gate import GATE_BITS, Gate, gate
from embbert_tvm.kernels.integer_scan import INPUT_BITS, IntegerScan, decay_table, integer_scan

BITS = 21


@functools.cache
def kernel(channels: int, state: int) -> Kernel:
    return Kernel(integer_scan(IntegerScan(channels, state, BITS)))


def scanned(u, step, into, out_of, size, log_step, log_decay, decay, skip):
    """Every h and every total, in int64."""
    h, states, totals = np.zeros(log_decay.shape, np.int64), [], []
    for t in range(len(u)):
        code = step[t].astype(np.int64) + 128
        entering = multiply_high(size[code], u[t].astype(np.int64) << INPUT_BITS)
        factor = decay[log_step[code].astype(np.int64)[:, None] + log_decay]
        h = multiply_high(2 * h, factor) + entering[:, None] * into[t].astype(np.int64)
        states.append(h)
        read = multiply_high(h, out_of[t].astype(np.int64)[None] << BITS).sum(1)
        totals.append(skip.astype(np.int64) * u[t] + read)
    return np.array(states), np.array(totals)


def tables(channels: int, state: int, rng, softplus_to: float = 4.0):
    rate = -np.exp(rng.uniform(-1.5, 2.5, (channels, state)))
    step = np.logaddexp((np.arange(256) - 128) * softplus_to / 127, 0)
    found = tabulate(step, rate)
    return step, rate, found, (found.size, found.log_step, found.log_decay, decay_table())


@pytest.mark.parametrize(("channels", "state"), [(1, 1), (5, 6), (16, 3)])
@pytest.mark.parametrize("length", [1, 2, 40])
def test_kernel(channels, state, length):
    rng = np.random.default_rng([channels, state, length])
    u, step = extreme_int8(rng, length, channels), extreme_int8(rng, length, channels)
    into, out_of = extreme_int8(rng, length, state), extreme_int8(rng, length, state)
    *_, constants = tables(channels, state, rng)
    skip = rng.integers(-(2**22), 2**22, channels).astype(np.int32)
    states, totals = scanned(u, step, into, out_of, *constants, skip)
    assert np.abs(states).max() < 2**30
    assert np.abs(totals).max() < 2**31
    factor = multiplier(np.array([90 / max(np.abs(totals).max(), 300)]))
    found = kernel(channels, state)(
        u, step, into, out_of, *constants, skip, factor, out=((length, channels), "int8"), length=length
    )
    np.testing.assert_array_equal(found, saturate(multiply_high(totals, factor)))


@pytest.mark.parametrize("code", [-128, -90, 0, 127])
def test_no_input_however_long_overflows_a_state(code):
    """Every operand at its end for 3,000 tokens: the limit of h is below 2^30."""
    rng = np.random.default_rng(0)
    *_, constants = tables(3, 4, rng, 9.0)
    length = 3000
    u, step = np.full((length, 3), -128, np.int8), np.full((length, 3), code, np.int8)
    into, out_of = np.full((length, 4), -128, np.int8), np.full((length, 4), -128, np.int8)
    skip = np.full(3, 2**22, np.int32)
    states, totals = scanned(u, step, into, out_of, *constants, skip)
    assert np.abs(states).max() < 2**30
    assert np.abs(totals).max() < 2**31
    factor = multiplier(np.array([2.0**-24]))
    found = kernel(3, 4)(u, step, into, out_of, *constants, skip, factor, out=((length, 3), "int8"), length=length)
    np.testing.assert_array_equal(found, saturate(multiply_high(totals, factor)))


def test_it_is_the_recurrence():
    """Of the same rounded operands, within a few hundredths of the largest output."""
    rng = np.random.default_rng(5)
    channels, state, length = 24, 6, 64
    u, p = (rng.integers(-127, 128, (length, channels)).astype(np.int8) for _ in range(2))
    into, out_of = (rng.integers(-127, 128, (length, state)).astype(np.int8) for _ in range(2))
    step, rate, found, constants = tables(channels, state, rng)
    skip = np.zeros(channels, np.int32)
    _, totals = scanned(u, p, into, out_of, *constants, skip)
    h, expected = np.zeros((channels, state)), []
    for t in range(length):
        size = step[p[t].astype(int) + 128][:, None]
        h = np.exp(size * rate) * h + size * u[t][:, None] * into[t]
        expected.append(h @ out_of[t])
    expected = np.array(expected)
    real = totals * found.scale * 2.0 ** (32 - INPUT_BITS) * 2.0 ** (32 - BITS)
    assert np.abs(real - expected).max() <= 0.03 * np.abs(expected).max()
    assert np.sqrt(((real - expected) ** 2).mean()) <= 0.01 * np.sqrt((expected**2).mean())


@pytest.mark.parametrize(("rows", "one_row"), [((None, None), False), ((0, 0), True)])
def test_gate(rows, one_row):
    rng = np.random.default_rng(1)
    a, b = extreme_int8(rng, 9, 7), extreme_int8(rng, 1 if one_row else 9, 7)
    factor = np.array([2 ** (32 - GATE_BITS) // 90], np.int32)
    found = Kernel(gate(Gate(7, rows, one_row)))(a, b, factor, out=((1 if one_row else 9, 7), "int8"), length=9)
    product = (a[:1] if one_row else a).astype(np.int64) * b
    np.testing.assert_array_equal(found, saturate(multiply_high(product << GATE_BITS, factor)))
    assert np.abs(found - np.clip(product / 90, -128, 127)).max() <= 0.51
