"""Encoders of a hub that add to their scores: which operators int8 leaves in float32, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import exports
import kinds
import numpy as np
import onnx
import pytest
from random_modules import VOCABULARY, write_package
from small import operators
from test_kinds_and_exporters import runner
from tvm import IRModule
from tvm_ffi import structural_equal, structural_hash

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.graph.calibrate import calibrate
from embbert_tvm.graph.door import normalize
from embbert_tvm.graph.fuse_row_blocks import fuse_row_blocks, is_fused
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.quantize import Quantized, quantize
from embbert_tvm.kernels.isa import DSP


def texts(longest: int = 60, count: int = 24) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(5, kinds.VOCABULARY, int(n)).tolist() for n in rng.integers(1, longest, count)]


KINDS = ("mpnet", "modernbert", "deberta_v2", "mobilebert")


@pytest.fixture(autouse=True)
def smaller_scores(monkeypatch):
    """Without norms states grow, and scores past what int8 takes where nothing has trained them."""
    for layer, share in zip(kinds.model("mobilebert").mobilebert.encoder.layer, (0.3, 0.003), strict=True):
        for values in layer.attention.self.query.parameters():
            monkeypatch.setattr(values, "data", values.data * share)


@pytest.mark.parametrize(
    ("kind", "exporter"),
    [(kind, exporter) for kind in KINDS for exporter in (exports.FOLDER, *exports.EXPORTERS)],
)
def test_every_operator_is_in_integers(kind, exporter):
    answers_in_integers(made_by(exporter, kind))


def made_by(exporter: str, kind: str) -> onnx.ModelProto:
    """As exports.made_by; anew of a kind that is not as others know it."""
    if kind == "mobilebert" and exporter != exports.FOLDER:
        return exports.exported.__wrapped__(kind, exporter)
    return exports.made_by(exporter, kind)


def answers_in_integers(given: onnx.ModelProto) -> None:
    """Assert that int8 leaves nothing in float32, and answers about as onnxruntime."""
    found, expect = in_integers(simplify(import_onnx(normalize(given).model))), runner(given)
    expected = np.array([expect(np.array([ids])).reshape(-1) for ids in texts()])
    assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).max()


class InRows(NamedTuple):
    """A module in int8 before rows go in blocks, what runs it, and what it answers to `texts` (texts, outputs)."""

    quantized: Quantized
    run: Callable[[list[int]], np.ndarray]
    answers: np.ndarray


_KNOWN: dict[int, tuple[IRModule, InRows]] = {}  # by the hash of the module: most forms of a kind become one


def in_rows(mod: IRModule) -> InRows:
    known, found = _KNOWN.get(structural_hash(mod), (None, None))
    if known is None or not structural_equal(mod, known):
        quantized = quantize(mod, calibrate(mod, texts(), "texts"))
        run = llvm_runner(quantized.mod, optimized=False)
        found = InRows(quantized, run, np.array([run(ids).reshape(-1) for ids in texts()]))
        _KNOWN[structural_hash(mod)] = mod, found
    return found


def in_integers(mod: IRModule) -> np.ndarray:
    """What a module answers in int8 (texts, outputs), all operators in integers."""
    found = in_rows(mod)
    assert not [choice for choice in found.quantized.choices if choice.precision == "float32"]
    return found.answers


@cache
def of_kind(kind: str) -> InRows:
    return in_rows(simplify(import_onnx(normalize(made_by("old_dynamic", kind)).model)))


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("kind", KINDS)
def test_row_blocks_have_the_bits_of_row_kernels(kind, target, tmp_path):
    quantized, rows, _ = of_kind(kind)
    assert is_fused(fuse_row_blocks(quantized, DSP))
    package = load_package(write_package(quantized, target, tmp_path / "package"))
    # GCC takes half the time of a CPU's own level, at which tests/graph tries every stage.
    with open_place("qemu", package, flags=("-O1",)) as device:
        for ids in ([7], [9, 11, 14, 15, 8], [one % VOCABULARY for one in texts()[0]]):
            assert device.run(ids).logits.tobytes() == rows(ids).tobytes()


def test_a_rotation_by_position_is_two_maps_of_the_same_rows():
    """What rotates pairs of columns is folded into the weights; of the first row, which alone the last layer reads,
    nothing is left of it."""
    mod = simplify(import_onnx(normalize(exports.made_by("old_dynamic", "modernbert")).model))
    assert not {"concat", "negative", "split", "squeeze"} & set(operators(mod))
    quantized = in_rows(mod).quantized
    gates = [choice.name for choice in quantized.choices if choice.kernel == "gate_8"]
    # Two a head's keys, two a head's queries but in the last layer.
    assert len(gates) == 3 * 2 * 2 + 2 * 2 * 2
    queries = [c.kernel for c in quantized.choices if "layers_2_attn" in c.name and "query" in c.name]
    assert queries == ["product_row_requantize_16x8"] * 2


@pytest.mark.parametrize("kept", ["c2p", "p2c"])
def test_only_queries_or_only_keys_are_multiplied_by_positions(kept, monkeypatch):
    for layer in kinds.model("deberta_v2").deberta.encoder.layer:
        monkeypatch.setattr(layer.attention.self, "pos_att_type", [kept])
    answers_in_integers(exports.exported.__wrapped__("deberta_v2", "old_dynamic"))
