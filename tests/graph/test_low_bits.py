"""Rounding to fewer than 8 bits: laws of the levels, of the scales found, and of GPTQ."""

import numpy as np
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from embbert_tvm.graph.names import fingerprint
from embbert_tvm.graph.pack import Constants, row_product
from embbert_tvm.graph.quantize.low_bits import Blocks, fit_scales, gptq, nearest, spread
from embbert_tvm.kernels.epilogues import Requantize
from embbert_tvm.kernels.isa import isa_of
from embbert_tvm.kernels.low_bits import FORMATS, ROWS, compressed, rounded_to
from embbert_tvm.kernels.product import Product, ProductInput, product

STORED = [weight_format for weight_format in FORMATS.values() if weight_format.stored]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(STORED), st.integers(1, 7), st.integers(1, 80), st.booleans(), st.integers(0, 99))
def test_weights_are_levels_times_multipliers_in_int8(weight_format, n, k, shared, seed):
    weight = small.normal(n, k, seed=seed) * np.exp(small.normal(n, 1, seed=seed + 1))
    found = nearest(weight, weight_format, shared=shared)
    levels = weight_format.first + weight_format.step * np.arange(weight_format.count)
    assert np.isin(found.levels, levels).all()
    assert 1 <= found.multipliers.min() <= found.multipliers.max() <= weight_format.most
    product = found.levels.astype(int) * found.spread()
    assert np.array_equal(product, found.weight)
    assert not shared or np.ptp(found.scale) == 0
    # No other level is nearer.
    step = found.scale[:, None] * found.spread()
    nearer = np.abs(levels[:, None, None] * step - weight).min(0)
    np.testing.assert_allclose(np.abs(found.levels * step - weight), nearer, atol=1e-9)


@pytest.mark.parametrize("weight_format", STORED, ids=lambda weight_format: weight_format.label)
def test_more_blocks_and_more_bits_leave_less(weight_format):
    weight = small.normal(8, 128) * np.exp(small.normal(8, 128, seed=1))

    def error(f):
        found = nearest(weight, f)
        return np.square(found.weight * found.scale[:, None] - weight).sum()

    whole = FORMATS[weight_format.name]
    assert error(weight_format) <= 1.02 * error(whole)
    if weight_format.bits < 6 and weight_format.name != "ternary":
        assert error(weight_format) > error(FORMATS["int6"])


def test_weights_that_are_levels_stay_as_they_are():
    weight_format = FORMATS["int4b32"]
    rng = np.random.default_rng(0)
    levels, multipliers = rng.integers(-7, 8, (4, 64)), rng.integers(8, 17, (2, 2))
    levels[:, ::32] = 7
    multipliers[:, 0] = 16
    weight = 0.25 * levels * spread(multipliers, 4, 64, 32)
    found = nearest(weight, weight_format)
    np.testing.assert_allclose(found.weight * found.scale[:, None], weight, atol=1e-9)


@pytest.mark.parametrize("name", ["int4b32", "int2b32", "ternary"])
def test_gptq_changes_what_comes_out_less(name):
    """Inputs of few directions, as those of a layer are."""
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((400, 12)) @ rng.standard_normal((12, 64)) + 0.1 * rng.standard_normal((400, 64))
    weight, weight_format = rng.standard_normal((16, 64)), FORMATS[name]

    def error(found):
        return np.square(inputs @ (found.weight * found.scale[:, None] - weight).T).sum()

    assert error(gptq(weight, weight_format, inputs.T @ inputs / 400)) < 0.6 * error(nearest(weight, weight_format))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(STORED), st.integers(1, 7), st.integers(1, 70), st.booleans(), st.integers(0, 99))
def test_no_row_loses_more_by_gptq_than_by_the_nearest_levels(weight_format, n, k, shared, seed):
    weight, inputs = small.normal(n, k, seed=seed), small.normal(20, k, seed=seed + 1) * np.exp(small.normal(1, k))
    found, plain = (
        gptq(weight, weight_format, inputs.T @ inputs, shared=shared),
        nearest(weight, weight_format, shared=shared),
    )
    errors = [np.square(inputs @ (x.weight * x.scale[:, None] - weight).T).sum(0) for x in (found, plain)]
    assert (errors[0] <= errors[1] * (1 + 1e-5) + 1e-9).all()
    assert np.array_equal(found.scale, plain.scale)


def test_gptq_of_even_inputs_is_the_nearest():
    weight, weight_format = small.normal(6, 32), FORMATS["int4b16"]
    assert np.array_equal(gptq(weight, weight_format, np.eye(32)).levels, nearest(weight, weight_format).levels)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(STORED), st.integers(1, 5), st.integers(1, 80), st.integers(-6, 3), st.integers(0, 99))
def test_no_scale_is_finer_than_the_finest(weight_format, n, k, magnitude, seed):
    """What a residual adds has no room in an accumulator of finer steps; scales that are coarse enough are no loss."""
    weight, finest = small.normal(n, k, seed=seed) * 10.0**magnitude, 1e-3
    found = nearest(weight, weight_format, finest=finest)
    assert found.scale.min() >= finest
    fits = nearest(weight, weight_format)

    def of_pairs(rows: np.ndarray) -> np.ndarray:
        """Rows that share their multipliers, so that one of them may gain what the other loses, (pairs, 2)."""
        return np.pad(rows, (0, -n % ROWS)).reshape(-1, ROWS)

    coarse = of_pairs(fits.scale < finest).sum(1) == 0

    def error(blocks: Blocks) -> np.ndarray:
        lost = ((blocks.weight * blocks.scale[:, None] - weight) ** 2).sum(1)
        return of_pairs(lost).sum(1)[coarse]

    assert (error(found) <= error(fits) * (1 + 1e-9)).all()


def test_no_weights_at_all():
    scale, multipliers = fit_scales(np.zeros((2, 16)), FORMATS["int4b16"])
    assert (scale > 0).all()
    assert (multipliers >= 1).all()
    assert not nearest(np.zeros((2, 16)), FORMATS["int4b16"]).weight.any()


@given(st.lists(st.integers(-(2**31) + 1, 2**31 - 1), min_size=1, max_size=9), st.sampled_from(["int8", "int16"]))
def test_short_constants_are_read_as_they_were_rounded(values, dtype):
    rounded = rounded_to(np.array(values, np.int32), dtype)
    stored = compressed(rounded, dtype)
    assert np.array_equal(stored[:-1].astype(np.int64) << int(stored[-1]), rounded)
    most = np.iinfo(dtype).max
    assert np.abs(rounded - np.array(values, np.float64)).max() <= max(np.abs(values).max() / most, 0.0)


def test_a_table_that_is_added_is_read_in_its_format():
    """Its codes and multipliers are two arguments, of which the kernel must know."""
    blocks = nearest(small.normal(6, 16), FORMATS["int4b16"])
    table = blocks.weight.astype(np.int8)
    spec = Product((), 16, Requantize(), residuals=(ProductInput(16, 6, indexed=True),))
    vector = relax.const(np.zeros(16, np.int32))
    ids = relax.Var("ids", relax.TensorType((1, 4), "int32"))
    constants = Constants({fingerprint(table): blocks}, {fingerprint(table): "table"})
    stored, args = row_product(constants, spec, [vector, relax.const(table), ids, vector, vector], isa_of(()))
    assert stored.residuals[0].weight_format == blocks.format
    assert [x.dtype for x in args if isinstance(x, np.ndarray)] == [np.uint8, np.uint8]
    assert len(product(stored).params) == len(args) + 1
