"""Second moments: which tensors they are of, how they are kept, and that weights are rounded by them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st

from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import (
    Calibration,
    calibrate,
    load_calibration,
    save_calibration,
    sha256,
)
from embbert_tvm.graph.dataflow import Dataflow, shape
from embbert_tvm.graph.float_tensors import calibrate_folder
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.precision import PLANS
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.graph.second_moments import multiplied, pack, unpack


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.floats(1e-4, 1e4), st.integers(0, 99))
def test_packed_and_unpacked_it_is_the_same_but_for_rounding(rows, width, size, seed):
    x = size * small.normal(rows, width, seed=seed)
    x[:, ::7] = 0
    moment = x.T @ x / rows
    found = unpack(json.loads(json.dumps(pack(moment))))
    root = np.sqrt(np.diag(moment))
    np.testing.assert_allclose(np.sqrt(np.diag(found)), root, rtol=1e-5)
    assert (np.abs(found - moment) <= 1e-3 * np.outer(root, root) + 1e-30).all()
    assert np.array_equal(found, found.T)


@pytest.mark.parametrize("packed", [{}, {"roots": [1.0, 1.0], "upper": ""}, {"roots": [-1.0], "upper": ""}, [], "x"])
def test_what_is_no_moment_is_refused(packed, tmp_path):
    with pytest.raises((ValueError, KeyError, TypeError)):
        unpack(packed)
    path = tmp_path / "calibration.json"
    save_calibration(Calibration("digest", 1, {}), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"moments": {"x": packed}}))
    with pytest.raises(InputError, match="holds no calibration statistics"):
        load_calibration(path, "digest")


def test_they_are_of_what_matrices_multiply():
    mod = small.simplified()
    found = calibrate(mod, [[2, 7, 9], [3], [4, 4]], "x").second_moments
    assert set(found) == set(multiplied(mod))
    width = {v.name: shape(v)[-1] for v, _ in Dataflow(mod).bindings if v.name in found}
    assert {name: len(moment) for name, moment in found.items()} == width
    table = next(name for name in found if "token" in name)
    rows = Dataflow(mod)
    value = next(v for var, v in rows.bindings if var.name == table)
    tokens = value.args[0].value.numpy()[[2, 7, 9, 3, 4, 4]].astype(np.float64)
    np.testing.assert_allclose(found[table], tokens.T @ tokens / 6, rtol=1e-5)


def test_weights_rounded_by_them_change_their_products_less():
    """Tokens of few directions; without moments weights are rounded to the nearest."""
    table = small.normal(40, 6) @ small.normal(6, 48) + 0.1 * small.normal(40, 48)
    weight = small.normal(48, 12, scale=0.2)
    model = small.classifier(
        "x = Gather(emb__weight, ids)\ny = MatMul(x, fc__weight)\npool = Constant<value_ints=[1]>()\n"
        "logits = ReduceMax<keepdims=0>(y, pool)",
        emb__weight=table.astype(np.float32),
        fc__weight=weight,
    )
    mod = simplify(import_onnx(model))
    calibration = calibrate(mod, [list(range(40))], "x")
    plan = replace(PLANS["int3"], formats={"emb": "int8"})

    def error(calibration, rounding):
        made = quantize(mod, calibration, replace(plan, rounding=rounding))
        (blocks,) = made.blocks.values()
        assert blocks.levels.shape == (12, 48)
        # The table's scale is folded into the weights.
        scale = np.abs(table).max() / 127
        return np.square(table @ ((blocks.weight * blocks.scale[:, None]) / scale - weight.T).T).sum()

    by_gptq, nearest = error(calibration, "gptq"), error(calibration, "nearest")
    assert by_gptq < 0.6 * nearest
    assert error(replace(calibration, second_moments={}), "gptq") == nearest


def test_a_model_that_was_trained_through_its_rounding_has_none(tmp_path):
    from embbert_tvm.models.folder import read_folder, trained_precision

    folder = small.copy_of_folder(tmp_path / "m")
    assert read_folder(folder).trained_precision is None
    calibrate_folder(folder, [[2, 7, 9]], with_second_moments=False)
    assert not load_calibration(folder / "calibration.json", sha256(folder / "model.onnx")).second_moments
    (folder / "training.json").write_text('{"recipe": {"precision": "int2"}}')
    assert trained_precision(folder) == "int2"
    (folder / "training.json").write_text("[]")
    with pytest.raises(InputError, match="holds no training record"):
        trained_precision(folder)
