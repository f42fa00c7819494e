"""From a configuration to the PyTorch model of its architecture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from embbert_tvm.errors import InputError
from embbert_tvm.heads import FurtherHead
from embbert_tvm.models.bert import Bert
from embbert_tvm.models.bert_ea import BertEa
from embbert_tvm.models.classifier import TextClassifier, load_weights
from embbert_tvm.models.config import ModelConfig
from embbert_tvm.models.embbert import EmbBert
from embbert_tvm.models.embedder import EmbedderClassifier
from embbert_tvm.models.folder import ModelFolder, read_folder
from embbert_tvm.models.mamba import Mamba

MODELS: dict[str, type[TextClassifier]] = {
    "embbert": EmbBert,
    "embbert-sum": EmbBert,
    "bert": Bert,
    "bert-ea": BertEa,
    "mamba": Mamba,
    "embedder": EmbedderClassifier,
}


def build(config: ModelConfig, classes: int, dropout: float = 0.1, more: Sequence[FurtherHead] = ()) -> TextClassifier:
    """A new model of `config` with a head of `classes` outputs, and more. `dropout` is of the attention weights."""
    model = MODELS[config.architecture](config, classes, dropout)
    if more:
        model.add_heads(more)
    return model


def load_classifier(folder: ModelFolder | Path) -> TextClassifier:
    """The model of a folder, in evaluation mode; InputError for a malformed checkpoint or another's."""
    if not isinstance(folder, ModelFolder):
        folder = read_folder(folder)
    tensors = load_weights(folder.weights)
    with torch.device("meta"):  # a config.json of absurd sizes costs no memory
        model = build(folder.config, folder.classes, more=folder.more)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    for key in sorted(set(expected) | set(tensors)):
        if key not in tensors:
            raise InputError(f"{folder.weights}: has no tensor {key}")
        if key not in expected:
            raise InputError(f"{folder.weights}: holds {key}, which the model does not have")
        found = tuple(tensors[key].shape)
        if found != expected[key]:
            raise InputError(f"{folder.weights}: {key} has shape {found}, config.json asks for {expected[key]}")
    model.load_state_dict(tensors, assign=True)
    return model.eval()
