"""From a configuration to the PyTorch model of its architecture."""

from __future__ import annotations

from embbert_tvm.models.bert import Bert
from embbert_tvm.models.bert_ea import BertEa
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import ModelConfig
from embbert_tvm.models.embbert import EmbBert
from embbert_tvm.models.embedder import EmbedderClassifier
from embbert_tvm.models.mamba import Mamba

MODELS: dict[str, type[TextClassifier]] = {
    "embbert": EmbBert,
    "embbert-sum": EmbBert,
    "bert": Bert,
    "bert-ea": BertEa,
    "mamba": Mamba,
    "embedder": EmbedderClassifier,
}


def build(config: ModelConfig, classes: int, dropout: float = 0.1) -> TextClassifier:
    """A new model of `config` with a head of `classes` outputs. `dropout` is of the attention weights."""
    return MODELS[config.architecture](config, classes, dropout)
