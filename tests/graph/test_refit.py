"""Weights of few bits refitted to texts: laws of the least squares, what a module gives then, and when it is done."""

from dataclasses import replace

import numpy as np
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st

from embbert_tvm.graph.calibrate import calibrate, runner
from embbert_tvm.graph.dataflow import Dataflow
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.llvm_run import llvm_runner
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.precision import PLANS, PrecisionPlan
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.graph.quantize.low_bits import nearest
from embbert_tvm.graph.quantize.refit import Samples, least_squares, refit
from embbert_tvm.graph.quantize.text_values import TextValues
from embbert_tvm.kernels.low_bits import FORMATS

STORED = [weight_format for weight_format in FORMATS.values() if weight_format.stored]
TEXTS = [small.some_ids(n, seed=seed) for seed in range(6) for n in (3, 9, 14)]
UNSEEN = [small.some_ids(n, seed=seed) for seed in range(100, 106) for n in (5, 12)]


def samples(rows: int, n: int, k: int, seed: int = 0, held: int = 4) -> tuple[Samples, np.ndarray, np.ndarray]:
    """Inputs in steps of a few directions, what weights and a bias make of them, and some error; weights, bias."""
    x = np.rint(20 * small.normal(rows, 3, seed=seed) @ small.normal(3, k, seed=seed) + small.normal(rows, k))
    weight, bias = small.normal(n, k, seed=seed, scale=0.1), small.normal(n, seed=seed)
    target = x @ (weight + small.normal(n, k, seed=seed + 1, scale=0.02)).T + bias + 0.1
    return Samples(x, target, np.arange(rows) % held == held - 1), weight, bias


