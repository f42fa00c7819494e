"""Comparing a compiled package with its float model, and its bits on one place with those of another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from embbert_tvm.data.classes import ClassFigures, Confusion, class_figures, confusions
from embbert_tvm.data.dataset import Example, unknown_labels
from embbert_tvm.data.metrics import accuracy, mean_cosine, micro_f1, spearman
from embbert_tvm.data.predictions import Prediction, predictions_of
from embbert_tvm.data.slots import TagFigures, tag_figures, word_tags, words_of
from embbert_tvm.data.tokenizer import load_tokenizer, tokenize
from embbert_tvm.device.classify import too_long
from embbert_tvm.device.device import Device, RunResult
from embbert_tvm.device.package import Package, load_text_vectors, load_vectors
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.heads import MANY_LABELS, ONE_LABEL, REGRESSION, TOKENS, VECTOR
from embbert_tvm.models.reference import TextReference
from embbert_tvm.progress import over

# By how much of the logits' largest magnitude two places may differ: all in float32, and with some kernels in
# floating point before a rounding to integers or in fp16. Packages of integers only must give the same bits.
FP32_TOLERANCE, FLOATING_TOLERANCE = 1e-4, 2e-2


Metric: TypeAlias = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Comparison:
    """Runs whose logits were compared with another place's; `passed` allows a float package its tolerance."""

    checked: int
    equal: int  # bit for bit
    passed: int
    first_failure: str | None  # says which run differed first, and by how much


@dataclass(frozen=True)
class Validation:
    """Figures of one labelled set; `accuracy_*` hold `metric`: accuracy; f1_micro for many labels, spearman for
    regression, all None for labels of tokens and vectors, of which a set of texts says nothing.

    `agreement` is the share of examples, or of labels or tokens, to which both give the same; for regression their rank
    correlation, for vectors the mean of their cosines. `stack` is what the firmware used at the deepest, in bytes, None
    where not known.
    """

    examples: int
    accuracy_float: float | None
    accuracy_compiled: float | None
    agreement: float
    metric: str | None
    on: str
    stack: int | None
    comparison: Comparison
    tokenized: Tokenized
    truncated: int  # examples of more tokens than the package takes, which were cut
    # Of one label or value a text: what the package says of each example; of labels those that it lacks, whose examples
    # are wrong, by label how many, and its figures class by class.
    predictions: list[Prediction] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)
    classes: list[ClassFigures] = field(default_factory=list)
    confused: list[Confusion] = field(default_factory=list)
    # Of words' tags, where the package and the set have such.
    tagging_float: TagFigures | None = None
    tagging_compiled: TagFigures | None = None


@dataclass(frozen=True)
class Tokenized:
    """Texts that the device tokenized itself, and how many of them to the ids of the `tokenizers` library."""

    checked: int
    equal: int
    first_failure: str | None


