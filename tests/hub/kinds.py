"""The kinds of small text models that people publish, made from configurations with fixed seeds, tiny by default."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import transformers as hf
from torch import nn

CLS, SEP, PAD = 2, 3, 0
LABELS = ("lights", "music", "weather", "alarm")


@dataclass(frozen=True)
class Size:
    """How large a model is made: tokens, width of its states, positions, and its labels."""

    vocabulary: int = 120
    width: int = 16
    positions: int = 64
    labels: tuple[str, ...] = LABELS


TINY = Size()
VOCABULARY, WIDTH, POSITIONS = TINY.vocabulary, TINY.width, TINY.positions

hf.utils.logging.disable_progress_bar()

_IDS = {"pad_token_id": PAD, "bos_token_id": CLS, "eos_token_id": SEP, "cls_token_id": CLS, "sep_token_id": SEP}


def _config(name: str, size: Size, **changes: object) -> hf.PretrainedConfig:
    common = {
        "vocab_size": size.vocabulary,
        "hidden_size": size.width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 2 * size.width,
        "max_position_embeddings": size.positions,
        "id2label": dict(enumerate(size.labels)),
        "label2id": {label: n for n, label in enumerate(size.labels)},
        "pad_token_id": PAD,
    }
    return getattr(hf, f"{name}Config")(**{**common, **changes})


def _bert(size: Size, **changes: object) -> nn.Module:
    return hf.BertForSequenceClassification(_config("Bert", size, **changes))


class SentenceEmbedding(nn.Module):
    """A BERT whose states are averaged under the mask and brought to length 1, as sentence-transformers does."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.bert = hf.BertModel(_config("Bert", size), add_pooling_layer=False)

    def forward(self, input_ids, attention_mask, token_type_ids):
        states = self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(mean, p=2, dim=1)


class TextCnn(nn.Module):
    """Convolutions of 3, 4 and 5 tokens, the largest of each filter."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size.vocabulary, size.width, padding_idx=PAD)
        self.convs = nn.ModuleList(nn.Conv1d(size.width, size.width // 2, k) for k in (3, 4, 5))
        self.fc = nn.Linear(size.width // 2 * 3, len(size.labels))

    def forward(self, input_ids):
        x = self.embedding(input_ids).transpose(1, 2)
        return self.fc(torch.cat([torch.relu(conv(x)).amax(2) for conv in self.convs], 1))


class Recurrent(nn.Module):
    """An LSTM in both directions, averaged, or a GRU's last state."""

    def __init__(self, kind: str, size: Size) -> None:
        super().__init__()
        both, width = kind == "LSTM", size.width
        self.embedding = nn.Embedding(size.vocabulary, width, padding_idx=PAD)
        self.rnn = getattr(nn, kind)(width, width, batch_first=True, bidirectional=both)
        self.fc = nn.Linear(2 * width if both else width, len(size.labels))
        self.both = both

    def forward(self, input_ids):
        states, _ = self.rnn(self.embedding(input_ids))
        return self.fc(states.mean(1) if self.both else states[:, -1])


class FastText(nn.Module):
    """The mean of the tokens' vectors, by nn.EmbeddingBag or by nn.Embedding."""

    def __init__(self, bag: bool, size: Size) -> None:
        super().__init__()
        self.bag, table = bag, (size.vocabulary, size.width)
        self.embedding = nn.EmbeddingBag(*table, mode="mean") if bag else nn.Embedding(*table)
        self.fc = nn.Linear(size.width, len(size.labels))

    def forward(self, input_ids):
        x = self.embedding(input_ids)
        return self.fc(x if self.bag else x.mean(1))


def _distilbert(size: Size) -> nn.Module:
    sizes = {"dim": size.width, "n_layers": 2, "n_heads": 2, "hidden_dim": 2 * size.width}
    common = {"vocab_size": size.vocabulary, "max_position_embeddings": size.positions}
    config = hf.DistilBertConfig(**sizes, **common, num_labels=len(size.labels))
    return hf.DistilBertForSequenceClassification(config)


