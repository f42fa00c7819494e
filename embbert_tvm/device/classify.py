"""Texts to labels with a package in some place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from embbert_tvm.data.metrics import softmax
from embbert_tvm.data.slots import spans_in_bytes, word_tags, words_of
from embbert_tvm.data.tokenizer import Encoded, TextTokenizer, load_tokenizer, tokenize
from embbert_tvm.device.device import Device
from embbert_tvm.device.package import Package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.heads import MANY_LABELS, ONE_LABEL, TOKENS, VECTOR, VITERBI
from embbert_tvm.progress import over
from embbert_tvm.rejection import Rejection


@dataclass(frozen=True)
class TokenAnswer:
    """What a package says of a token. begin, end: bytes of the text in UTF-8, None for what stands around it."""

    token: str
    label: str
    score: float
    begin: int | None
    end: int | None


@dataclass(frozen=True)
class SlotAnswer:
    """What fills a slot: bytes begin to end - 1 of the text in UTF-8, and their words."""

    slot: str
    text: str
    begin: int
    end: int


@dataclass(frozen=True)
class HeadAnswer:
    """What a further head of the text says."""

    label: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Answer:
    """What a package says of one text; what does not go with its head is None.

    `tokens` went in; `cut` is how many more the text has than max_length allows. labels: those of a model of many
    whose scores are above a half; label is the highest of all.
    """

    text: str
    label: str | None
    scores: dict[str, float] | None
    value: float | None
    tokens: int
    cut: int
    instructions: int | None
    cycles: int | None
    labels: tuple[str, ...] | None = None
    vector: tuple[float, ...] | None = None
    token_labels: tuple[TokenAnswer, ...] | None = None
    slots: tuple[SlotAnswer, ...] | None = None  # of a model whose words have tags
    heads: dict[str, HeadAnswer] | None = None  # of each further head that is of the text, by its name
    none: bool = False  # a text of none of the labels; label is None then, the scores tell what is nearest


def classify(package: Package, texts: Sequence[str], place: str, timeout: float | None = None) -> list[Answer]:
    """What a package says of each text.

    timeout: seconds a text, None for what the place needs.
    InputError for a text that is not valid UTF-8 or has no tokens, before anything is run.
    """
    tokenizer = load_tokenizer(package.tokenizer, package.vocabulary)
    encoded = [_encoded(tokenizer, text, package) for text in texts]
    with open_place(place, package, timeout) as device:
        pairs = over(list(zip(texts, encoded, strict=True)), f"running on {place}", "texts")
        return [_answer(device, text, tokens) for text, tokens in pairs]


def answer(device: Device, tokenizer: TextTokenizer, text: str) -> Answer:
    """What a device's package, of which `tokenizer` is the tokenizer, says of a text."""
    return _answer(device, text, _encoded(tokenizer, text, device.package))


def _encoded(tokenizer: TextTokenizer, text: str, package: Package) -> Encoded:
    tokens = tokenize(tokenizer, text, max_length=package.max_length)
    if not tokens.ids:
        raise InputError(f"the text {text!r} has no tokens for this model: give it words")
    return tokens


def _answer(device: Device, text: str, tokens: Encoded) -> Answer:
    """The text goes to the device as it is where that has a tokenizer and room for it, else as token ids made here."""
    package = device.package
    if package.more:
        return _of_many_heads(device, text, tokens)
    said: int | None = None
    if device.takes(text):
        found = device.classify(text)
        result, count, said = found.run, found.tokens, found.label
    elif package.reads_text:
        raise InputError(too_long(device, text))
    else:
        result, count = device.run(tokens.ids), len(tokens.ids)
    logits, names = result.logits, package.answers
    counts = result.instructions, result.cycles
    answer = Answer(text, None, None, None, count, tokens.full_length - count, *counts)
    if package.head == TOKENS:
        return replace(answer, token_labels=_token_answers(text, tokens, logits[:count], names or ()))
    if package.head == VECTOR:
        return replace(answer, vector=tuple(logits.tolist()))
    if names is None:
        return replace(answer, value=float(logits[0]))
    return _labelled(answer, package, logits, said)