def validate(
    package: Package,
    examples: Sequence[Example],
    place: str,
    timeout: float | None = None,
) -> Validation:
    """Run the float model and the package in `place` on every example.

    Bits are compared for the vectors of reference.json, from TVM's LLVM build of the same kernels, and, where
    `place` is not the host, for every example with the package's C on the host. Where the place has the tokenizer too,
    its ids are compared with the library's.
    """
    tokenizer = load_tokenizer(package.tokenizer, package.vocabulary)
    reference, compared = TextReference(package.reference_model, package.linear), Comparer(package)
    float_logits, compiled_logits = [], []
    checked, cut, wrong = 0, 0, []
    with ExitStack() as stack:
        device = stack.enter_context(open_place(place, package, timeout))
        host = None if place == "host" else stack.enter_context(open_place("host", package))
        deepest = _compare_reference(device, compared)
        for number, example in enumerate(over(examples, f"validating on {place}", "texts"), 1):
            encoded = tokenize(tokenizer, example.text, example.text_pair, package.max_length)
            ids, cut = encoded.ids, cut + (encoded.truncated and not package.streams)
            float_logits.append(reference(package.filled(ids), example.text, example.text_pair))
            _check_finite(float_logits[-1], "the float model", number)
            if device.takes(example.text, example.text_pair):
                checked += 1
                if device.tokenize(example.text, example.text_pair) != ids:
                    wrong.append(f"example {number}")
            run = _run(device, example, ids)
            deepest = run.stack
            compiled_logits.append(run.logits)
            _check_finite(run.logits, "the package", number)
            if host is not None:
                compared.add(run.logits, _run(host, example, ids).logits, f"example {number}")
    float_parts, compiled_parts = ([package.split(x) for x in all_] for all_ in (float_logits, compiled_logits))
    compiled_logits = [parts[0] for parts in compiled_parts]
    scoring = scoring_of(package.head, package.answers)
    expected = None if scoring.metric is None else scoring.expected([example.label for example in examples])
    float_answers, compiled_answers = (
        scoring.predict([parts[0] for parts in float_parts]),
        scoring.predict(compiled_logits),
    )
    found = Validation(
        examples=len(examples),
        accuracy_float=None if expected is None else scoring.score(expected, float_answers),
        accuracy_compiled=None if expected is None else scoring.score(expected, compiled_answers),
        agreement=scoring.agree(float_answers, compiled_answers),
        metric=scoring.metric,
        on=device.place,
        stack=deepest,
        comparison=compared.result(),
        tokenized=Tokenized(checked, checked - len(wrong), wrong[0] if wrong else None),
        truncated=cut,
    )
    right = [answers == expected for answers in (float_answers, compiled_answers)]
    found = _with_tags(found, package, examples, (float_parts, compiled_parts), right)
    return _with_answers(found, package, examples, compiled_logits, expected, compiled_answers)


def _compare_reference(device: Device, compared: Comparer) -> int | None:
    """Run everything of reference.json; the deepest stack."""
    deepest = None
    for number, vector in enumerate(load_vectors(device.package), 1):
        run = device.run(vector.ids)
        deepest = run.stack
        compared.add(run.logits, vector.logits, f"vector {number} of reference.json")
    for number, text in enumerate(load_text_vectors(device.package), 1):
        if device.takes(text.text, text.text_pair):
            run = device.classify(text.text, text.text_pair).run
            compared.add(run.logits, text.logits, f"text {number} of reference.json")
    return deepest


def _with_tags(
    found: Validation,
    package: Package,
    examples: Sequence[Example],
    parts: Sequence[Sequence[Sequence[np.ndarray]]],
    right: Sequence[np.ndarray],
) -> Validation:
    """What the float model and the package make of words' tags, where they and the set have such.

    parts: of each of the two and each example the logits of every head. right: of each of the two, which labels are.
    """
    number, head = next(((n, head) for n, head in enumerate(package.more, 1) if head.of_tokens), (0, None))
    if head is None or any(x.tags is None for x in examples):
        return found
    tokenizer = load_tokenizer(package.tokenizer, package.vocabulary)
    words = [words_of(x.text, tokenize(tokenizer, x.text, max_length=package.max_length)) for x in examples]
    figures = []
    for answers, labels in zip(parts, right, strict=True):
        tags = [word_tags(y[number], w, head.labels, str(head.rule)) for y, w in zip(answers, words, strict=True)]
        figures.append(tag_figures(labels, [x.tags or () for x in examples], tags))
    return replace(found, tagging_float=figures[0], tagging_compiled=figures[1])


def _with_answers(
    found: Validation,
    package: Package,
    examples: Sequence[Example],
    logits: Sequence[np.ndarray],
    expected: np.ndarray | None,
    answers: np.ndarray,
) -> Validation:
    """What the package says of each example and class, where it gives one label or value a text."""
    if package.head not in (ONE_LABEL, REGRESSION):
        return found
    found = replace(found, predictions=predictions_of(examples, np.array(logits), package.answers))
    if package.answers is None or expected is None:
        return found
    return replace(
        found,
        unknown=unknown_labels(examples, package.answers),
        classes=class_figures(expected, answers, package.answers),
        confused=confusions(expected, answers, package.answers),
    )


