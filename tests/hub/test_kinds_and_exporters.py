"""Every kind of small text model, by every exporter: what is compiled answers as the file does.

Each kind is tried by the exporter that asks most of the door, the other exporters on the kinds that they differ by;
`benchmarks/hub.py` prints all kinds by all exporters.
"""

from __future__ import annotations

from collections.abc import Callable

import exports
import kinds
import numpy as np
import onnx
import onnxruntime
import pytest
from small import operators

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.graph.door import normalize
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify

LENGTHS = (1, 2, 3, 6, 14, 40, 63)
# What a token, a row of a batch, a mask or a shape was needed for: nothing of it may be left.
NEVER = {"where", "broadcast_to", "shape_of", "isnan", "full", "logical_and", "arange"}
# What divides a vector by its length; positions that follow from the tokens, as RoBERTa counts those of no padding.
KEPT = {"embedding": {"broadcast_to"}, "roberta": NEVER}
# One way each to make masks, positions and loops.
OTHERS = [
    ("bert", "dynamo"), ("roberta", "dynamo"), ("fasttext_bag", "dynamo"), ("bert", "optimum"), ("mpnet", "optimum"),
    ("deberta_v2", "old_batch1"), ("gru", "old_batch1"), ("electra", exports.FOLDER), ("embedding", exports.FOLDER),
]  # fmt: skip
CASES = [*((kind, "old_dynamic") for kind in kinds.KINDS), *OTHERS]
MOST = {"bert": kinds.POSITIONS, "roberta": kinds.POSITIONS, "modernbert": None}


def runner(model: onnx.ModelProto) -> Callable[[np.ndarray], np.ndarray]:
    """A function from ids (1, L) to the output; other inputs are a mask of ones and types of zero."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    inputs = [i.name for i in session.get_inputs()]

    def run(ids: np.ndarray) -> np.ndarray:
        values = (ids, np.ones_like(ids), np.zeros_like(ids))
        return session.run(None, dict(zip(inputs, values, strict=False)))[0]

    return run


@pytest.mark.parametrize(("kind", "exporter"), CASES)
def test_it_compiles_and_answers_as_the_file_does(kind, exporter):
    """By TVM's LLVM build of what is then printed as C."""
    of = kinds.KINDS[kind]
    given = exports.made_by(exporter, kind)
    door = normalize(given)
    assert [i.name for i in door.model.graph.input] == ["ids"]
    assert [o.name for o in door.model.graph.output] == ["logits"]
    assert (door.head == "tokens") == (of.head == "tokens")
    assert door.least == of.least
    assert door.most == MOST.get(kind, door.most)
    mod = simplify(import_onnx(door.model))
    left = {name for name, count in operators(mod).items() if count} - KEPT.get(kind, set())
    assert not NEVER & left
    answer, expect = llvm_runner(mod, optimized=False), runner(given)
    for length in (n for n in LENGTHS if of.least <= n <= (door.most or n)):
        ids = np.random.default_rng(length).integers(0, kinds.VOCABULARY, (1, length))
        expected, got = expect(ids).reshape(-1), answer(ids[0].tolist())
        assert np.abs(got - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
        assert got.argmax() == expected.argmax()


def test_a_folder_holds_what_a_library_saves():
    with pytest.raises(ValueError, match="a module of one's own"):
        exports.of_folder("textcnn")
