"""Calibration: what a histogram says, what is kept of a run, and what a file of statistics must be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st
from small import classifier, normal

from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import (
    BINS,
    QUANTILE,
    RANGES,
    Calibration,
    Histogram,
    calibrate,
    load_calibration,
    observed,
    save_calibration,
    sha256,
)
from embbert_tvm.graph.float_tensors import calibrate_folder
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify


def histogram(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, tuple(np.histogram(values, BINS, (low, high))[0].tolist()))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 3000),
    st.floats(1e-3, 1e3),
    st.floats(-5, 5),
    st.sampled_from([0.9, 0.999, 1]),
)
def test_magnitude_covers_the_quantile_and_is_no_wider_than_two_bins_more(seed, count, spread, shift, quantile):
    values = np.random.default_rng(seed).standard_normal(count) * spread + shift
    found = histogram(values).magnitude(quantile)
    slack = 1e-9 * spread
    assert (np.abs(values) <= found + slack).mean() >= quantile - 1e-12
    exact = np.sort(np.abs(values))[min(count - 1, int(np.ceil(quantile * count)) - 1)]
    assert found <= exact + 2 * (values.max() - values.min()) / BINS + slack


def test_an_outlier_does_not_set_the_scale():
    values = np.concatenate([np.linspace(-1, 1, 100_000), [50.0]])
    assert histogram(values).magnitude() < 1.2
    assert histogram(values).magnitude(1.0) == 50


def test_a_tensor_that_is_all_zero_has_a_scale():
    statistics = Calibration("x", 1, {"t": Histogram(0.0, 0.0, (0,) * 511 + (1,))})
    assert statistics.scale("t") == 1e-6 / 127


def test_statistics_are_of_the_tensors_themselves():
    """Against onnxruntime's value of the logits."""
    from embbert_tvm.models.reference import Reference

    texts = [small.some_ids(n, 70) for n in (1, 2, 5, 48)]
    mod = small.simplified()
    found = calibrate(mod, texts, "digest")
    assert (found.onnx_sha256, found.examples) == ("digest", 4)
    assert list(found.tensors) == observed(mod)
    reference = Reference(small.folder() / "model.onnx")
    logits = np.concatenate([reference(ids) for ids in texts])
    head = found.tensors["head"]
    assert (head.low, head.high) == pytest.approx((logits.min(), logits.max()), rel=1e-3)
    assert sum(head.counts) == logits.size
    lengths = sum(map(len, texts))
    assert sum(found.tensors["blocks_0_query"].counts) == lengths * 32


def test_no_matrix_of_scores_is_kept():
    names = observed(small.simplified())
    assert "blocks_0_query" in names
    assert "blocks_0_softmax" not in names


def test_infinities_are_left_out():
    model = small.classifier(
        "x = Gather(emb__weight, ids)\nm = Add(x, mask__weight)\nr = Relu(m)\npool = Constant<value_ints=[1]>()\n"
        "logits = ReduceMax<keepdims=0>(r, pool)",
        emb__weight=small.normal(40, 4), mask__weight=np.float32([0, -np.inf, 0, -np.inf]),
    )  # fmt: skip
    found = calibrate(simplify(import_onnx(model)), [[1, 2, 3], [4]], "x")
    assert all(np.isfinite([h.low, h.high]).all() for h in found.tensors.values())
    assert any(sum(h.counts) == 8 and h.low > -10 for h in found.tensors.values())


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, np.nextafter(np.float32(1), np.float32(2)))])
def test_a_narrow_range_has_bins(low, high):
    model = small.classifier(
        "x = Gather(emb__weight, ids)\npool = Constant<value_ints=[1]>()\nlogits = ReduceMax<keepdims=0>(x, pool)",
        emb__weight=np.resize(np.float32([low, high]), (40, 4)),
    )
    found = calibrate(simplify(import_onnx(model)), [[1, 2, 3], [4]], "x")
    assert found.tensors["emb"].magnitude() == pytest.approx(1)


def test_what_is_no_number_is_refused():
    model = small.classifier(
        "x = Gather(emb__weight, ids)\npool = Constant<value_ints=[1]>()\nlogits = ReduceMax<keepdims=0>(x, pool)",
        emb__weight=np.full((40, 4), np.nan, np.float32),
    )
    with pytest.raises(InputError, match=r"emb\.weight holds NaN"):
        calibrate(simplify(import_onnx(model)), [[1]], "x")


def test_no_texts_are_refused():
    with pytest.raises(InputError, match="at least one text"):
        calibrate(small.simplified(), [], "x")


def test_an_unknown_tensor_is_refused():
    with pytest.raises(InputError, match="know no tensor nobody: make them anew with `embbert-tvm export`"):
        Calibration("x", 1, {}).scale("nobody")


