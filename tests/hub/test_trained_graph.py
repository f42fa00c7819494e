"""The graph of a model from a hub as training through the rounding computes it, from the parameters of PyTorch."""

import exports
import kinds
import numpy as np
import torch

from embbert_tvm.graph.precision import PLANS
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
