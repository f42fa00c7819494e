"""Logits of TVM's LLVM build, kept between runs: the same bits, and of another module, text or cache others."""

from __future__ import annotations

import numpy as np
import pytest
import small
from tvm import IRModule

from embbert_tvm import cache
from embbert_tvm.graph import llvm_run
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.llvm_run import ReferenceRunner, llvm_runner
from embbert_tvm.graph.pipeline import simplify

BODY = "e = Gather(emb__weight, ids)\nrows = Constant<value_ints=[1]>()\nm = ReduceMean<keepdims=0>(e, rows)\n"
BODY += "logits = MatMul(m, head__weight)"
TEXTS = [small.some_ids(n) for n in (1, 4, 9)]


def module(seed: int = 0) -> IRModule:
    weights = {"emb__weight": small.normal(small.VOCABULARY, 8), "head__weight": small.normal(8, 3, seed=seed)}
    return simplify(import_onnx(small.classifier(BODY, **weights)))


@pytest.fixture
def built(tmp_path, monkeypatch) -> list[IRModule]:
    """The modules that are built, with a cache of their own."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    found: list[IRModule] = []
    build = llvm_run.llvm_machine
    monkeypatch.setattr(llvm_run, "llvm_machine", lambda mod, target: found.append(mod) or build(mod, target))
    return found


def test_the_bits_are_those_of_a_run_and_a_module_is_built_once(built):
    run = llvm_runner(module())
    expected = [run(ids).tobytes() for ids in TEXTS]
    built.clear()
    runner = ReferenceRunner(module(), optimized=False)
    for texts, bits in ((TEXTS, expected), (TEXTS[:1], expected[:1]), ([], [])):
        assert [logits.tobytes() for logits in runner(texts)] == bits
    assert len(built) == 1
    again = ReferenceRunner(module(), optimized=False)(TEXTS)
    assert [logits.tobytes() for logits in again] == expected
    assert all(logits.dtype == np.float32 and logits.flags.writeable for logits in again)
    assert len(built) == 1


@pytest.mark.parametrize(
    ("seed", "optimized", "texts"), [(1, False, TEXTS), (0, True, TEXTS), (0, False, [*TEXTS[:2], [1, 2, 3]])]
)
def test_what_differs_is_computed(seed, optimized, texts, built):
    ReferenceRunner(module(), optimized=False)(TEXTS)
    built.clear()
    found = ReferenceRunner(module(seed), optimized)(texts)
    assert len(built) == 1
    run = llvm_runner(module(seed), optimized)
    assert [logits.tobytes() for logits in found] == [run(ids).tobytes() for ids in texts]


def test_without_a_cache_each_is_computed(built, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, "")
    for _ in range(2):
        ReferenceRunner(module(), optimized=False)(TEXTS)
    assert len(built) == 2
