"""Texts to labels with a package in some place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from embbert_tvm.data.tokenizer import Encoded, load_tokenizer, tokenize
from embbert_tvm.device.device import Device
from embbert_tvm.device.package import Package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError


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


def classify(package: Package, texts: Sequence[str], place: str, timeout: float | None = None) -> list[Answer]:
    """What a package says of each text.

    timeout: seconds a text, None for what the place needs.
    InputError for a text that is not valid UTF-8 or has no tokens, before anything is run.
    """
    tokenizer = load_tokenizer(package.tokenizer, package.vocabulary)
    encoded = [_encoded(tokenizer, text, package) for text in texts]
    with open_place(place, package, timeout) as device:
        return [_answer(device, text, tokens) for text, tokens in zip(texts, encoded, strict=True)]


def answer(device: Device, tokenizer: Tokenizer, text: str) -> Answer:
    """What a device's package, of which `tokenizer` is the tokenizer, says of a text."""
    return _answer(device, text, _encoded(tokenizer, text, device.package))


def _encoded(tokenizer: Tokenizer, text: str, package: Package) -> Encoded:
    tokens = tokenize(tokenizer, text, max_length=package.max_length)
    if not tokens.ids:
        raise InputError(f"the text {text!r} has no tokens for this model: give it words")
    return tokens


def _answer(device: Device, text: str, tokens: Encoded) -> Answer:
    """The text goes to the device as it is where that has a tokenizer and room for it, else as token ids made here."""
    package = device.package
    if device.takes(text):
        found = device.classify(text)
        result, index, count = found.run, found.label, found.tokens
    elif package.reads_text:
        raise InputError(too_long(device, text))
    else:
        result = device.run(tokens.ids)
        index, count = int(np.argmax(result.logits)), len(tokens.ids)
    label, scores, value = None, None, None
    if package.answers is None:
        value = float(result.logits[0])
    else:
        shares = sigmoid(result.logits) if package.many_labels else softmax(result.logits)
        scores = dict(zip(package.answers, shares.tolist(), strict=True))
        label = package.answers[index]
    counts = result.instructions, result.cycles
    return Answer(text, label, scores, value, count, tokens.full_length - count, *counts)


def too_long(device: Device, *texts: str) -> str:
    """What is wrong with a text that a device has no room for, where its model needs the text."""
    size = sum(len(text.encode()) for text in texts)
    return (
        f"a text of {size:,} bytes, which {device.place} has no room for: its model reads the text, not token ids "
        "alone; build its firmware with -DSERVER_TEXT_BYTES=N"
    )


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities (classes,) in float64, each of its own, of logits (classes,)."""
    shares: np.ndarray = 0.5 * (1 + np.tanh(logits.astype(np.float64) / 2))
    return shares


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (classes,) in float64 of logits (classes,)."""
    powers: np.ndarray = np.exp(logits.astype(np.float64) - np.max(logits))
    shares: np.ndarray = powers / powers.sum()
    return shares
