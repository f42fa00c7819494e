"""Channels that reach far past the others: the same model in float, less lost in int8, and no other model changed."""

from __future__ import annotations

import numpy as np
import pytest
from small import classifier, normal, operators, some_ids

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.graph.calibrate import calibrate, load_calibration, save_calibration
from embbert_tvm.graph.dataflow import Dataflow, constant
from embbert_tvm.graph.equalize import MOST_UNIT, OUTLIER, adjustable, equalize
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.quantize import keep_float, quantize

LAYER = (
    "e = Gather(emb__weight, ids)\nt = Gather(more__weight, ids)\ns = Add(e, t)\n"
    "x = LayerNormalization(s, first__weight, first__bias)\nm = MatMul(x, sq__weight)\na = Add(m, x)\n"
    "n = LayerNormalization(a, ln__weight, ln__bias)\n"
    "h = MatMul(n, up__weight)\nb = Add(h, up__bias)\ng = Relu(b)\nd = MatMul(g, down__weight)\nr = Add(d, n)\n"
    "o = LayerNormalization(r, out__weight, out__bias)\ny = MatMul(o, fc__weight)\n"
)
MEAN = "rows = Constant<value_ints=[1]>()\np = ReduceMean<keepdims=0>(y, rows)\nlogits = MatMul(p, head__weight)"
FIRST = "zero = Constant<value_int=0>()\np = Gather<axis=1>(y, zero)\nlogits = MatMul(p, head__weight)"
TEXTS = [some_ids(1 + n % 20, seed=n) for n in range(24)]


def model(outlier: float, end: str = MEAN):
    """A layer of BERT's kind, simplified; one channel of its norm and one hidden one are `outlier` times larger."""
    gain, up = 1 + normal(16, scale=0.1), normal(16, 64, scale=0.3)
    gain[3] *= outlier
    up[:, 5] *= outlier
    weights = {
        "emb__weight": normal(40, 16, scale=0.5), "more__weight": normal(40, 16, seed=1, scale=0.5),
        "first__weight": 1 + normal(16, seed=4, scale=0.1), "first__bias": normal(16, seed=5, scale=0.1),
        "sq__weight": normal(16, 16, seed=1, scale=0.3),
        "ln__weight": gain, "ln__bias": normal(16, seed=2, scale=0.1), "up__weight": up,
        "up__bias": normal(64, scale=0.1), "down__weight": normal(64, 16, scale=0.1),
        "out__weight": 1 + normal(16, scale=0.1), "out__bias": normal(16, seed=3, scale=0.1),
        "fc__weight": normal(16, 8), "head__weight": normal(8, 3),
    }  # fmt: skip
    weights["up__weight"][3] /= outlier
    weights["emb__weight"][7, 5] *= outlier
    return simplify(import_onnx(classifier(LAYER + end, **weights)))


def answers(quantized) -> np.ndarray:
    run = llvm_runner(quantized.mod)
    return np.array([run(ids) for ids in TEXTS])


@pytest.mark.parametrize("end", [MEAN, FIRST], ids=["all rows", "the first row"])
def test_the_float_model_stays_what_it_is(end):
    mod = model(20.0, end)
    statistics = calibrate(mod, TEXTS, "x")
    equal = equalize(mod, statistics.bounds)
    assert equal is not mod
    assert operators(equal)["matmul"] == operators(mod)["matmul"] + 2  # the large channels' own
    np.testing.assert_allclose(answers(keep_float(equal)), answers(keep_float(mod)), rtol=1e-4, atol=1e-5)
    again = calibrate(equal, TEXTS, "x", with_second_moments=False)
    assert again.tensors.keys() == statistics.tensors.keys()


def test_int8_loses_less():
    mod = model(20.0)
    right = answers(keep_float(mod))

    def lost(statistics) -> float:
        found = quantize(mod, statistics)
        assert not [c for c in found.choices if c.precision == "float32"], found.choices
        return float(np.square(answers(found) - right).mean())

    assert lost(calibrate(mod, TEXTS, "x")) < 0.3 * lost(calibrate(mod, TEXTS, "x", with_second_moments=False))


def test_a_model_of_even_channels_stays_itself():
    mod = model(1.0)
    statistics = calibrate(mod, TEXTS, "x")
    assert not statistics.bounds
    assert equalize(mod, {name: np.array([[-1.0, -1.0, 0.0], [1.0, 1.0, OUTLIER]]) for name in adjustable(mod)}) is mod
    assert equalize(mod, {name: np.zeros((2, 3)) for name in adjustable(mod)}) is mod


def test_what_is_read_back_is_quantized_to_the_same_bits(tmp_path):
    mod = model(20.0)
    statistics = calibrate(mod, TEXTS, "x")
    save_calibration(statistics, tmp_path / "calibration.json")
    found, again = (quantize(mod, one) for one in (statistics, load_calibration(tmp_path / "calibration.json", "x")))
    assert found.mod.script() == again.mod.script()
    known = {var.name for var, _ in Dataflow(mod).bindings}
    assert {name for name, _ in found.origins.values()} <= known


def test_a_channel_far_from_zero_is_moved_not_widened():
    mod = model(20.0)
    bounds = {name: np.stack([-np.ones(16), np.ones(16)]) for name in ("first", "ln", "out")}
    bounds["ln"][:, 3] = 19.0, 21.0
    equal = equalize(mod, bounds)
    np.testing.assert_allclose(answers(keep_float(equal)), answers(keep_float(mod)), rtol=1e-4, atol=1e-5)
    (before,), (after,) = (
        [value for var, value in Dataflow(one).bindings if var.name == name]
        for one, name in ((mod, "ln"), (equal, "ln_even"))
    )
    np.testing.assert_array_equal(constant(after.args[1]), constant(before.args[1]))
    moved = constant(before.args[2]) - constant(after.args[2])
    np.testing.assert_allclose(moved, [0, 0, 0, 20, *[0] * 12], atol=1e-5)


@pytest.mark.parametrize(("least", "unit"), [(-1.0, 1.0), (-5.0, 4.0), (-50.0, MOST_UNIT)])
def test_units_are_powers_of_two_up_to_a_most(least, unit):
    mod, bounds = model(20.0), {"ln": np.stack([-np.ones(16), np.ones(16)])}
    bounds["ln"][:, 3] = least, -least
    bounds["out"] = np.stack([-np.ones(16), np.where(np.arange(16) == 1, 2 * OUTLIER, 1.0)])
    (after,) = (value for var, value in Dataflow(equalize(mod, bounds)).bindings if var.name in ("ln", "ln_even"))
    (before,) = (value for var, value in Dataflow(mod).bindings if var.name == "ln")
    np.testing.assert_allclose(constant(before.args[1])[3] / constant(after.args[1])[3], unit)
