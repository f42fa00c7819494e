"""The graph of a model from a hub as training through the rounding computes it, from the parameters of PyTorch."""

import exports
import kinds
import numpy as np
import torch

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.graph.calibrate import calibrate, scale_of
from embbert_tvm.graph.door import normalize
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.precision import PLANS
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.training.graph_integers import Run, Weights
from embbert_tvm.training.quantized import network_of
from embbert_tvm.training.rounding import Fits


def test_a_bert_of_a_hub_is_the_same_from_its_parameters():
    model = kinds.model("bert")
    parameters = dict(model.state_dict(keep_vars=True))
    values = {name: value.detach().numpy() for name, value in parameters.items()}
    network = network_of(exports.exported("bert", "old_dynamic"), values, PLANS["int8"])
    output = network.graph.output
    for length in (3, 12):
        ids = torch.tensor([np.random.default_rng(length).integers(5, 60, length).tolist()])
        expected = model(ids, torch.ones_like(ids), torch.zeros_like(ids)).logits
        found = Run(network, Weights(parameters.__getitem__, Fits()), length, ids).dequantized(output)
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    rounded = Run(network, Weights(parameters.__getitem__, Fits()), length, ids, scales=lambda *_: 0.05).dequantized(
        output
    )
    rounded.square().sum().backward()
    learns = {name for name, value in parameters.items() if value.grad is not None and value.grad.abs().sum() > 0}
    left = set(parameters) - learns
    assert left <= {"bert.embeddings.token_type_ids", "bert.embeddings.position_ids"}, left
    model.zero_grad()


def test_a_mean_of_a_tables_rows_is_trained_as_it_runs():
    """In int16, in steps of twice what was seen: by the same logits as the compiled graph's."""
    given = exports.exported("fasttext_mean", "dynamo")
    mod = simplify(import_onnx(normalize(given).model))
    texts = [np.random.default_rng(n).integers(0, kinds.VOCABULARY, 1 + 3 * n).tolist() for n in range(20)]
    statistics = calibrate(mod, texts, "texts")
    compiled = quantize(mod, statistics)
    assert any("to_wide" in choice.kernel for choice in compiled.choices)
    values = {name: value.detach().numpy() for name, value in kinds.model("fasttext_mean").state_dict().items()}
    parameters = {name: torch.from_numpy(value) for name, value in values.items()}
    network, run = network_of(given, values, PLANS["int8"]), llvm_runner(compiled.mod)

    def scale(name: str, method: str, levels: int) -> float:
        return scale_of(statistics.tensors[name], method, levels)

    for text in texts:
        made = Run(network, Weights(parameters.__getitem__, Fits()), len(text), torch.tensor([text]), scale)
        found = made.dequantized(network.graph.output)
        np.testing.assert_allclose(found.numpy().reshape(-1), run(text).reshape(-1), atol=1e-3)
