"""Linear layers in integers between float32: what is recognised, and what the whole model gives."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import small

from embbert_tvm.compiler import CompileOptions, compile_model, find_source
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.graph.calibrate import load_calibration, sha256
from embbert_tvm.graph.precision import PLANS, PrecisionPlan
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.models.reference import Reference
from embbert_tvm.target import load_cpu


def made(plan: PrecisionPlan):
    calibration = load_calibration(small.folder() / "calibration.json", sha256(small.folder() / "model.onnx"))
    return quantize(small.simplified(), calibration, plan)


@pytest.mark.parametrize(
    ("plan", "kernel", "precision"),
    [
        ("int8-rows", "row_product_int8", "int8"),
        ("int8-outliers", "row_product_int8_outliers", "int8"),
        ("int16", "row_product_static_int16", "int16"),
    ],
)
def test_every_linear_layer_and_nothing_else_is_in_integers(plan, kernel, precision):
    """The map of tokens, three of either layer, and the head; that of positions reads a constant."""
    found = made(PLANS[plan])
    kinds = Counter(c.precision for c in found.choices if c.kernel.startswith(kernel))
    assert kinds == {precision: 8}
    assert {c.precision for c in found.choices if not c.kernel.startswith(kernel)} <= {"float32", "int32", "bool"}
    assert not [c for c in found.choices if c.precision == "float32" and c.reason != "requested"]
    assert len(found.plan.operators) == 8


def test_a_plan_may_mix_them_with_int8():
    kernels = [c.kernel for c in made(PrecisionPlan("int8", {"head": "int8-rows"})).choices]
    assert [name.startswith("dequantize") for name in kernels[-2:]] == [True, False]
    assert kernels[-1].startswith("row_product_int8_row")
    assert any(name.startswith("product_rms_norm") for name in kernels)


def test_the_c_is_near_the_float_model(tmp_path):
    compile_model(
        find_source(small.folder()),
        load_cpu("host"),
        tmp_path / "package",
        CompileOptions(precision="int8-outliers", experimental=True),
    )
    reference = Reference(small.folder() / "model.onnx")
    with open_place("host", load_package(tmp_path / "package")) as device:
        for length in (1, 2, 17, 48):
            ids = small.some_ids(length, 70, length)
            wanted = reference(ids)
            assert np.abs(device.run(ids).logits - wanted).max() < 0.1 * np.abs(wanted).max()
