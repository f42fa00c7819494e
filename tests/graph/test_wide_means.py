"""The mean of a table's rows: int16 where a linear map alone reads it, int8 where other kernels do."""

from __future__ import annotations

import numpy as np
import pytest
from small import classifier, normal, some_ids
from test_quantize import EMBED, compared, kernels

from embbert_tvm.compiler import llvm_runner

WEIGHTS = {"emb__weight": normal(40, 16, scale=0.5), "head__weight": normal(16, 3)}
MEAN = "\naxis = Constant<value_ints=[1]>()\np = ReduceMean<keepdims=0>(x, axis)\n"


def test_the_mean_of_a_tables_rows_is_int16():
    """As fastText has it: that of many rows is a fraction of one, and a few steps of the int8 that holds both."""
    model = classifier(EMBED + MEAN + "logits = MatMul(p, head__weight)", **WEIGHTS)
    quantized, _ = compared(model)
    names = [name for name in kernels(quantized) if name.startswith(("pool", "product_row"))]
    assert names == ["pool_mean_to_wide_16 int8", "product_row_dequantize_wide16x3 int8"]
    run, ids = llvm_runner(quantized.mod), [some_ids(256, seed=n) for n in range(20)]
    table, head = WEIGHTS["emb__weight"], WEIGHTS["head__weight"]
    expected = np.array([table[one].mean(0) @ head for one in ids])
    found = np.array([run(one).reshape(-1) for one in ids])
    assert np.abs(found - expected).max() < 0.015 * np.abs(expected).max()  # 0.029 by an int8 row


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("q = Relu(p)\nlogits = MatMul(q, head__weight)", id="no linear map reads it"),
        pytest.param("m = ReduceMax<keepdims=0>(x, axis)\na = MatMul(p, head__weight)\nb = MatMul(m, head__weight)\n"
                     "logits = Add(a, b)", id="beside an int8 row in one product"),
    ],
)  # fmt: skip
def test_a_mean_that_other_kernels_read_is_int8(body):
    quantized, _ = compared(classifier(EMBED + MEAN + body, **WEIGHTS))
    assert "pool_mean_16 int8" in kernels(quantized)
