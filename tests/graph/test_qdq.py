"""Models that are quantized already, by onnxruntime's own quantizer: compiled as they say, checked against onnxruntime
running the same file with nothing rearranged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import small
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from embbert_tvm.compiler import CompileOptions, compile_model, find_source, kernel_calls
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.precision import PrecisionPlan
from embbert_tvm.graph.qdq import QuantizedConstant, written
from embbert_tvm.models.reference import Reference
from embbert_tvm.target import load_cpu

LENGTHS = (1, 2, 7, 20)
# Negative sums are as frequent as positive ones, so that zero points differ from the ends where they may.
BODY = """
rows = Gather<axis = 0>(table, ids)
up = MatMul(rows, fc__weight)
sum = Add(up, fc__bias)
on = Sigmoid(sum)
gated = Mul(on, sum)
down = MatMul(gated, out__weight)
added = Add(down, rows)
first = ReduceMean<keepdims = 0>(added, axes)
logits = MatMul(first, head__weight)
"""


def model() -> onnx.ModelProto:
    weights = {"table": small.normal(small.VOCABULARY, 16), "fc__weight": small.normal(16, 24, scale=0.3)}
    weights |= {"fc__bias": small.normal(24), "out__weight": small.normal(24, 16, scale=0.3)}
    return small.classifier(BODY, **weights, head__weight=small.normal(16, 3), axes=np.array([1]))


class Texts(CalibrationDataReader):
    def __init__(self) -> None:
        self._rest = iter([{"ids": np.array([small.some_ids(n)], np.int64)} for n in (3, 9, 20)])

    def get_next(self) -> dict | None:
        return next(self._rest, None)


def quantized(folder: Path, activations: QuantType, symmetric: bool, per_channel: bool) -> Path:
    onnx.save(model(), folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "qdq.onnx",
        Texts(),
        quant_format=QuantFormat.QDQ,
        activation_type=activations,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
        extra_options={"ActivationSymmetric": symmetric},
    )
    return folder / "qdq.onnx"


def zero_points(path: Path) -> list[int]:
    graph = onnx.load(path).graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    return [int(values[n.input[2]]) for n in graph.node if n.op_type == "QuantizeLinear"]


@pytest.mark.parametrize(
    ("target", "activations", "symmetric", "per_channel"),
    [
        ("host", QuantType.QInt8, True, True),
        ("cortex-m55", QuantType.QInt8, False, True),
        ("cortex-m4", QuantType.QUInt8, False, False),
    ],
)
def test_the_file_is_taken_at_its_word(target, activations, symmetric, per_channel, tmp_path):
    path = quantized(tmp_path, activations, symmetric, per_channel)
    zeros = zero_points(path)
    assert any(zeros) != symmetric
    compile_model(find_source(path), load_cpu(target), tmp_path / "package", CompileOptions(max_length=20))
    package = load_package(tmp_path / "package")
    products = [step.kernel for step in package.steps if step.kernel.startswith("product")]
    assert len(products) == 3, "each matrix is multiplied in integers"
    # The file's int8, each once, with a bias and a scale a column beside it.
    assert package.weights_bytes < 16 * small.VOCABULARY + 16 * 24 * 2 + 16 * 3 + 8 * (24 + 16 + 3) + 4 * 24 + 64
    reference, plain = Reference(path), Reference(tmp_path / "float.onnx")
    found, expected, unrounded = [], [], []
    with open_place("host", package) as device:
        for length in LENGTHS:
            ids = small.some_ids(length)
            found.append(device.run(ids).logits)
            expected.append(reference(ids))
            unrounded.append(plain(ids))
    step = np.unique(np.abs(np.diff(np.unique(expected)))).min()
    # A sum of floats in another order may fall on the other side of a tie: by one step.
    assert np.abs(np.array(found) - expected).max() <= 1.01 * step
    assert np.array_equal(found, expected) or np.mean(np.array(found) == expected) > 0.8
    assert not np.array_equal(expected, unrounded)


def edge_values() -> np.ndarray:
    """Half steps of 0.25, what is between, and what saturates."""
    steps = np.concatenate([np.arange(-20, 20) / 2, np.linspace(-300, 300, 39), [0.499999]])
    return (steps * 0.25).astype(np.float32).reshape(-1, 2)


@pytest.mark.parametrize(("kind", "zero"), [(np.int8, -7), (np.uint8, 3)])
def test_rounding_and_saturation_to_the_bit(kind, zero, tmp_path):
    body = "rows = Gather<axis = 0>(table, ids)\nq = QuantizeLinear(rows, scale, zero)\n"
    body += "back = DequantizeLinear(q, scale, zero)\nlogits = ReduceMean<keepdims = 0>(back, axes)"
    constants = {"table": edge_values(), "scale": np.float32(0.25), "zero": np.array(zero, kind), "axes": np.array([1])}
    made = small.classifier(body, **constants)
    made.opset_import[0].version = 21
    onnx.save(made, tmp_path / "edges.onnx")
    compile_model(
        find_source(tmp_path / "edges.onnx"), load_cpu("host"), tmp_path / "package", CompileOptions(max_length=1)
    )
    reference = Reference(tmp_path / "edges.onnx")
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    with open_place("host", load_package(tmp_path / "package")) as device:
        for token, row in enumerate(edge_values()):
            logits = device.run([token]).logits
            np.testing.assert_array_equal(logits, reference([token]))
            np.testing.assert_array_equal(logits, (np.clip(np.rint(row / 0.25) + zero, low, high) - zero) * 0.25)


def test_what_is_asked_beyond_it_is_refused(tmp_path):
    source = find_source(quantized(tmp_path, QuantType.QInt8, True, False))
    for options in ({"precision": "fp16"}, {"precision": "int4"}, {"plan": PrecisionPlan("int8")}):
        with pytest.raises(InputError, match=r"is quantized already .* leave out --precision and --plan"):
            compile_model(source, load_cpu("host"), tmp_path / "package", CompileOptions(**options))
    with pytest.raises(InputError, match="is quantized already"):
        kernel_calls(source, load_cpu("host"))
    assert not (tmp_path / "package").exists()


def test_a_scale_that_is_computed_is_refused():
    body = "rows = Gather<axis = 0>(table, ids)\nscale = ReduceMax<keepdims = 0>(rows)\n"
    body += "q = QuantizeLinear(rows, scale, zero)\nback = DequantizeLinear(q, scale, zero)\n"
    body += "logits = ReduceMean<keepdims = 0>(back, axes)"
    made = small.classifier(body, table=small.normal(9, 2), zero=np.array(0, np.int8), axes=np.array([1]))
    with pytest.raises(InputError, match="by a scale or zero point that is not constant"):
        written(import_onnx(made))


@pytest.mark.parametrize("axis", [0, 1])
def test_steps_are_what_dequantizelinear_makes(axis):
    rng = np.random.default_rng(axis)
    steps = rng.integers(-127, 128, (5, 7)).astype(np.int8)
    count = steps.shape[axis]
    found = QuantizedConstant(
        steps, rng.random(count).astype(np.float32), rng.integers(-3, 3, count).astype(np.int8), axis
    )
    body = f"w = DequantizeLinear<axis = {axis}>(steps, scale, zero)\nrows = Gather<axis = 0>(w, ids)\n"
    body += "logits = ReduceMean<keepdims = 0>(rows, axes)"
    constants = {"steps": steps, "scale": found.scale, "zero": found.zero, "axes": np.array([1])}
    reference = Reference(small.classifier(body, **constants).SerializeToString())
    for token in range(5):
        np.testing.assert_array_equal(reference([token]), found.dequantized[token])
    np.testing.assert_array_equal(found.transposed.dequantized, found.dequantized.T)
