"""Rows beside those around them, as MobileBERT reads its embeddings: one product through a window, in integers."""

import numpy as np
import pytest
import small

from embbert_tvm.graph.attributes import account_of
from embbert_tvm.graph.calibrate import calibrate
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.llvm_run import llvm_runner
from embbert_tvm.graph.pipeline import quantized, run, simplify
from embbert_tvm.graph.precision import PLANS

K, N = 12, 16
TEXTS = [small.some_ids(n, seed=n) for n in (2, 3, 8, 14, 20)]


def shifted(name: str, by: int, value: float = 0.0) -> str:
    """ONNX text of `name`, whose row i is row i + by of x, or `value` where there is none."""
    start, end = (by, 2**31 - 1) if by > 0 else (0, by)
    before, after = (0, by) if by > 0 else (-by, 0)
    return (
        f"{name}_start = Constant<value_ints=[{start}]>()\n{name}_end = Constant<value_ints=[{end}]>()\n"
        f"{name}_axis = Constant<value_ints=[1]>()\n{name}_cut = Slice(x, {name}_start, {name}_end, {name}_axis)\n"
        f"{name}_pads = Constant<value_ints=[0, {before}, 0, 0, {after}, 0]>()\n"
        f"{name}_value = Constant<value_float={value}>()\n{name} = Pad({name}_cut, {name}_pads, {name}_value)\n"
    )


def model(parts: str, texts: str):
    width = K * len(parts.split(","))
    return small.classifier(
        f"x = Gather(emb__weight, ids)\n{texts}c = Concat<axis=2>({parts})\nh = MatMul(c, in__weight)\ng = Relu(h)\n"
        "pool = Constant<value_ints=[1]>()\nrow = ReduceMax<keepdims=0>(g, pool)\n"
        "logits = Gemm(row, fc__weight, fc__bias)",
        emb__weight=small.normal(small.VOCABULARY, K),
        in__weight=small.normal(width, N, scale=0.2),
        fc__weight=small.normal(N, 4, scale=0.2),
        fc__bias=small.normal(4),
    )


def compiled(given):
    """The float module and the quantized one."""
    mod = simplify(import_onnx(given))
    return mod, run((quantized(PLANS["int8"], calibrate(mod, TEXTS, "x")),), mod)


CASES = {
    "ahead, here, behind": ("ahead, x, behind", shifted("ahead", 1) + shifted("behind", -1)),
    "behind, here": ("behind, x", shifted("behind", -1)),
    "two ahead": ("far, x, ahead", shifted("far", 2) + shifted("ahead", 1)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_they_are_one_product_through_a_window(case):
    mod, made = compiled(model(*case))
    choices = account_of(made).choices
    assert {c.precision for c in choices} == {"int8"}, choices
    exact, found = llvm_runner(mod), llvm_runner(made)
    for ids in TEXTS:
        assert np.abs(found(ids) - exact(ids)).max() < 0.05 * np.abs(exact(ids)).max() + 0.02


OTHERS = {
    "other rows than zeros": ("ahead, x", shifted("ahead", 1, value=1.0)),
    "a row left out": ("far, x", shifted("far", 2)),
    "twice the same": ("ahead, x, again", shifted("ahead", 1) + shifted("again", 1)),
}


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_what_is_no_window_gives_the_same_without_one(case):
    mod, made = compiled(model(*case))
    exact, found = llvm_runner(mod), llvm_runner(made)
    assert any(c.kernel.startswith("pad") for c in account_of(made).choices)
    for ids in TEXTS:
        assert np.abs(found(ids) - exact(ids)).max() < 0.05 * np.abs(exact(ids)).max() + 0.02
