"""Encoders of a hub that add to their scores: which operators int8 leaves in float32, and what it answers."""

from __future__ import annotations

import exports
import kinds
import numpy as np
import pytest
from test_kinds_and_exporters import runner

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.graph.calibrate import calibrate
from embbert_tvm.graph.door import normalize
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.quantize import quantize


def texts(longest: int = 60, count: int = 24) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(5, kinds.VOCABULARY, int(n)).tolist() for n in rng.integers(1, longest, count)]


@pytest.mark.parametrize(
    ("kind", "exporter"), [("mpnet", exporter) for exporter in (exports.FOLDER, *exports.EXPORTERS)]
)
def test_every_operator_is_in_integers(kind, exporter):
    given = exports.made_by(exporter, kind)
    mod = simplify(import_onnx(normalize(given).model))
    quantized = quantize(mod, calibrate(mod, texts(), "texts"))
    assert not [choice for choice in quantized.choices if choice.precision == "float32"]
    answer, expect = llvm_runner(quantized.mod, optimized=False), runner(given)
    found = np.array([answer(ids).reshape(-1) for ids in texts()])
    expected = np.array([expect(np.array([ids])).reshape(-1) for ids in texts()])
    assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).max()
