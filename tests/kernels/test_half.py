"""Half precision as it is stored: the C of micro/embbert_half.h against numpy's, bit for bit."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import CHECKED, compile_c

_SOURCE = """\
#include "embbert_half.h"
void to_float(const uint16_t *half, float *out, int n);
void from_float(const float *value, uint16_t *out, int n);
void to_float(const uint16_t *half, float *out, int n)
{
    for (int i = 0; i < n; i++) out[i] = half_to_float(half[i]);
}
void from_float(const float *value, uint16_t *out, int n)
{
    for (int i = 0; i < n; i++) out[i] = half_from_float(value[i]);
}
"""


@pytest.fixture(scope="module")
def library():
    return ctypes.CDLL(str(compile_c([_SOURCE], ("-O1", *CHECKED))))


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def stored(library, values: np.ndarray) -> np.ndarray:
    out = np.zeros(len(values), np.uint16)
    library.from_float(pointer(values), pointer(out), len(values))
    return out


def test_every_half_is_the_float_that_it_is(library):
    halves = np.arange(2**16, dtype=np.uint16)
    out = np.zeros(2**16, np.float32)
    library.to_float(pointer(halves), pointer(out), 2**16)
    np.testing.assert_array_equal(out, halves.view(np.float16).astype(np.float32))
    numbers = ~np.isnan(out)
    np.testing.assert_array_equal(stored(library, out)[numbers], halves[numbers])


def test_what_lies_between_two_halves_is_rounded_to_even(library):
    """Every neighbour's middle, and the floats on both sides of it."""
    halves = np.arange(2**15 - 2**10, dtype=np.uint16).view(np.float16).astype(np.float32)
    middle = (halves[:-1].astype(np.float64) + halves[1:]) / 2
    middle = middle.astype(np.float32)
    for values in (middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(1e9)), -middle):
        with np.errstate(over="ignore"):
            expected = values.astype(np.float16).view(np.uint16)
        np.testing.assert_array_equal(stored(library, np.ascontiguousarray(values)), expected)


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_any_float_is_rounded_as_numpy_rounds_it(library, values):
    floats = np.array(values, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = floats.astype(np.float16)
    found = stored(library, floats).view(np.float16)
    np.testing.assert_array_equal(found, expected)