def _mobilebert(size: Size) -> nn.Module:
    width = size.width
    sizes = {"embedding_size": width, "hidden_size": 2 * width, "intra_bottleneck_size": width}
    config = _config("MobileBert", size, **sizes, num_feedforward_networks=2, intermediate_size=2 * width)
    return hf.MobileBertForSequenceClassification(config)


def _deberta(size: Size) -> nn.Module:
    relative = {
        "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0,
        "max_relative_positions": -1, "position_biased_input": False, "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    }  # fmt: skip
    return hf.DebertaV2ForSequenceClassification(_config("DebertaV2", size, **relative))


def _modernbert(size: Size) -> nn.Module:
    local = {"num_hidden_layers": 3, "global_attn_every_n_layers": 3, "local_attention": 8}
    return hf.ModernBertForSequenceClassification(_config("ModernBert", size, **local, **_IDS))


def _one_value(size: Size) -> nn.Module:
    return hf.BertForSequenceClassification(_config("Bert", size, id2label={0: "score"}, label2id={"score": 0}))


def _with_more_positions(name: str) -> Callable[[Size], nn.Module]:
    """Positions of such models begin behind the padding's."""

    def make(size: Size) -> nn.Module:
        config = _config(name, size, max_position_embeddings=size.positions + 1)
        return getattr(hf, f"{name}ForSequenceClassification")(config)

    return make


def _factored(name: str) -> Callable[[Size], nn.Module]:
    """Models whose table is narrower than their states."""

    def make(size: Size) -> nn.Module:
        config = _config(name, size, embedding_size=size.width // 2)
        return getattr(hf, f"{name}ForSequenceClassification")(config)

    return make


@dataclass(frozen=True)
class Kind:
    """A model to be made, its inputs in order, and what its output is."""

    make: Callable[[Size], nn.Module]
    inputs: tuple[str, ...] = ("input_ids", "attention_mask", "token_type_ids")
    head: str = "one label"
    least: int = 1  # tokens


_TWO, _ONE = ("input_ids", "attention_mask"), ("input_ids",)

KINDS: dict[str, Kind] = {
    "bert": Kind(_bert),
    "distilbert": Kind(_distilbert, _TWO),
    "electra": Kind(_factored("Electra")),
    "albert": Kind(_factored("Albert")),
    "roberta": Kind(_with_more_positions("Roberta"), _TWO),
    "mobilebert": Kind(_mobilebert),
    "mpnet": Kind(_with_more_positions("MPNet"), _TWO),
    "deberta_v2": Kind(_deberta, _TWO),
    "modernbert": Kind(_modernbert, _TWO),
    "textcnn": Kind(TextCnn, _ONE, least=5),
    "bilstm": Kind(lambda size: Recurrent("LSTM", size), _ONE),
    "gru": Kind(lambda size: Recurrent("GRU", size), _ONE),
    "fasttext_bag": Kind(lambda size: FastText(True, size), _ONE),
    "fasttext_mean": Kind(lambda size: FastText(False, size), _ONE),
    "tokens": Kind(lambda size: hf.BertForTokenClassification(_config("Bert", size)), head="tokens"),
    "many_labels": Kind(lambda size: _bert(size, problem_type="multi_label_classification"), head="many labels"),
    "regression": Kind(_one_value, head="regression"),
    "pair": Kind(lambda size: _bert(size, hidden_act="gelu_new")),
    "embedding": Kind(SentenceEmbedding, head="vector"),
}


def model(name: str, size: Size = TINY) -> nn.Module:
    """The model of a kind with weights large enough that its labels differ from text to text; the same each time."""
    return _model(name, size)


@cache
def _model(name: str, size: Size) -> nn.Module:
    torch.manual_seed(len(name))
    made = KINDS[name].make(size).eval()
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if parameter.ndim > 1:
                # As long as what it multiplies: the signal neither dies nor saturates, however narrow the model.
                parameter.normal_(0, 0.7 if "embed" in key else 1.4 / parameter.shape[-1] ** 0.5)
            elif key.endswith("bias"):
                parameter.normal_(0, 0.2)
            else:
                parameter.uniform_(0.7, 1.3)
    return made
