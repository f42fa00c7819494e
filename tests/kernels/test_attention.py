"""Attention a row at a time: against integers in numpy, and against the softmax in float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from running import Kernel, extreme_int8, multiply_high, saturate
from test_mve import in_c

from embbert_tvm.codegen.macs import macs
from embbert_tvm.kernels import attention as kernel
from embbert_tvm.kernels.fixed_point import multiplier


@functools.cache
def attention(width: int, one_row: bool = False) -> Kernel:
    return Kernel(kernel.attention(kernel.Attention(width, one_row)))


def constants(score_scale: float, value_scale: float = 1.0, out_scale: float = 1.0):
    step = multiplier(np.array([kernel.score_multiplier(score_scale)]))
    ratio = multiplier(np.array([kernel.ratio_multiplier(value_scale, out_scale)]))
    return kernel.exp_table(), step, ratio


def in_integers(query, key, value, table, step, ratio, distances=None, relative=None) -> np.ndarray:
    score = query.astype(np.int64) @ key.T.astype(np.int64)
    apart = np.arange(len(key)) - np.arange(len(query))[:, None]
    if distances is not None:
        score = score + distances[0, apart + distances.shape[1] // 2]
    if relative is not None:
        of_keys, of_queries, places = (table[0].astype(np.int64) for table in relative)
        at = places[apart + len(places) // 2]
        score = score + (query[:, None] * of_keys[at]).sum(-1) + (key[None] * of_queries[at]).sum(-1)
    level = np.minimum(multiply_high(score.max(axis=1, keepdims=True) - score, step), 255)
    weight = table[level].astype(np.int64)
    factor = multiply_high(((2**31 - 1) // weight.sum(axis=1, keepdims=True)) << 6, ratio)
    return saturate(multiply_high(weight @ value.astype(np.int64), factor))


def in_float(query, key, value, score_scale, value_scale, out_scale) -> np.ndarray:
    score = query.astype(np.float64) @ key.T * score_scale
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True) @ value * value_scale / out_scale


def test_the_table_is_exp():
    table = kernel.exp_table().astype(int)
    assert (table[0], table[-1]) == (127, 0)
    assert (np.diff(table) <= 0).all()
    assert np.abs(table / 127 - np.exp(-np.arange(256) * kernel.RANGE / 255)).max() <= 0.5 / 127 + 1e-12


@pytest.mark.parametrize("score_scale", [1e-7, 1e-4, 1e-2])
@pytest.mark.parametrize(("width", "length"), [(1, 1), (1, 5), (16, 1), (16, 2), (32, 48), (7, 256)])
def test_attention_in_integers(width, length, score_scale):
    rng = np.random.default_rng([width, length])
    query, key, value = (extreme_int8(rng, length, width) for _ in range(3))
    args = constants(score_scale)
    found = attention(width)(query, key, value, *args, out=((length, width), "int8"), length=length)
    np.testing.assert_array_equal(found, in_integers(query, key, value, *args))


def test_one_row_of_queries():
    rng = np.random.default_rng(5)
    key, value = extreme_int8(rng, 9, 16), extreme_int8(rng, 9, 16)
    query, args = extreme_int8(rng, 1, 16), constants(1e-4)
    found = attention(16, True)(query, key, value, *args, out=((1, 16), "int8"), length=9)
    np.testing.assert_array_equal(found, in_integers(query, key, value, *args))


@pytest.mark.parametrize("most", [9, 20])
@pytest.mark.parametrize("one_row", [False, True])
def test_what_scores_have_by_distance(one_row, most):
    rng = np.random.default_rng(most)
    key, value, query = extreme_int8(rng, 9, 16), extreme_int8(rng, 9, 16), extreme_int8(rng, 1 if one_row else 9, 16)
    far = rng.integers(-(2**16), 2**16, (1, 2 * most - 1)).astype(np.int32)
    far[0, -3:] = -(2**29)  # a mask
    spec = kernel.Attention(16, one_row, distances=most)
    arguments = (query, key, value, *constants(1e-4), far)
    found = Kernel(kernel.attention(spec))(*arguments, out=(query.shape, "int8"), length=9)
    np.testing.assert_array_equal(found, in_integers(*arguments))
    c = in_c(kernel.attention(spec), [*arguments, np.zeros(query.shape, np.int8)], {"L": 9})
    np.testing.assert_array_equal(c, found)


@pytest.mark.parametrize("one_row", [False, True])
def test_what_queries_and_keys_make_of_distances(one_row):
    rng = np.random.default_rng(4)
    key, value, query = extreme_int8(rng, 9, 16), extreme_int8(rng, 9, 16), extreme_int8(rng, 1 if one_row else 9, 16)
    tables = [rng.integers(-500, 500, (1, 5, 16)).astype(np.int16) for _ in range(2)]
    relative = (*tables, rng.integers(0, 5, (1, 23)).astype(np.int16))
    func = kernel.attention(kernel.Attention(16, one_row, relative=kernel.Places(12, 5)))
    arguments = (query, key, value, *constants(1e-4))
    found = Kernel(func)(*arguments, *relative, out=(query.shape, "int8"), length=9)
    np.testing.assert_array_equal(found, in_integers(*arguments, relative=relative))
    c = in_c(func, [*arguments, *relative, np.zeros(query.shape, np.int8)], {"L": 9})
    np.testing.assert_array_equal(c, found)
    assert macs(func, {"L": 9}) == (1 if one_row else 9) * 9 * 16 * 4


@pytest.mark.parametrize("ratio", [1.0, 3.0, 15.0])
@pytest.mark.parametrize(("length", "steps"), [(1, 0), (2, 2), (17, 2.5), (256, 6.5)])
def test_attention_is_near_the_softmax_in_float(length, steps, ratio):
    """steps: of the value, at worst, for scores that spread over several units. A weight below 1/254 of the largest
    is lost, so the more tokens share the weight, the more is."""
    width, rng = 32, np.random.default_rng(length)
    query, key = (rng.integers(-127, 128, (length, width)).astype(np.int8) for _ in range(2))
    value = rng.integers(-127, 128, (length, width)).astype(np.int8)
    scale = 3.0 / (73 * 73 * np.sqrt(width))  # scores of a few units
    found = attention(width)(
        query, key, value, *constants(scale, ratio, 1.0), out=((length, width), "int8"), length=length
    )
    expected = np.clip(in_float(query, key, value, scale, ratio, 1.0), -128, 127)
    away = np.abs(found - expected)
    assert away.max() <= steps * ratio + 0.51
    assert away.mean() <= 0.6 * ratio + 0.5


@pytest.mark.parametrize("length", [1, 2, 3, 100, 256])
@pytest.mark.parametrize("level", [-128, -1, 1, 64, 127])
def test_the_weights_add_up_to_one(length, level):
    """Where every value is the same, so is every average of them."""
    rng = np.random.default_rng(length)
    query, key = extreme_int8(rng, length, 8), extreme_int8(rng, length, 8)
    value = np.full((length, 8), level, np.int8)
    found = attention(8)(query, key, value, *constants(1e-4), out=((length, 8), "int8"), length=length)
    assert (found == level).all()


def test_an_outstanding_score_takes_all():
    key = np.zeros((5, 4), np.int8)
    key[3] = 127
    value = np.arange(20, dtype=np.int8).reshape(5, 4)
    query = np.full((5, 4), 127, np.int8)
    found = attention(4)(query, key, value, *constants(1e-3), out=((5, 4), "int8"), length=5)
    assert (found == value[3]).all()