def predict(package: Package, examples: Sequence[Example], place: str = "host") -> list[Prediction]:
    """What a package of one label or value a text says of examples in some place."""
    logits = [package.split(one)[0] for one in logits_of(package, examples, place)]
    return predictions_of(examples, np.array(logits), package.answers)


def logits_of(package: Package, examples: Sequence[Example], place: str = "host") -> list[np.ndarray]:
    """The flat logits of all heads that a package gives examples in some place."""
    tokenizer = load_tokenizer(package.tokenizer, package.vocabulary)
    with open_place(place, package) as device:
        found = []
        for x in over(examples, f"running on {place}", "texts"):
            ids = tokenize(tokenizer, x.text, x.text_pair, package.max_length).ids
            found.append(_run(device, x, ids).logits)
    return found


def _run(device: Device, example: Example, ids: Sequence[int]) -> RunResult:
    """The logits of an example: of its text where that adds to them, else of its token ids."""
    if not device.package.reads_text:
        return device.run(ids)
    if not device.takes(example.text, example.text_pair):
        raise InputError(too_long(device, example.text, example.text_pair or ""))
    return device.classify(example.text, example.text_pair).run


def _check_finite(logits: np.ndarray, whose: str, number: int) -> None:
    """WorkError for logits that nothing can be compared with."""
    if not np.isfinite(logits).all():
        words = ", ".join(f"{value:g}" for value in logits.reshape(-1)[:4].tolist())
        raise WorkError(f"example {number}: {whose} gives {words}: logits that are not finite say nothing")


@dataclass(frozen=True)
class Scoring:
    """How answers of a head are made of logits and compared.

    predict: from the logits of every text to answers. expected: from the labels of a set to answers. score: of answers
    against what is expected, named by `metric`, None where a labelled set says nothing. agree: of two models' answers.
    """

    metric: str | None
    predict: Callable[[Sequence[np.ndarray]], np.ndarray]
    expected: Callable[[Sequence[str]], np.ndarray]
    score: Metric
    agree: Metric


def scoring_of(head: str, names: Sequence[str] | None) -> Scoring:
    """How to score a head whose classes have these names."""
    names = list(names or ())
    if head == REGRESSION:
        return Scoring("spearman", lambda x: np.array(x)[:, 0], lambda x: np.array(x, float), spearman, spearman)
    if head == VECTOR:
        return Scoring(None, lambda x: np.array(x, float), np.array, mean_cosine, mean_cosine)
    if head == TOKENS:
        return Scoring(None, lambda x: np.concatenate([one.argmax(1) for one in x]), np.array, accuracy, accuracy)
    if head == MANY_LABELS:
        return Scoring("f1_micro", lambda x: np.array(x) > 0, lambda x: _sets(x, names), micro_f1, accuracy)
    numbers = {name: number for number, name in enumerate(names)}
    return Scoring(
        "accuracy",
        lambda logits: np.array(logits).argmax(1),
        lambda labels: np.array([numbers.get(label, len(numbers)) for label in labels]),
        accuracy,
        accuracy,
    )


def _sets(labels: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Labels that are joined by commas as (texts, classes)."""
    return np.array([[name in label.split(",") for name in names] for label in labels])


class Comparer:
    """Counts runs whose logits were compared, bit for bit, with a float package's tolerance."""

    def __init__(self, package: Package) -> None:
        self._tolerance = 0.0
        if package.floating:
            self._tolerance = FP32_TOLERANCE if package.precision == "fp32" else FLOATING_TOLERANCE
        self._checked = self._equal = self._passed = 0
        self._first: str | None = None

    def add(self, found: np.ndarray, expected: np.ndarray, name: str) -> None:
        self._checked += 1
        if np.array_equal(found.view(np.uint32), expected.view(np.uint32)):
            self._equal += 1
            self._passed += 1
            return
        worst = float(np.max(np.abs(found.astype(np.float64) - expected)))
        if worst <= self._tolerance * max(1.0, float(np.max(np.abs(expected)))):
            self._passed += 1
        elif self._first is None:
            self._first = f"{name} differs by {worst:.3g}"

    def result(self) -> Comparison:
        return Comparison(self._checked, self._equal, self._passed, self._first)
