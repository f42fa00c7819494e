"""Multiplications with accumulation: what the TIR says against what the shapes say, in every form of a kernel."""

from __future__ import annotations

import embbert_kernels
import pytest
from small import classifier, folder, normal

from embbert_tvm.codegen.macs import at, macs, polynomial
from embbert_tvm.codegen.program import Lowering, build_programs
from embbert_tvm.compiler import CompileOptions, compile_model, find_source
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import calls, run, simplify
from embbert_tvm.graph.quantize import keep_float
from embbert_tvm.kernels.attention import Attention, attention
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv, depthwise_conv
from embbert_tvm.kernels.epilogues import Activate, Requantize, RmsNorm
from embbert_tvm.kernels.isa import DSP, REFERENCE
from embbert_tvm.kernels.low_bits import FORMATS
from embbert_tvm.kernels.product import Product, ProductInput, product
from embbert_tvm.kernels.row_block.filter import filter_along_text
from embbert_tvm.target import load_cpu

L, D, TAPS = 24, 64, 8
WHERE = {"L": L, "M": L // 2}
INT4 = FORMATS["int4b32"]


@pytest.mark.parametrize(
    ("func", "expected"),
    [
        (product(Product((ProductInput(D),), 32, Requantize())), L * D * 32),
        (product(Product((ProductInput(D), ProductInput(D)), D, RmsNorm())), L * 2 * D * D),
        (product(Product((ProductInput(D),), 32, Requantize(), one_row=True)), D * 32),
        (attention(Attention(D)), 2 * L * L * D),
        (attention(Attention(D, one_row=True)), 2 * L * D),
        (depthwise_conv(DepthwiseConv(TAPS, D, Activate())), L * TAPS * D),
        (filter_along_text(TAPS, D, DSP), L * TAPS * D),
        (embbert_kernels.layer(D, DSP), L * D * (D + 2 * L + 2 * D)),
        (embbert_kernels.layer(D, REFERENCE), L * D * (D + 2 * L + 2 * D)),
        (embbert_kernels.embedding((40, 16), (L, 16), D, 2, DSP), L * 32 * D),
        (embbert_kernels.layer(D, DSP, INT4, INT4), L * D * (D + 2 * L + 2 * D)),
        (product(Product((ProductInput(D),), 32, Requantize(), weight_format=INT4)), L * D * 32),
    ],
    ids=lambda x: None if isinstance(x, int) else str(x.attrs["embbert.kernel"]),
)
def test_of_a_kernel(func, expected):
    assert macs(func, WHERE) == expected


def test_what_cannot_be_told():
    assert macs(product(Product((ProductInput(D),), 32, Requantize())), {}) is None


def test_a_polynomial_is_exact_or_there_is_none():
    found = polynomial(lambda n: 5 + 3 * n + 2 * n * n)
    assert found == (5, 3, 2)
    assert at(found, 10) == 235
    assert polynomial(lambda n: n**3) is None
    assert polynomial(lambda n: n * (n + 1) // 2) is None  # no whole coefficients
    assert polynomial(lambda n: None) is None


def test_of_a_float_graph():
    body = (
        "r = Gather (table, ids)\n h = MatMul (r, w)\n s = ReduceMean <keepdims=0> (h, axes)\n logits = MatMul (s, v)"
    )
    import numpy as np

    model = classifier(body, table=normal(40, 16), w=normal(16, 24), v=normal(24, 3), axes=np.array([1]))
    mod = run((calls(),), keep_float(simplify(import_onnx(model))).mod)
    steps = build_programs(mod, {}, Lowering("embbert", 40))(32).steps
    assert [sum(s.macs[i] for s in steps) for i in range(3)] == [24 * 3, 16 * 24, 0]


def test_every_cpu_does_the_same_work(tmp_path):
    """Blocked kernels, kernels of one row, and the float graph agree on the work of a whole model."""
    totals = []
    for cpu, precision in (("cortex-m7", "int8"), ("cortex-m3", "int8"), ("cortex-m3", "fp32")):
        compiled = compile_model(
            find_source(folder()), load_cpu(cpu), tmp_path / cpu, CompileOptions(precision=precision)
        )
        assert all(step.macs is not None for step in compiled.program.steps)
        totals.append([sum(step.macs[i] for step in compiled.program.steps) for i in range(3)])
    assert totals[0] == totals[1] == totals[2]
