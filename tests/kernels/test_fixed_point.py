"""multiply_high, the multipliers and saturation."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np
import pytest
import running
from hypothesis import given, settings
from hypothesis import strategies as st

from embbert_tvm.kernels import builder as b
from embbert_tvm.kernels import fixed_point
from embbert_tvm.kernels.fixed_point import multiplier

INT32 = st.integers(-(2**31), 2**31 - 1)
EDGES = st.sampled_from([-(2**31), -(2**31) + 1, -1, 0, 1, 2**30, 2**31 - 1, 2**16, -(2**16), 3 << 29])


@functools.cache
def elementwise(kind: str) -> running.Kernel:
    def body() -> None:
        rows = b.length()
        operands = [b.argument(name, (rows,), "int32") for name in ("am" if kind == "multiply_high" else "a")]
        out = b.argument("out", (rows,), "int8" if kind == "saturate" else "int32")
        with b.loop("i", rows) as i, b.block("each", vi=("S", rows, i)) as vi:
            b.store(out, getattr(fixed_point, kind)(*(x[vi] for x in operands)), vi)

    return running.Kernel(b.prim_func(kind, body))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(INT32 | EDGES, INT32 | EDGES), min_size=1, max_size=50))
def test_multiply_high_is_the_exact_product_rounded_with_ties_upward(pairs):
    a, m = np.array(pairs, np.int32).T
    found = elementwise("multiply_high")(a, m, out=((len(pairs),), "int32"), length=len(pairs))
    assert found.tolist() == [math.floor(Fraction(x * y, 2**32) + Fraction(1, 2)) for x, y in pairs]


def test_ties_go_upward():
    a = np.array([1, -1, 3, -3], np.int32)
    half = np.full(4, -(2**31), np.int32)  # stands for -1/2
    found = elementwise("multiply_high")(a, half, out=((4,), "int32"), length=4)
    assert found.tolist() == [0, 1, -1, 2]


def test_saturate():
    a = np.array([-(2**31), -129, -128, -127, 0, 126, 127, 128, 2**31 - 1], np.int32)
    found = elementwise("saturate")(a, out=((9,), "int8"), length=9)
    assert found.tolist() == [-128, -128, -128, -127, 0, 126, 127, 127, 127]


@given(st.floats(-0.4999999, 0.4999999))
def test_a_multiplier_stands_for_its_factor(real):
    (fixed,) = multiplier(np.array([real]))
    assert abs(int(fixed) / 2**32 - real) <= 2.0**-33


@pytest.mark.parametrize("real", [0.5, -0.5, 1.0, 0.5 - 2.0**-40])
def test_a_factor_of_half_is_refused(real):
    with pytest.raises(ValueError, match="is not below"):
        multiplier(np.array([0.1, real]))
