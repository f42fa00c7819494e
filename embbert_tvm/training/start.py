"""The model that a training begins with: fresh, or a base with new heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from embbert_tvm.data.hashed_words import HashedWords, hashed_tokenizer
from embbert_tvm.data.tokenizer import SPECIAL_TOKENS, TextTokenizer, load_embbert_tokenizer, train_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.heads import FurtherHead
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import PRESETS, EmbBertConfig, ModelConfig, ids_per_token
from embbert_tvm.models.folder import ModelFolder, find_model, read_folder
from embbert_tvm.models.registry import build, load_classifier
from embbert_tvm.training.sets import JobSets
from embbert_tvm.training.tagging import slots_head

if TYPE_CHECKING:
    from embbert_tvm.training.job import Job


def start_model(job: Job, sets: JobSets) -> tuple[TextClassifier, TextTokenizer]:
    """The model to train, fresh or from a base, and its tokenizer."""
    torch.manual_seed(job.recipe.seed)
    labels, train = sets.labels, sets.train
    classes = 1 if labels is None else len(labels)
    if job.base is not None:
        if job.tokenizer is not None or job.preset is not None:
            raise InputError("a base model brings its own tokenizer and size: leave out --tokenizer and --preset")
        return _from_base(job, read_folder(find_model(job.base)), sets, classes)
    if (job.preset or "base") not in PRESETS:
        raise InputError(f"preset {job.preset!r} is not known: choose from {', '.join(PRESETS)}")
    config = PRESETS[job.preset or "base"]
    if job.tokenizer is not None:
        tokenizer = load_embbert_tokenizer(job.tokenizer)
    else:
        tokenizer = own_tokenizer(config, (text for x in train for text in (x.text, x.text_pair) if text))
    config = dataclasses.replace(
        config, vocabulary_size=tokenizer.get_vocab_size(), max_length=job.max_length or config.max_length
    )
    config = _pooled(job, config)
    return build(config, classes, job.recipe.dropout, _heads(job, sets, config)), tokenizer


def own_tokenizer(config: ModelConfig, texts: Iterable[str]) -> TextTokenizer:
    """The tokenizer of a new model: of hashed words where it has ids for such, else trained on texts."""
    each = ids_per_token(config)
    if each == 1:
        return train_tokenizer(texts, config.vocabulary_size)
    return hashed_tokenizer(HashedWords(config.vocabulary_size - len(SPECIAL_TOKENS), each // 2, each - each // 2))


def _pooled(job: Job, config: ModelConfig) -> ModelConfig:
    """The configuration with as many rows pooled as the job asks for. Raises InputError where that cannot be."""
    asked = {name: count for name in ("pool_tokens", "pool_keys") if (count := getattr(job, name)) is not None}
    if asked and not isinstance(config, EmbBertConfig):
        option = next(iter(asked)).replace("_", "-")
        raise InputError(f"--{option} is for an EmbBERT, this is {config.title}")
    return dataclasses.replace(config, **asked)


def _heads(job: Job, sets: JobSets, config: ModelConfig) -> tuple[FurtherHead, ...]:
    """What stands beside the label: the head of tags, then those of further sets. Raises InputError where words are
    hashed, whose rows are not those of the ids."""
    if sets.tags is not None and ids_per_token(config) > 1:
        raise InputError("a model that hashes words reads no tags: take another --preset or --base")
    return (*slots_head(sets.tags, config, job.tag_layer), *(one.head for one in sets.further))


def _from_base(job: Job, base: ModelFolder, sets: JobSets, classes: int) -> tuple[TextClassifier, TextTokenizer]:
    """The base model with a new head; the old one where the labels are the same."""
    max_length = job.max_length or base.config.max_length
    config = _pooled(job, dataclasses.replace(base.config, max_length=max_length))
    model = build(config, classes, job.recipe.dropout, _heads(job, sets, config))
    weights = load_classifier(base).state_dict()
    if "embedder.position.weight" in weights:
        weights["embedder.position.weight"] = _positions(weights["embedder.position.weight"], max_length)
    if base.labels != (sets.labels and tuple(sets.labels)):
        weights = {key: value for key, value in weights.items() if not key.startswith("head.")}
    if base.more != model.more:
        weights = {key: value for key, value in weights.items() if not key.startswith("heads.")}
    model.load_state_dict(weights, strict=False)
    return model, base.tokenizer


def _positions(table: torch.Tensor, count: int) -> torch.Tensor:
    """The first `count` rows of a table of positions (L, D), L > 1.

    Past its end come the rows behind that of [CLS] again, in turn, as in Longformer (arXiv 2004.05150).
    """
    rows = torch.arange(count)
    return table[torch.where(rows < len(table), rows, 1 + (rows - 1) % (len(table) - 1))]
