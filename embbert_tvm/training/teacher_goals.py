"""What an encoder is fine-tuned to tell, so that it can teach it: the labels of texts, or the tags of their words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embbert_tvm.data import metrics
from embbert_tvm.data.dataset import Example
from embbert_tvm.data.slots import entity_f1
from embbert_tvm.training.batches import UNLABELLED
from embbert_tvm.training.sets import JobSets
from embbert_tvm.training.tag_teacher import encode_words, tags_told, token_answers
from embbert_tvm.training.task_teacher import encode_texts, folder_answers


class Goal:
    """`names` of the outputs; `head`, the end of the AutoModelFor class that has them; `settings` of its configuration.

    `loss` is that of examples of `train`; `metric` dev's, and `truth` everything that both follow from.
    """

    train: Sequence[Example]
    names: tuple[str, ...]
    head: str
    settings: dict[str, Any]
    truth: list[Any]

    def loss(self, model: Any, tokenizer: Any, examples: Sequence[Example], longest: int) -> Tensor:
        raise NotImplementedError

    def metric(self, model: Any, tokenizer: Any, longest: int) -> float:
        raise NotImplementedError


class LabelGoal(Goal):
    """The labels of texts, or for regression their numbers: cross-entropy and MCC, or squared error and Spearman's
    correlation."""

    head = "SequenceClassification"

    def __init__(self, sets: JobSets) -> None:
        self.train = sets.train
        self.names = ("score",) if sets.labels is None else tuple(sets.labels)
        kind = "regression" if sets.labels is None else "single_label_classification"
        self.settings = {"problem_type": kind}
        self._dev, self._index = sets.dev, {name: i for i, name in enumerate(self.names)}
        self._of_numbers = sets.labels is None
        self.truth = [[x.label, x.text, x.text_pair] for part in (sets.train, sets.dev) for x in part]

    def loss(self, model: Any, tokenizer: Any, examples: Sequence[Example], longest: int) -> Tensor:
        texts = encode_texts(tokenizer, examples, longest)
        logits = model(**texts.to(model.device)).logits
        targets = torch.tensor(self._numbers(examples), device=model.device)
        return F.mse_loss(logits[:, 0], targets) if self._of_numbers else F.cross_entropy(logits, targets)

    def metric(self, model: Any, tokenizer: Any, longest: int) -> float:
        found = folder_answers(model, tokenizer, self._dev, longest)[:, : len(self.names)]
        expected = np.array(self._numbers(self._dev))
        if self._of_numbers:
            return metrics.spearman(expected, found[:, 0])
        return metrics.mcc(expected, found.argmax(1))

    def _numbers(self, examples: Sequence[Example]) -> list[float] | list[int]:
        if self._of_numbers:
            return [float(x.label) for x in examples]
        return [self._index[x.label] for x in examples]


class TagGoal(Goal):
    """The tags of words, told at the first token of each: cross-entropy, and the F1 of entities."""

    head = "TokenClassification"

    def __init__(self, sets: JobSets) -> None:
        self.train, self.names = sets.train, sets.tags or ()
        self.settings = {}
        self._dev = sets.dev
        self.truth = [[x.text, x.tags] for part in (sets.train, sets.dev) for x in part]

    def loss(self, model: Any, tokenizer: Any, examples: Sequence[Example], longest: int) -> Tensor:
        texts, words = encode_words(tokenizer, examples, longest)
        targets = torch.full(texts["input_ids"].shape, UNLABELLED)
        for row, example, first in zip(targets, examples, words, strict=True):
            for token, tag in zip(first, example.tags or (), strict=True):
                if token is not None:
                    row[token] = self.names.index(tag)
        logits = model(**texts.to(model.device)).logits
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten().to(model.device), ignore_index=UNLABELLED)

    def metric(self, model: Any, tokenizer: Any, longest: int) -> float:
        answers = token_answers(model, tokenizer, self._dev, longest)
        return entity_f1([x.tags or () for x in self._dev], tags_told(answers, self._dev, self.names))


def goals_of(sets: JobSets) -> dict[str, Goal]:
    """What a teacher can be taught of these sets, by what its folder's name ends in."""
    found: dict[str, Goal] = {"": LabelGoal(sets)}
    return found | {"-tags": TagGoal(sets)} if sets.tags is not None else found