def test_saved_and_loaded_are_the_same(tmp_path):
    statistics = Calibration("digest", 3, {"a": histogram(np.array([-0.1, 0.3, 1 / 3])), "b": histogram(np.zeros(2))})
    path = tmp_path / "calibration.json"
    save_calibration(statistics, path)
    assert load_calibration(path, "digest") == statistics
    assert [p.name for p in tmp_path.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "is missing"),
        ("", "holds no calibration statistics"),
        ("{", "holds no calibration statistics"),
        ("[]", "holds no calibration statistics"),
        ("null", "holds no calibration statistics"),
        (b"\xff\xfe", "holds no calibration statistics"),
        ({"tensors": None}, "holds no calibration statistics"),
        ({"tensors": {"a": {"low": 0}}}, "holds no calibration statistics"),
        ({"tensors": {"a": {"low": 0, "high": 1, "counts": []}}}, "holds no calibration statistics"),
        ({"tensors": {"a": {"low": 0, "high": 1, "counts": [0, 0]}}}, "holds no calibration statistics"),
        ({"tensors": {"a": {"low": 0, "high": 1, "counts": [2, -1]}}}, "holds no calibration statistics"),
        ('{"tensors": {"a": {"low": 0, "high": 1, "counts": [Infinity]}}}', "holds no calibration statistics"),
        ({"tensors": {"a": {"low": "NaN", "high": 1, "counts": [1]}}}, "holds no calibration statistics"),
        ({"tensors": {"a": {"low": 2, "high": 1, "counts": [1]}}}, "holds no calibration statistics"),
        ({"tensors": {"a": {"low": 0, "high": 1, "counts": 5}}}, "holds no calibration statistics"),
        ({"version": 0}, "belongs to another model.onnx or version"),
        ({"onnx_sha256": "other"}, "belongs to another model.onnx or version"),
    ],
)
def test_a_bad_file_is_refused_and_says_what_to_do(tmp_path, change, message):
    path = tmp_path / "calibration.json"
    if isinstance(change, dict):
        save_calibration(Calibration("digest", 1, {"a": Histogram(0.0, 1.0, (1,))}), path)
        change = json.dumps(json.loads(path.read_text()) | change)
    if change is not None:
        path.write_bytes(change if isinstance(change, bytes) else change.encode())
    with pytest.raises(InputError, match=message) as error:
        load_calibration(path, "digest")
    assert str(path) in str(error.value)
    assert "embbert-tvm export" in str(error.value)


def test_a_folder_is_calibrated_in_place(tmp_path):
    folder = small.copy_of_folder(tmp_path / "m")
    before = sorted(p.name for p in folder.iterdir())
    (folder / "calibration.json").unlink()
    calibrate_folder(folder, [[2, 7, 9], [2, 8]])
    found = load_calibration(folder / "calibration.json", sha256(folder / "model.onnx"))
    assert found.examples == 2
    assert QUANTILE < 1
    assert sorted(p.name for p in folder.iterdir()) == before


@given(
    st.lists(st.integers(0, 1000), min_size=8, max_size=512).filter(any),
    st.floats(-50, 50),
    st.floats(0.01, 100),
    st.sampled_from(sorted(RANGES)),
)
def test_every_method_gives_a_range_within_the_values(counts, low, width, method):
    histogram = Histogram(low, low + width, tuple(counts))
    assert 0 < RANGES[method](histogram, 127) <= histogram.magnitude(1.0) * 1.000001


def _squared_error(values: np.ndarray, largest: float) -> float:
    step = largest / 127
    return float(np.mean((np.clip(np.rint(values / step), -127, 127) * step - values) ** 2))


def test_the_range_of_least_squares_has_the_least_error_of_all():
    """On values with rare outliers, where percentile and the largest are both far off."""
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.standard_normal(200_000), rng.uniform(-12, 12, 60)])
    counts, edges = np.histogram(values, 512)
    histogram = Histogram(float(edges[0]), float(edges[-1]), tuple(counts.tolist()))
    errors = {method: _squared_error(values, RANGES[method](histogram, 127)) for method in RANGES}
    assert errors["mse"] <= 1.03 * min(errors.values())
    assert errors["mse"] < 0.9 * errors["minmax"]
    every = [_squared_error(values, m) for m in np.linspace(0.5, 12, 200)]
    assert errors["mse"] <= 1.03 * min(every)


def test_divergence_leaves_rare_outliers_out():
    """Where the bulk is uneven, coarse steps lose its shape."""
    counts = [0] * 512
    counts[206:306] = np.random.default_rng(1).integers(1, 2000, 100).tolist()
    counts[0] = counts[-1] = 1
    histogram = Histogram(-10.0, 10.0, tuple(counts))
    assert RANGES["kl"](histogram, 127) < 6
    assert RANGES["minmax"](histogram, 127) == 10


def test_a_text_that_leaves_less_than_no_rows_is_refused():
    """x[2:] of one token: its buffer of -1 rows ended in std::bad_alloc."""
    weights = {"table": normal(40, 8), "head__weight": normal(8, 3), "axis": np.array([1])}
    weights |= {"first": np.array([2]), "end": np.array([2**62])}
    body = "x = Gather(table, ids) y = Slice(x, first, end, axis) r = ReduceMean<keepdims = 0>(y, axis)"
    mod = simplify(import_onnx(classifier(f"{body} logits = MatMul(r, head__weight)", **weights)))
    assert calibrate(mod, [[1, 2, 3], [4] * 9], "x").tensors
    with pytest.raises(InputError, match=r"of a text of 1 token \w+ would have -1 rows"):
        calibrate(mod, [[1, 2, 3], [4]], "x")