def _labelled(answer: Answer, package: Package, logits: np.ndarray, said: int | None) -> Answer:
    """said: the label by the device, None where it was given ids."""
    names = package.answers or ()
    if package.rejection is not None:
        return _or_none(answer, package.rejection, logits, names, said)
    many = package.head == MANY_LABELS
    shares = (sigmoid(logits) if many else softmax(logits)).tolist()
    labels = tuple(name for name, share in zip(names, shares, strict=True) if share > 0.5) if many else None
    scores = dict(zip(names, shares, strict=True))
    return replace(answer, label=names[int(np.argmax(logits))], scores=scores, labels=labels)


def _of_many_heads(device: Device, text: str, tokens: Encoded) -> Answer:
    """An answer of a package with further heads. Slots are found on the device where that takes the text and no other
    head is asked."""
    package = device.package
    tagger = next((head for head in package.more if head.of_tokens), None)
    asked = [head for head in package.more if head.head == ONE_LABEL]
    if tagger is not None and not asked and device.takes(text) and device.can_tag:
        found = device.tag(text)
        result, count, said = found.text.run, found.text.tokens, found.text.label
        parts = [result.logits]
        spans = [(begin, end, tagger.slots[kind]) for begin, end, kind in found.slots]
    elif package.reads_text and not device.takes(text):
        raise InputError(too_long(device, text))
    else:
        if device.takes(text):
            whole = device.classify(text)
            result, count, said = whole.run, whole.tokens, whole.label
        else:
            result, count, said = device.run(tokens.ids), len(tokens.ids), None
        parts, spans = package.split(result.logits), []
        if tagger is not None:
            scores = parts[1 + package.more.index(tagger)]
            spans = spans_in_bytes(
                text, word_tags(scores, words_of(text, tokens), tagger.labels, tagger.rule or VITERBI)
            )
    counts = result.instructions, result.cycles
    answer = Answer(text, None, None, None, count, tokens.full_length - count, *counts)
    if said is None and package.rejection is not None:
        said = int(package.rejection.labels(package.rejection.values(parts, package.more)[None])[0])
    answer = _labelled(answer, package, parts[0], said)
    raw = text.encode()
    slots = tuple(SlotAnswer(slot, raw[begin:end].decode(), begin, end) for begin, end, slot in spans)
    others = {
        head.name: _head_answer(part, head.labels)
        for head, part in zip(package.more, parts[1:], strict=False)
        if head in asked
    }
    return replace(answer, slots=slots if tagger is not None else None, heads=others or None)


def _head_answer(logits: np.ndarray, labels: Sequence[str]) -> HeadAnswer:
    return HeadAnswer(labels[int(np.argmax(logits))], dict(zip(labels, softmax(logits).tolist(), strict=True)))


def _or_none(
    answer: Answer, rejection: Rejection, logits: np.ndarray, names: Sequence[str], said: int | None
) -> Answer:
    """said: the label by the device, None where it was given ids."""
    shares = softmax(logits, rejection.temperature).tolist()
    label = int(rejection.labels(logits[None])[0]) if said is None else said
    scores = dict(zip(names, shares, strict=True))
    return replace(answer, label=names[label] if label < len(names) else None, scores=scores, none=label >= len(names))


def _token_answers(text: str, tokens: Encoded, logits: np.ndarray, names: Sequence[str]) -> tuple[TokenAnswer, ...]:
    """logits: (tokens, classes)."""
    if len(tokens.ids) != len(logits):
        raise WorkError(f"the device makes {len(logits)} tokens of {text!r}, the library {len(tokens.ids)}")
    at = np.cumsum([0, *(len(character.encode()) for character in text)]).tolist()
    found = []
    for token, (part, begin, end), own in zip(tokens.tokens, tokens.places, logits, strict=True):
        shares = softmax(own)
        best = int(np.argmax(own))
        span = (None, None) if part is None else (at[begin], at[end])
        found.append(TokenAnswer(token, names[best], float(shares[best]), *span))
    return tuple(found)


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
