"""A token classifier that a model learns words' tags from: any transformers folder, or a model folder of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from embbert_tvm.data.dataset import Example
from embbert_tvm.data.slots import first_tokens, word_tags, words_of
from embbert_tvm.data.tokenizer import tokenize
from embbert_tvm.errors import InputError
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.training.batches import TokenizedSet, in_order
from embbert_tvm.training.optimization import one_thread
from embbert_tvm.training.recipe import TeacherRecipe
from embbert_tvm.training.task_teacher import TransformersTeacher, architectures_of, encode_texts

_BATCH = 64


class TagTeacher(Protocol):
    """A token classifier of `tags`.

    `answers` are (words of all texts, tags) float32: the logits at the first token of each white-space word, in the
    order of the tags; NaN of a word that was cut off.
    """

    tags: tuple[str, ...]

    def answers(self, examples: Sequence[Example]) -> np.ndarray: ...

    def fingerprint(self) -> str: ...


def is_token_classifier(folder: Path) -> bool:
    """Whether a transformers folder holds a classifier of tokens, which tells nothing of a text."""
    return any(name.endswith("ForTokenClassification") for name in architectures_of(folder))


def open_tag_teacher(folder: Path, longest: int = TeacherRecipe.longest) -> TagTeacher | None:
    """The teacher of tags in a folder; None where what it holds knows no tags. Raises InputError."""
    if is_token_classifier(folder):
        return _TransformersTagger(folder, longest)
    if architectures_of(folder) or not any(head.of_tokens for head in read_folder(folder).more):
        return None
    return _FolderTagger(folder)


def split_by_text(answers: np.ndarray, examples: Sequence[Example]) -> list[np.ndarray]:
    """Rows of all words as those (words, tags) of each text."""
    ends = np.cumsum([len(x.text.split()) for x in examples])
    return np.split(answers, ends[:-1])


def tags_told(answers: np.ndarray, examples: Sequence[Example], tags: Sequence[str]) -> list[list[str]]:
    """The valid tags of each text's words by a teacher's answers; O of a word that was cut off."""
    rows = split_by_text(answers, examples)
    known = (~np.isnan(row).any(1) for row in rows)
    return [
        word_tags(row, [n if here else None for n, here in enumerate(found)], tags)
        for row, found in zip(rows, known, strict=True)
    ]


def encode_words(tokenizer: Any, examples: Sequence[Example], longest: int) -> tuple[Any, list[list[int | None]]]:
    """Texts as a padded batch of a transformers model, and the first token of each white-space word.

    Raises InputError for a tokenizer that does not tell where its tokens lie.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"{tokenizer.name_or_path}: its tokenizer does not tell where its tokens lie: no tokenizer.json"
        )
    texts = encode_texts(tokenizer, examples, longest, return_offsets_mapping=True)
    places = texts.pop("offset_mapping").tolist()
    return texts, [
        first_tokens(x.text, [(begin, end) if begin < end else None for begin, end in found])
        for x, found in zip(examples, places, strict=True)
    ]


def token_answers(model: Any, tokenizer: Any, examples: Sequence[Example], longest: int) -> np.ndarray:
    """A transformers token classifier's answers, as `TagTeacher` has them."""
    model.eval()
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].text))
    found: list[np.ndarray] = [np.zeros(0)] * len(examples)
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            texts, words = encode_words(tokenizer, [examples[i] for i in rows], longest)
            logits = model(**texts.to(model.device)).logits.float().cpu()
            for row, scores, first in zip(rows, logits, words, strict=True):
                found[row] = _at(scores, first)
    return np.concatenate(found)


def _at(scores: Tensor, words: Sequence[int | None]) -> np.ndarray:
    """The rows (words, tags) of scores (tokens, tags) at the first token of each word."""
    rows = np.full((len(words), scores.shape[1]), np.nan, np.float32)
    for row, token in zip(rows, words, strict=True):
        if token is not None:
            row[:] = scores[token].numpy()
    return rows


class _TransformersTagger(TransformersTeacher):
    def __init__(self, folder: Path, longest: int) -> None:
        super().__init__(folder, longest, "TokenClassification", "a token classifier")
        self.tags = self.names

    def answers(self, examples: Sequence[Example]) -> np.ndarray:
        return token_answers(self.model, self.tokenizer, examples, self.longest)


class _FolderTagger:
    def __init__(self, folder: Path) -> None:
        one_thread()
        self._folder = read_folder(folder)
        self._model = load_classifier(self._folder)
        self._head = next(n for n, head in enumerate(self._folder.more, 1) if head.of_tokens)
        self.tags = self._folder.more[self._head - 1].labels

    def answers(self, examples: Sequence[Example]) -> np.ndarray:
        tokenizer, longest = self._folder.tokenizer, self._folder.config.max_length
        encoded = [tokenize(tokenizer, x.text, None, longest) for x in examples]
        found: list[np.ndarray] = [np.zeros(0)] * len(examples)
        with torch.no_grad():
            for batch in in_order(TokenizedSet([x.ids for x in encoded], [0] * len(encoded), 0), _BATCH):
                scores = self._model.answers(self._model.read_by_heads(batch.ids, batch.mask))[self._head]
                for row, rows in zip(batch.rows, scores, strict=True):
                    found[row] = _at(rows, words_of(examples[row].text, encoded[row]))
        return np.concatenate(found)

    def fingerprint(self) -> str:
        return self._folder.weights_sha256() + " tags"  # its labels are told by the same weights
