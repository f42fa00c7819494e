"""The kinds of small text models that people publish, made from configurations with fixed seeds, tiny."""

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

VOCABULARY, WIDTH, POSITIONS = 120, 16, 64
CLS, SEP, PAD = 2, 3, 0
LABELS = ("lights", "music", "weather", "alarm")

_IDS = {"pad_token_id": PAD, "bos_token_id": CLS, "eos_token_id": SEP, "cls_token_id": CLS, "sep_token_id": SEP}


def _config(name: str, **changes: object) -> hf.PretrainedConfig:
    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 2 * WIDTH,
        "max_position_embeddings": POSITIONS,
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: n for n, label in enumerate(LABELS)},
        "pad_token_id": PAD,
    }
    return getattr(hf, f"{name}Config")(**{**common, **changes})


def _bert(**changes: object) -> nn.Module:
    return hf.BertForSequenceClassification(_config("Bert", **changes))


class SentenceEmbedding(nn.Module):
    """A BERT whose states are averaged under the mask and brought to length 1, as sentence-transformers does."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = hf.BertModel(_config("Bert"), add_pooling_layer=False)

    def forward(self, input_ids, attention_mask, token_type_ids):
        states = self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(mean, p=2, dim=1)


class TextCnn(nn.Module):
    """Convolutions of 3, 4 and 5 tokens, the largest of each filter."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH, padding_idx=PAD)
        self.convs = nn.ModuleList(nn.Conv1d(WIDTH, 8, k) for k in (3, 4, 5))
        self.fc = nn.Linear(24, len(LABELS))

    def forward(self, input_ids):
        x = self.embedding(input_ids).transpose(1, 2)
        return self.fc(torch.cat([torch.relu(conv(x)).amax(2) for conv in self.convs], 1))


class Recurrent(nn.Module):
    """An LSTM in both directions, averaged, or a GRU's last state."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        both = kind == "LSTM"
        self.embedding = nn.Embedding(VOCABULARY, WIDTH, padding_idx=PAD)
        self.rnn = getattr(nn, kind)(WIDTH, WIDTH, batch_first=True, bidirectional=both)
        self.fc = nn.Linear(2 * WIDTH if both else WIDTH, len(LABELS))
        self.both = both

    def forward(self, input_ids):
        states, _ = self.rnn(self.embedding(input_ids))
        return self.fc(states.mean(1) if self.both else states[:, -1])


class FastText(nn.Module):
    """The mean of the tokens' vectors, by nn.EmbeddingBag or by nn.Embedding."""

    def __init__(self, bag: bool) -> None:
        super().__init__()
        self.bag = bag
        self.embedding = nn.EmbeddingBag(VOCABULARY, WIDTH, mode="mean") if bag else nn.Embedding(VOCABULARY, WIDTH)
        self.fc = nn.Linear(WIDTH, len(LABELS))

    def forward(self, input_ids):
        x = self.embedding(input_ids)
        return self.fc(x if self.bag else x.mean(1))


def _mobilebert() -> nn.Module:
    sizes = {"embedding_size": WIDTH, "hidden_size": 32, "intra_bottleneck_size": WIDTH, "num_feedforward_networks": 2}
    return hf.MobileBertForSequenceClassification(_config("MobileBert", **sizes, intermediate_size=32))


def _deberta() -> nn.Module:
    relative = {
        "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0,
        "max_relative_positions": -1, "position_biased_input": False, "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    }  # fmt: skip
    return hf.DebertaV2ForSequenceClassification(_config("DebertaV2", **relative))


def _modernbert() -> nn.Module:
    local = {"num_hidden_layers": 3, "global_attn_every_n_layers": 3, "local_attention": 8}
    return hf.ModernBertForSequenceClassification(_config("ModernBert", **local, **_IDS))


@dataclass(frozen=True)
class Kind:
    """A model to be made, its inputs in order, and what its output is."""

    make: Callable[[], nn.Module]
    inputs: tuple[str, ...] = ("input_ids", "attention_mask", "token_type_ids")
    head: str = "labels"
    least: int = 1  # tokens


_TWO, _ONE = ("input_ids", "attention_mask"), ("input_ids",)
_DISTIL = {"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
_FACTORED = {"embedding_size": 8}

KINDS: dict[str, Kind] = {
    "bert": Kind(_bert),
    "distilbert": Kind(
        lambda: hf.DistilBertForSequenceClassification(
            hf.DistilBertConfig(**_DISTIL, vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, num_labels=4)
        ),
        _TWO,
    ),
    "electra": Kind(lambda: hf.ElectraForSequenceClassification(_config("Electra", **_FACTORED))),
    "albert": Kind(lambda: hf.AlbertForSequenceClassification(_config("Albert", **_FACTORED))),
    "roberta": Kind(
        lambda: hf.RobertaForSequenceClassification(_config("Roberta", max_position_embeddings=POSITIONS + 1)), _TWO
    ),
    "mobilebert": Kind(_mobilebert),
    "mpnet": Kind(
        lambda: hf.MPNetForSequenceClassification(_config("MPNet", max_position_embeddings=POSITIONS + 1)), _TWO
    ),
    "deberta_v2": Kind(_deberta, _TWO),
    "modernbert": Kind(_modernbert, _TWO),
    "textcnn": Kind(TextCnn, _ONE, least=5),
    "bilstm": Kind(lambda: Recurrent("LSTM"), _ONE),
    "gru": Kind(lambda: Recurrent("GRU"), _ONE),
    "fasttext_bag": Kind(lambda: FastText(True), _ONE),
    "fasttext_mean": Kind(lambda: FastText(False), _ONE),
    "tokens": Kind(lambda: hf.BertForTokenClassification(_config("Bert")), head="tokens"),
    "many_labels": Kind(lambda: _bert(problem_type="multi_label_classification"), head="many labels"),
    "regression": Kind(
        lambda: hf.BertForSequenceClassification(_config("Bert", id2label={0: "score"}, label2id={"score": 0})),
        head="regression",
    ),
    "pair": Kind(lambda: _bert(hidden_act="gelu_new")),
    "embedding": Kind(SentenceEmbedding, head="embedding"),
}


@cache
def model(name: str) -> nn.Module:
    """The model of a kind with weights large enough that its labels differ from text to text."""
    torch.manual_seed(len(name))
    made = KINDS[name].make().eval()
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
