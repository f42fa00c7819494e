"""Texts to labels with a package in some place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.data.tokenizer import load_tokenizer, tokenize
from embbert_tvm.device.package import Package
from embbert_tvm.device.places import open_place


@dataclass(frozen=True)
class Answer:
    """What a package says of one text. `label` and `scores` are None for regression, `value` for classes.

    `tokens` went in; `cut` is how many more the text has than max_length allows.
    """

    text: str
    label: str | None
    scores: dict[str, float] | None
    value: float | None
    tokens: int
    cut: int
    instructions: int | None
    cycles: int | None


def classify(package: Package, texts: Sequence[str], place: str) -> list[Answer]:
    """Tokenize here, run there; InputError for a text that is not valid UTF-8, before anything is run."""
    tokenizer = load_tokenizer(package.tokenizer, package.vocabulary)
    encoded = [tokenize(tokenizer, text, max_length=package.max_length) for text in texts]
    answers = []
    with open_place(place, package) as device:
        for text, tokens in zip(texts, encoded, strict=True):
            result = device.run(tokens.ids)
            label, scores, value = None, None, None
            if package.labels is None:
                value = float(result.logits[0])
            else:
                scores = dict(zip(package.labels, softmax(result.logits).tolist(), strict=True))
                label = package.labels[int(np.argmax(result.logits))]
            cut = tokens.full_length - len(tokens.ids)
            counts = result.instructions, result.cycles
            answers.append(Answer(text, label, scores, value, len(tokens.ids), cut, *counts))
    return answers


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (classes,) in float64 of logits (classes,)."""
    powers = np.exp(logits.astype(np.float64) - np.max(logits))
    return powers / powers.sum()