def squares(found: Samples, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The squared error of each row of weights."""
    return np.square(found.error(weight, bias)).sum(0)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(STORED),
    st.integers(1, 40),
    st.integers(1, 7),
    st.integers(1, 70),
    st.floats(1e-6, 1e-1),
    st.integers(0, 99),
)
def test_no_rows_lose_more_than_by_the_nearest_levels(weight_format, rows, n, k, finest, seed):
    weight_format = weight_format.within(k)
    given, weight, bias = samples(rows, n, k, seed)
    blocks, moved = refit(weight, bias, weight_format, given, finest)
    plain = nearest(weight, weight_format, finest=finest)
    ours = squares(given, blocks.weight * blocks.scale[:, None], moved)
    theirs = squares(given, plain.weight * plain.scale[:, None], bias)
    assert ours.sum() <= theirs.sum() * (1 + 1e-5) + 1e-6
    assert blocks.scale.min() >= finest
    levels = weight_format.first + weight_format.step * np.arange(weight_format.count)
    assert np.isin(blocks.levels, levels).all()
    assert np.array_equal(blocks.levels.astype(int) * blocks.spread(), blocks.weight)


def test_what_rounded_inputs_lack_is_made_up_for():
    """The float weights are no longer the best ones where the inputs are not the float model's."""
    given, weight, bias = samples(400, 8, 48)
    found, moved = least_squares(weight, bias, given)
    assert squares(given, found, moved).sum() < 0.1 * squares(given, weight, bias).sum()
    blocks, moved = refit(weight, bias, FORMATS["int4b16"], given)
    plain = nearest(weight, FORMATS["int4b16"])
    ours = squares(given, blocks.weight * blocks.scale[:, None], moved).sum()
    assert ours < 0.3 * squares(given, plain.weight * plain.scale[:, None], bias).sum()


def test_weights_stay_where_texts_held_out_see_no_use_in_a_change():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.integers(-9, 9, (12, 40)).astype(float), rng.standard_normal((4, 40)), np.zeros(4)
    noise = x @ weight.T + rng.standard_normal((12, 4))
    for held in (np.arange(12) >= 9, np.zeros(12, bool), np.ones(12, bool)):
        given = Samples(x, noise if held.any() and not held.all() else noise + 5, held)
        found = least_squares(weight, bias, given)
        assert np.array_equal(found[0], weight)
        assert np.array_equal(found[1], bias)


def error(mod, quantized) -> float:
    """The root of the mean squared error of logits on texts that nothing was fitted to."""
    exact, found = (llvm_runner(m) for m in (mod, quantized.mod))
    return float(np.sqrt(np.mean([np.square(found(ids) - exact(ids)).mean() for ids in UNSEEN])))


@pytest.mark.parametrize("precision", ["int4", "int2"])
def test_a_model_is_nearer_to_its_float_self(precision):
    mod = small.simplified()
    statistics = calibrate(mod, TEXTS, "x")
    refitted, plain = (quantize(mod, statistics, PLANS[precision], texts) for texts in (TEXTS, ()))
    assert error(mod, refitted) < 0.8 * error(mod, plain)
    assert refitted.plan == plain.plan
    again = quantize(mod, statistics, PLANS[precision], TEXTS)
    assert again.blocks.keys() == refitted.blocks.keys()
    # Kernels, and with them codes and instructions, are the same.
    assert [(c.name, c.kernel) for c in plain.choices] == [(c.name, c.kernel) for c in refitted.choices]


@pytest.mark.parametrize(
    ("plan", "with_second_moments"),
    [(PLANS["int8"], True), (PrecisionPlan("int4", rounding="nearest"), True), (PLANS["int4"], False)],
    ids=["no weight of fewer than 8 bits", "rounding to the nearest", "trained through its rounding"],
)
def test_other_models_stay_as_they_are(plan, with_second_moments):
    mod = small.simplified()
    statistics = calibrate(mod, TEXTS, "x", with_second_moments)
    with_texts, without = (quantize(mod, statistics, plan, texts) for texts in (TEXTS, ()))
    assert with_texts.constants == without.constants
    assert with_texts.blocks.keys() == without.blocks.keys()
    assert with_texts.plan == without.plan


def test_sums_with_rows_of_a_table_and_a_row_alone_are_refitted():
    """Sums with rows of a table beside the product; a head that reads one row of a text."""
    model = small.classifier(
        "x = Gather(emb__weight, ids)\nh = MatMul(x, in__weight)\ng = Relu(h)\ny = MatMul(g, mid__weight)\n"
        "z = Add(y, x)\nfirst = Constant<value_int=0>()\nrow = Gather<axis=1>(z, first)\n"
        "logits = Gemm(row, fc__weight, fc__bias)",
        emb__weight=small.normal(small.VOCABULARY, 32),
        in__weight=small.normal(32, 48, scale=0.2),
        mid__weight=small.normal(48, 32, scale=0.2),
        fc__weight=small.normal(32, 4, scale=0.2),
        fc__bias=small.normal(4),
    )
    mod = simplify(import_onnx(model))
    statistics = calibrate(mod, TEXTS, "x")
    refitted, plain = (quantize(mod, statistics, PLANS["int3"], texts) for texts in (TEXTS, ()))
    assert error(mod, refitted) < error(mod, plain)


def test_values_are_those_that_the_module_computes():
    mod = small.simplified()
    graph = Dataflow(mod)
    names = [v.name for v, _ in graph.bindings if str(v.ty).startswith("R.Tensor((1, ")][::3]
    wanted = [v for v, _ in graph.bindings if v.name in names]
    values, run = TextValues(mod, TEXTS[:3]), runner(mod, names)
    # In two goes: of what is known the rest is made.
    found = values.of(wanted[: len(wanted) // 2]) + values.of(wanted[len(wanted) // 2 :])
    for n, ids in enumerate(TEXTS[:3]):
        for ours, theirs in zip(found, run(np.asarray([ids], np.int32)), strict=True):
            np.testing.assert_allclose(ours[n], theirs, atol=1e-5)


def test_values_of_rounded_rows_are_whole_steps():
    mod = small.simplified()
    wanted = [v for v, _ in Dataflow(mod).bindings if "norm" in v.name][:2]
    assert wanted
    for found in TextValues(mod, TEXTS[:2], lambda var: 0.125 if var in wanted else None).of(wanted):
        for value in found:
            np.testing.assert_allclose(value / 0.125, np.rint(value / 0.125))
            assert np.abs(value).max() <= 128 * 0.125


def test_has_low_bits():
    assert PLANS["int4"].has_low_bits
    assert PLANS["int4-embeddings"].has_low_bits
    assert not PLANS["int8"].has_low_bits
    assert not PLANS["fp16"].has_low_bits
    assert replace(PLANS["int8"], formats={"fc": "int6"}).has_low_bits


def test_in_bytes():
    plan = PrecisionPlan("int4", {"a": "fp16", "b": "int2"}, {"b": "int3"}, ranges={"a": "kl"})
    assert plan.in_bytes() == PrecisionPlan("int8", {"a": "fp16", "b": "int8"}, ranges={"a": "kl"}, rounding="nearest")
