"""Rows before and after a token beside its own: one product reads them through a window."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from small import classifier, normal, some_ids

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.graph.calibrate import calibrate
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.quantize import quantize

AFTER = "after = Slice(x, one, many, one)\na = Pad(after, {})\n"
BEFORE = "before = Slice(x, none, last, one)\nb = Pad(before, {})\n"
ZEROS_LAST, ZEROS_FIRST = "0,0,0,0,1,0", "0,1,0,0,0,0"
TEXTS = [some_ids(1 + n % 20, seed=n) for n in range(24)]


def model(shifts: str, parts: str, count: int):
    """A classifier whose rows are `parts` side by side, in which `a` and `b` are what `shifts` makes of the rows x."""
    constants = (("one", 1), ("many", 9999), ("none", 0), ("last", -1), ("axis", 1))
    body = "".join(f"{name} = Constant<value_ints=[{value}]>()\n" for name, value in constants)
    body += f"x = Gather(emb__weight, ids)\n{shifts}j = Concat<axis=-1>({parts})\nm = MatMul(j, fc__weight)\n"
    body += "y = Relu(m)\np = ReduceMax<keepdims=0>(y, axis)\nlogits = MatMul(p, head__weight)"
    return classifier(body, emb__weight=normal(40, 8), fc__weight=normal(8 * count, 8), head__weight=normal(8, 3))


def pads(shift: str, zeros: str) -> str:
    name = "zeros_" + zeros.replace(",", "")
    return f"{name} = Constant<value_ints=[{zeros}]>()\n" + shift.format(name)


BOTH = pads(AFTER, ZEROS_LAST) + pads(BEFORE, ZEROS_FIRST)


def answers_and_kernels(given) -> list[str]:
    """The kernels of an int8 model, after asserting that it answers about as onnxruntime."""
    mod = simplify(import_onnx(given))
    quantized = quantize(mod, calibrate(mod, TEXTS, "texts"))
    session, run = onnxruntime.InferenceSession(given.SerializeToString()), llvm_runner(quantized.mod)
    expected = np.array([session.run(None, {"ids": np.array([ids])})[0].reshape(-1) for ids in TEXTS])
    found = np.array([run(ids) for ids in TEXTS])
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    return [choice.kernel for choice in quantized.choices]


@pytest.mark.parametrize(
    ("shifts", "parts", "window"),
    [
        (BOTH, "a, x, b", "3tapsafter1of8"),
        (BOTH, "b, x, a", "3tapsafter1of8"),
        (BOTH, "b, a", "2tapsevery2after1of8"),
        (BOTH, "x, b", "2tapsafter0of8"),
        (BOTH, "a, x", "2tapsafter1of8"),
    ],
)
def test_neighbours_of_a_token_are_a_window(shifts, parts, window):
    kernels = answers_and_kernels(model(shifts, parts, parts.count(",") + 1))
    assert kernels[0] == f"product_activate_{window}x8"
    assert not [kernel for kernel in kernels if "pad" in kernel or "slice" in kernel]


@pytest.mark.parametrize(
    ("shifts", "parts"),
    [
        (pads(AFTER, ZEROS_FIRST), "a, x"),  # the first row is lost, not moved
        (pads(BEFORE, ZEROS_LAST), "b, x"),  # the last one
        (BOTH, "a, a, x"),
        (BOTH + "t = Tanh(x)\n", "a, t, b"),
    ],
)
def test_other_rows_are_none(shifts, parts):
    assert not [
        kernel for kernel in answers_and_kernels(model(shifts, parts, parts.count(",") + 1)) if "taps" in kernel
    ]
