"""Steps of int8 that are coarse enough: for what is added to an accumulator, and for what a maximum finds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small import classifier, normal, some_ids

from embbert_tvm.graph.calibrate import Histogram, calibrate
from embbert_tvm.graph.dataflow import Dataflow, op_name
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.precision import PLANS
from embbert_tvm.graph.quantize import quantize

EMBED = "x = Gather(emb__weight, ids)\n"
FIRST = "\nzero = Constant<value_int=0>()\np = Gather<axis=1>(y, zero)\nlogits = MatMul(p, head__weight)"
LARGEST = "\npool = Constant<value_ints=[1]>()\np = ReduceMax<keepdims=0>(y, pool)\nlogits = MatMul(p, head__weight)"
WEIGHTS = {"emb__weight": normal(40, 16, scale=0.5), "head__weight": normal(8, 3)}
FC = {"fc__weight": normal(16, 8), "fc__bias": normal(8)}
TEXTS = [some_ids(1 + n % 20, seed=n) for n in range(24)]


def test_a_channel_of_small_weights_keeps_its_format_beside_a_residual():
    """It would have steps too fine for what is added to it, and its whole product was stored in int8 for its sake: a
    third of a pruned BERT-tiny's flash."""
    body = EMBED + "m = MatMul(x, sq__weight)\na = Add(m, x)\nn = LayerNormalization(a, ln__weight)\n"
    body += "y = MatMul(n, fc__weight)" + FIRST
    weight = normal(16, 16, seed=1)
    weight[:, 3] *= 1e-6
    mod = simplify(
        import_onnx(classifier(body, **WEIGHTS, fc__weight=FC["fc__weight"], sq__weight=weight, ln__weight=normal(16)))
    )
    found = quantize(mod, calibrate(mod, TEXTS, "x"), PLANS["int4"])
    names = {found.constants[key] for key, blocks in found.blocks.items() if blocks.format.bits == 4}
    assert "ln_weight" in names, names


def test_what_a_maximum_reads_holds_the_largest():
    """The percentile of all rows leaves out one value of ten thousand: some percent of what the maximum finds."""
    body = EMBED + "m = MatMul(x, fc__weight)\na = Add(m, fc__bias)\ny = Relu(a)" + LARGEST
    mod = simplify(import_onnx(classifier(body, **WEIGHTS, **FC)))
    statistics = calibrate(mod, TEXTS, "x")
    (over,) = (v.name for v, value in Dataflow(mod).bindings if op_name(value) == "max")
    (rows,) = (v.name for v, value in Dataflow(mod).bindings if op_name(value) == "nn.relu")
    rare = Histogram(0.0, 1.0, (99_999, *[0] * 98, 1))  # of a hundred thousand values one is near 1
    tensors = statistics.tensors | {rows: rare, over: Histogram(0.0, 1.0, (0, 9))}
    found = quantize(mod, replace(statistics, tensors=tensors))
    scales = {origin: scale for origin, scale in found.origins.values() if scale is not None}
    assert scales[rows] == pytest.approx(1 / 127)


def test_what_has_no_weights_stays_float_beside_float():
    """Magika writes its norms out: a variance that was the difference of two int8 values left half of its labels."""
    body = (
        EMBED + "m = MatMul(x, fc__weight)\na = Sin(m)\nb = Cos(m)\nc = Mul(a, b)\nd = Sub(c, a)\ny = Cos(d)" + LARGEST
    )
    mod = simplify(import_onnx(classifier(body, **WEIGHTS, fc__weight=FC["fc__weight"])))
    made = {c.kernel.split("_")[0]: c.precision for c in quantize(mod, calibrate(mod, TEXTS, "x")).choices}
    assert (made["multiply"], made["subtract"]) == ("float32", "float32")
    assert made["product"].startswith("int8")
