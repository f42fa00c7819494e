"""Every kind of small text model in every form that people have it: what is compiled answers as the file does."""

from __future__ import annotations

from functools import cache

import forms
import kinds
import numpy as np
import onnx
import onnxruntime
import pytest
from small import operators

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.graph.door import Door, normalize
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify

LENGTHS = (1, 2, 3, 6, 14, 40, 63)
# What a token, a row of a batch, a mask or a shape was asked for: nothing of it may be left.
NEVER = {"where", "broadcast_to", "shape_of", "isnan", "full", "logical_and", "arange"}


@cache
def door(kind: str, form: str) -> Door:
    return normalize(forms.exported(kind, form))


@cache
def simplified(kind: str, form: str):
    return simplify(import_onnx(door(kind, form).model))


def run(model: onnx.ModelProto, inputs: tuple[str, ...], ids: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    values = (ids, np.ones_like(ids), np.zeros_like(ids))
    return session.run(None, dict(zip(inputs, values, strict=False)))[0]


def ids_of(length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(0, kinds.VOCABULARY, (1, length))


@pytest.mark.parametrize("form", forms.FORMS)
@pytest.mark.parametrize("kind", kinds.KINDS)
def test_a_form_becomes_ids_to_logits(kind, form):
    found, of = door(kind, form), kinds.KINDS[kind]
    assert [i.name for i in found.model.graph.input] == ["ids"]
    assert [o.name for o in found.model.graph.output] == ["logits"]
    assert found.head == ("tokens" if of.head == "tokens" else "text")
    assert found.least == of.least
    given = forms.exported(kind, form)
    for length in (n for n in LENGTHS if n >= of.least and n <= (found.most or n)):
        ids = ids_of(length)
        expected, got = run(given, of.inputs, ids), run(found.model, ("ids",), ids)
        assert np.abs(got - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("form", forms.FORMS)
@pytest.mark.parametrize("kind", kinds.KINDS)
def test_nothing_of_shapes_and_masks_is_left(kind, form):
    found = operators(simplified(kind, form))
    assert not NEVER & {name for name, count in found.items() if count}
    if kind in ENCODERS:
        reference = operators(simplified(kind, "old_batch1"))
        assert found["matmul"] == reference["matmul"]
        assert found["nn.softmax"] == reference["nn.softmax"]


ENCODERS = ("bert", "distilbert", "electra", "albert", "roberta", "tokens", "many_labels", "regression", "embedding")


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_it_compiles_and_agrees(kind):
    """By TVM's LLVM build of what is then printed as C."""
    answer, of, given = llvm_runner(simplified(kind, "dynamo")), kinds.KINDS[kind], forms.exported(kind, "dynamo")
    for length in (n for n in LENGTHS if n >= of.least):
        ids = ids_of(length)
        expected, got = run(given, of.inputs, ids).reshape(-1), answer(ids[0].tolist())
        assert np.abs(got - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
        assert got.argmax() == expected.argmax()


def test_positions_limit_the_length():
    assert door("bert", "dynamo").most == kinds.POSITIONS
    # RoBERTa's begin after the padding's, and follow from the tokens.
    assert door("roberta", "old_dynamic").most == kinds.POSITIONS
    assert door("modernbert", "dynamo").most is None
