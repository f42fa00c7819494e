"""The int8 product over every kind of source and each epilogue, against int64 arithmetic in numpy."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest
from running import Kernel, extreme_int8, multiply_high, saturate
from test_mve import in_c

from embbert_tvm.kernels import epilogues
from embbert_tvm.kernels.fixed_point import multiplier
from embbert_tvm.kernels.isa import DSP, MVE, REFERENCE
from embbert_tvm.kernels.product import RESIDUAL_BITS, Product, ProductInput, product
from embbert_tvm.kernels.row_product import most_columns

REQUANTIZE = epilogues.Requantize()


@dataclass(frozen=True)
class Case:
    name: str
    spec: Product
    lengths: tuple[int, ...] = (1, 2, 9)


CASES = [
    Case("rows", Product((ProductInput(16),), 8, REQUANTIZE)),
    Case("one wide and odd", Product((ProductInput(131),), 3, REQUANTIZE)),
    Case("one by one", Product((ProductInput(1),), 1, REQUANTIZE)),
    Case("two tensors", Product((ProductInput(16), ProductInput(5)), 7, REQUANTIZE)),
    Case("table by position", Product((ProductInput(4, 9),), 8, REQUANTIZE)),
    Case("embedding", Product((ProductInput(4, 30, indexed=True),), 8, REQUANTIZE)),
    Case(
        "embedding, positions, segments", Product((ProductInput(4, 30, True), ProductInput(4, 9)), 8, REQUANTIZE, (3,))
    ),
    Case("two small tables", Product((ProductInput(16),), 8, REQUANTIZE, (3, 5))),
    Case("first row", Product((ProductInput(16, row=0),), 3, REQUANTIZE, (), True)),
    Case("another row", Product((ProductInput(16, row=1),), 3, REQUANTIZE, (), True), (2, 9)),
    Case("a tensor of one row", Product((ProductInput(16, 1, row=0),), 3, REQUANTIZE, (), True)),
    Case("a residual path", Product((ProductInput(16),), 8, REQUANTIZE, residuals=(ProductInput(8),))),
    Case(
        "the first row of one", Product((ProductInput(16, row=0),), 3, REQUANTIZE, (), True, (ProductInput(3, row=0),))
    ),
    Case(
        "tables alone",
        Product((), 6, REQUANTIZE, (3,), residuals=(ProductInput(6, 30, indexed=True), ProductInput(6, 9))),
    ),
    Case(
        "an int16 residual path",
        Product((ProductInput(16),), 8, REQUANTIZE, residuals=(ProductInput(8, dtype="int16"),)),
    ),
    Case(
        "int16 alone, one row of it",
        Product((), 8, epilogues.RequantizeWide(), (), True, (ProductInput(8, row=0, dtype="int16"),)),
    ),
    Case(
        "int8 and int16 into int16",
        Product(
            (ProductInput(5),),
            8,
            epilogues.RequantizeWide(),
            residuals=(ProductInput(8), ProductInput(8, dtype="int16")),
        ),
    ),
    Case("a window of rows", Product((ProductInput(5, taps=3, after=1),), 4, REQUANTIZE)),
    Case(
        "a causal, dilated window and rows",
        Product((ProductInput(5, taps=3, dilation=2), ProductInput(3)), 4, REQUANTIZE),
    ),
    Case("a window of a table", Product((ProductInput(5, 30, True, taps=3, after=1),), 4, REQUANTIZE)),
    Case("a window ahead", Product((ProductInput(5, taps=4, after=3),), 4, REQUANTIZE)),
    Case("whole windows only", Product((ProductInput(5, taps=3),), 4, REQUANTIZE, skipped=2), (1, 2, 3, 9)),
    Case("activation", Product((ProductInput(16),), 8, epilogues.Activate())),
    Case("real", Product((ProductInput(16), ProductInput(3)), 8, epilogues.Dequantize())),
    Case(
        "an int16 row, real",
        Product((ProductInput(516, 1, row=0, dtype="int16"),), 3, epilogues.Dequantize(), (), True),
    ),
    Case("first row, real", Product((ProductInput(16, row=0),), 3, epilogues.Dequantize(), (), True)),
]


@functools.cache
def kernel(spec: Product) -> Kernel:
    return Kernel(product(spec))


def element(source: ProductInput, data: np.ndarray, ids: np.ndarray, i: int) -> np.ndarray:
    if source.taps > 1:
        reads = [i + source.after - source.dilation * (source.taps - 1 - t) for t in range(source.taps)]
        count = ids.shape[1]
        rows = data[ids[0]] if source.indexed else data[:count]
        zero = np.zeros(source.width, np.int64)
        return np.concatenate([rows[r].astype(np.int64) if 0 <= r < count else zero for r in reads])
    at = source.row if source.row is not None else int(ids[0, i]) if source.indexed else i
    return data[at].astype(np.int64)


def accumulators(spec: Product, sources, weight, bias, small_tables, length: int, residuals=()) -> np.ndarray:
    rows = []
    for i in range(min(spec.skipped, length - 1), 1 if spec.one_row else length):
        parts = [element(source, *read, i) for source, read in zip(spec.sources, sources, strict=True)]
        acc = bias.astype(np.int64) + weight.astype(np.int64) @ np.concatenate([np.zeros(0, np.int64), *parts])
        acc = acc + sum(table[ids[0, i]].astype(np.int64) for table, ids in small_tables)
        added = [
            element(source, *read, i) * factor
            for source, (*read, factor) in zip(spec.residuals, residuals, strict=True)
        ]
        rows.append(acc + ((sum(added) + 2 ** (RESIDUAL_BITS - 1)) >> RESIDUAL_BITS if added else 0))
    return np.array(rows)


@pytest.mark.parametrize("scale", ["small", "large"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_product(case, scale):
    """small: results over the whole int8 range; large: multipliers near their limit, most results saturated."""
    spec, rng = case.spec, np.random.default_rng(len(case.name))
    for length in case.lengths:
        arguments: list = []

        def some(source, arguments=arguments, rng=rng, length=length):
            data = extreme_int8(rng, source.rows or length, source.width)
            if source.dtype == "int16":
                data = rng.integers(-(2**15), 2**15, data.shape).astype(np.int16)
            ids = rng.integers(0, source.rows or 1, (1, length)).astype(np.int32)
            arguments += [data, ids] if source.indexed else [data]
            return data, ids

        sources = [some(source) for source in spec.sources]
        weight, bias = extreme_int8(rng, spec.n, spec.k), rng.integers(-20000, 20000, spec.n).astype(np.int32)
        arguments += [weight, bias] if spec.sources else [bias]
        small_tables, residuals = [], []
        for size in spec.small_tables:
            table = rng.integers(-30000, 30000, (size, spec.n)).astype(np.int32)
            small_tables.append((table, rng.integers(0, size, (1, length)).astype(np.int32)))
            arguments += small_tables[-1]
        for source in spec.residuals:
            most = 2**14 if source.dtype == "int16" else 2**22
            factor = rng.integers(-most, most, spec.n).astype(np.int32)
            residuals.append((*some(source), factor))
            arguments.append(factor)
        acc = accumulators(spec, sources, weight, bias, small_tables, length, residuals)
        top = 0.49999 if scale == "large" else 100 / max(1, np.abs(acc).max())
        factors = multiplier(rng.uniform(-1, 1, spec.n) * top)
        if spec.epilogue.dtype == "float32":
            real = (rng.uniform(-1, 1, spec.n) * top).astype(np.float32)
            extra, expected = [real], acc.astype(np.float32) * real
        elif isinstance(spec.epilogue, epilogues.Activate):
            table = extreme_int8(rng, 256)
            extra = [factors, table]
            expected = table[128 + np.clip(multiply_high(acc, factors), -128, 127)]
        elif spec.epilogue.dtype == "int16":
            extra = [factors]
            expected = np.clip(multiply_high(acc, factors), -(2**15), 2**15 - 1).astype(np.int16)
        else:
            extra, expected = [factors], saturate(multiply_high(acc, factors))
        found = kernel(spec)(*arguments, *extra, out=(acc.shape, spec.epilogue.dtype), length=length)
        np.testing.assert_array_equal(found, expected)


def test_the_largest_sum_of_an_int16_row_in_c():
    """As many columns as `most_columns` allows, under the undefined-behaviour sanitizer."""
    k = most_columns("int16")
    spec = Product((ProductInput(k, 1, row=0, dtype="int16"),), 2, epilogues.Dequantize(), one_row=True)
    x, weight = np.full((1, k), -(2**15) + 1, np.int16), np.full((2, k), 127, np.int8)
    weight[1] = -127
    bias, scale = np.array([0, 0], np.int32), np.array([1, 0.5], np.float32)
    expected = accumulators(spec, [(x, None)], weight, bias, [], 1).astype(np.float32) * scale
    for isa in (REFERENCE, DSP, MVE):
        func = product(spec, isa)
        assert func.attrs["embbert.kernel"] == spec.name  # no micro-kernel reads such a row
        found = in_c(func, [x, weight, bias, scale, np.zeros((1, 2), np.float32)], {})
        np.testing.assert_array_equal(found, expected)


def test_the_largest_sum_that_int8_can_make():
    """4096 products of -128 and -128 and a bias beside: no overflow, and a multiplier just below one half."""
    spec = Product((ProductInput(4096),), 2, REQUANTIZE)
    x, weight = np.full((1, 4096), -128, np.int8), np.full((2, 4096), -128, np.int8)
    weight[1] = 127
    bias = np.array([2**30, -(2**30)], np.int32)
    factor = np.array([2**31 - 1, 1], np.int32)
    acc = accumulators(spec, [(x, None)], weight, bias, [], 1)
    found = Kernel(product(spec))(x, weight, bias, factor, out=((1, 2), "int8"), length=1)
    assert found.tolist() == saturate(multiply_high(acc, factor)).tolist() == [[127, 0]]
