"""The integer RMSNorm: its reciprocal root over the whole range, and rows against the norm in float64."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from running import Kernel, extreme_int8
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels import builder as b
from embbert_tvm.kernels import epilogues
from embbert_tvm.kernels.fixed_point import multiplier
from embbert_tvm.kernels.product import Product, ProductInput, product

SIZE = 64


@functools.cache
def roots() -> Kernel:
    """s int64 (L,) -> (shift, inverse) int32 (L, 2)."""

    def body() -> None:
        rows = b.length()
        s, out = b.argument("s", (rows,), "int64"), b.argument("out", (rows, 2), "int32")
        with b.loop("i", rows) as i, b.block("row", vi=("S", rows, i)) as vi:
            square_sum = b.workspace("square_sum", (1,), "int64")
            shift, inverse = (b.workspace(name, (1,), "int32") for name in ("shift", "inverse"))
            with b.block("copy"):
                b.store(square_sum, s[vi], 0)
            with T.sblock("reciprocal_root"):
                epilogues.reciprocal_root(square_sum, shift, inverse)
            with b.block("out"):
                b.store(out, shift[0], vi, 0)
                b.store(out, inverse[0], vi, 1)

    return Kernel(b.prim_func("roots", body))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.integers(1, 2**60 - 1) | st.integers(0, 59).map(lambda n: 2**n) | st.integers(1, 59).map(lambda n: 2**n - 1),
        min_size=1,
        max_size=SIZE,
    )
)
@example([2**60 - 1, 1, 2, 3, 4, 2**28, 2**28 - 1, 2**30, 2**30 - 1])
def test_the_reciprocal_root_is_right_to_14_bits(squares):
    found = roots()(np.array(squares, np.int64), out=((len(squares), 2), "int32"), length=len(squares))
    for s, (shift, inverse) in zip(squares, found.tolist(), strict=True):
        mantissa = s >> 2 * shift if shift >= 0 else s << -2 * shift
        assert 2**28 <= mantissa < 2**30
        assert 0 < inverse < 2**31
        assert inverse == pytest.approx(2**39 / math.sqrt(s / 4.0**shift), rel=2.0**-13.9)


@functools.cache
def norm(n: int, k: int) -> Kernel:
    return Kernel(product(Product((ProductInput(k),), n, epilogues.RmsNorm())))


def check_rows(x, weight, bias, scale, epsilon, gain, out_scale) -> np.ndarray:
    """How far each int8 is from the float norm, in steps of the output that are not saturated."""
    length, n = len(x), len(weight)
    step = scale.max() * 2.01  # as graph/quantize folds it
    found = norm(n, x.shape[1])(
        x, weight, bias,
        multiplier(scale / step),
        np.array([min(max(round(n * epsilon / step**2), 1), 2**31 - 1)], np.int32),
        multiplier(gain * np.sqrt(n) / out_scale / 2.0**epilogues.NORM_BITS),
        out=((length, n), "int8"), length=length,
    )  # fmt: skip
    acc = x.astype(np.float64) @ weight.T.astype(np.float64) + bias
    real = acc * scale
    expected = real / np.sqrt((real**2).mean(axis=1, keepdims=True) + epsilon) * gain / out_scale
    return np.abs(found - np.clip(expected, -128, 127))


@pytest.mark.parametrize(("n", "k"), [(32, 16), (128, 32), (1, 8), (7, 3)])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_rows_are_within_a_step_of_float(n, k, spread):
    rng = np.random.default_rng([n, k])
    x, weight = extreme_int8(rng, 20, k), extreme_int8(rng, n, k)
    # Large bias: the row's values are far above a step of the accumulator, as those of a trained model are.
    bias = rng.integers(-3000, 3000, n).astype(np.int32) * 4
    scale = rng.uniform(1, spread, n) * 1e-4
    gain = rng.uniform(-2, 2, n)
    out_scale = 3 * 2.0 / 127 if n > 1 else 2.2 / 127
    assert check_rows(x, weight, bias, scale, 1e-7, gain, out_scale).max() <= 0.6


@pytest.mark.parametrize(
    ("what", "bias", "limit"),
    [
        ("zero", 0, 0.0),
        ("tiny", 40, 3.5),
        ("middling", 4000, 0.6),
        ("huge", 2**29, 0.6),
    ],
)
def test_rows_of_every_size(what, bias, limit):
    """Rows of few steps have few bits to be normalized from, so a tiny one is less exact; none overflows."""
    n, rng = 32, np.random.default_rng(1)
    x, weight = np.zeros((3, 4), np.int8), np.zeros((n, 4), np.int8)
    row = (rng.uniform(-1, 1, n) * bias).round().astype(np.int32)
    away = check_rows(x, weight, row, np.full(n, 1e-4), 1e-9, np.ones(n), 3 / 127)
    assert away.max() <= limit


def test_a_zero_row_is_zero_even_without_epsilon():
    n = 8
    found = norm(n, 4)(
        np.zeros((1, 4), np.int8), np.zeros((n, 4), np.int8), np.zeros(n, np.int32),
        np.full(n, 2**30, np.int32), np.array([1], np.int32), np.full(n, 2**31 - 1, np.int32),
        out=((1, n), "int8"), length=1,
    )  # fmt: skip
    assert not found.any()
