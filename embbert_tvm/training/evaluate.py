"""A float model's figures on a labelled set, from its ONNX in onnxruntime: no torch."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

from embbert_tvm.data.classes import ClassFigures, Confusion, class_figures, confusions
from embbert_tvm.data.dataset import Example, check_labels, read_examples, task_name, unknown_labels
from embbert_tvm.data.leaks import TEXTS_READ, already_read, read_text_hashes
from embbert_tvm.data.metrics import CLASSIFICATION, REGRESSION, softmax
from embbert_tvm.data.predictions import Prediction, predictions_of
from embbert_tvm.data.slots import TagFigures, tag_figures, word_tags, words_of
from embbert_tvm.data.tokenizer import tokenize
from embbert_tvm.errors import InputError
from embbert_tvm.graph.onnx_export import fresh_onnx
from embbert_tvm.models.folder import ModelFolder, find_model, read_folder
from embbert_tvm.models.ngrams import NgramFolder, is_ngram_folder, read_ngram_folder
from embbert_tvm.models.reference import Reference
from embbert_tvm.progress import task
from embbert_tvm.training.confidence import Confidence, Outside, confidence, outside_of

Runner = Callable[[list[int]], np.ndarray]  # token ids to logits (classes,)


@dataclass(frozen=True)
class Evaluation:
    """`value` of `metric` over `examples` of a set, `truncated` of which were cut to the model's length.

    `unknown` counts, by label, the examples of labels that the model does not have: each is wrong. `seen` counts the
    texts that the model was trained on, None where its folder does not tell.
    """

    task: str
    metric: str
    value: float
    examples: int
    seed: int
    truncated: int
    seen: int | None = None
    unknown: dict[str, int] = field(default_factory=dict)
    classes: list[ClassFigures] = field(default_factory=list)
    confused: list[Confusion] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    confidence: Confidence | None = None  # of labels
    outside: Outside | None = None  # of texts that have none of the labels, where they are given
    tagging: TagFigures | None = None  # of words' tags, where the model and the set have such


def read_any_folder(path: Path) -> ModelFolder | NgramFolder:
    """A model folder of tokens or of hashed n-grams, or one that ships. Raises InputError for what is neither."""
    path = find_model(path)
    return read_ngram_folder(path) if is_ngram_folder(path) else read_folder(path)


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured.

    Args:
        metric: accuracy unless said otherwise, spearman for regression.
        limit: how many examples `seed` draws, None for all.
        others: a TSV of texts that have none of the labels.
    """

    metric: str | None = None
    limit: int | None = None
    seed: int = 0
    others: Path | None = None


DEFAULTS = EvaluationOptions()


def evaluate(
    folder: ModelFolder | NgramFolder,
    data: Path,
    options: EvaluationOptions = DEFAULTS,
) -> Evaluation:
    """Run the model over a TSV. Raises InputError."""
    limit, seed, others = options.limit, options.seed, options.others
    if others is not None and folder.labels is None:
        raise InputError(f"{folder.path}: a regression has no labels that the texts of {others} could have none of")
    known = REGRESSION if folder.labels is None else CLASSIFICATION
    metric = options.metric or next(iter(known))
    check_metric(folder, metric)
    examples = read_examples(data, regression=folder.labels is None)
    check_labels(str(data), examples, folder.labels)
    if limit is not None and limit < len(examples):
        examples = random.Random(seed).sample(examples, max(1, limit))
    texts = Texts.of(folder, examples)
    strangers = [] if others is None else read_examples(others)
    logits, outside = _logits(folder, texts), None
    rejection = folder.rejection if isinstance(folder, ModelFolder) else None
    if strangers:
        outside = outside_of(rejection, logits, _logits(folder, Texts.of(folder, strangers)))
    logits = logits[:, : rejection.classes if rejection is not None else None]
    names = 1 if folder.labels is None else len(folder.labels)
    if logits.shape[1] != names:
        raise InputError(f"{folder.path}: the model gives {logits.shape[1]} logits, but {names} labels are named")
    value = texts.score(metric, logits)
    found = Evaluation(task_name(data), metric, value, len(examples), seed, texts.truncated, _seen(folder, examples))
    found = dataclasses.replace(found, predictions=predictions_of(examples, logits, folder.labels))
    if folder.labels is None:
        return found
    predicted = logits.argmax(1)
    shares = softmax(logits, 1.0 if rejection is None else rejection.temperature)
    return dataclasses.replace(
        found,
        unknown=unknown_labels(examples, folder.labels),
        classes=class_figures(texts.expected, predicted, folder.labels),
        confused=confusions(texts.expected, predicted, folder.labels),
        confidence=confidence(shares, texts.expected),
        outside=outside,
        tagging=_tagging(folder, examples, predicted == texts.expected),
    )


def _tagging(folder: ModelFolder | NgramFolder, examples: Sequence[Example], right: np.ndarray) -> TagFigures | None:
    """right (N,): whether the label of each example is."""
    more = folder.more if isinstance(folder, ModelFolder) else ()
    number = next((n for n, head in enumerate(more, 1) if head.of_tokens), None)
    if number is None or not isinstance(folder, ModelFolder) or any(x.tags is None for x in examples):
        return None
    head, reference, found = more[number - 1], Reference(fresh_onnx(folder)), []
    for x in examples:
        tokens = tokenize(folder.tokenizer, x.text, max_length=folder.config.max_length)
        scores = reference.outputs(tokens.ids)[number]
        found.append(word_tags(scores, words_of(x.text, tokens), head.labels, str(head.rule)))
    return tag_figures(right, [x.tags or () for x in examples], found)


def _seen(folder: ModelFolder | NgramFolder, examples: Sequence[Example]) -> int | None:
    path = folder.path / TEXTS_READ
    return len(already_read(read_text_hashes(path), examples)) if path.is_file() else None


def _logits(folder: ModelFolder | NgramFolder, texts: Texts) -> np.ndarray:
    """What the float model says of the texts, their n-grams included."""
    logits = texts.linear
    if isinstance(folder, ModelFolder):
        logits = texts.together(run_all(float_runner(folder), texts.ids))
        if folder.rejection is not None:
            logits = folder.rejection.with_ngrams(logits, texts.linear)
    assert logits is not None
    return logits


def check_metric(folder: ModelFolder | NgramFolder, metric: str) -> None:
    """InputError where a metric does not fit the model's labels."""
    known = REGRESSION if folder.labels is None else CLASSIFICATION
    if metric not in known:
        raise InputError(f"metric {metric!r} does not fit {folder.name}: choose from {', '.join(known)}")
    if metric == "f1_positive" and folder.classes != 2:
        raise InputError(f"metric 'f1_positive' needs two labels, {folder.name} has {folder.classes}: choose f1")


@dataclass(frozen=True)
class Texts:
    """A labelled set as a model reads it: ids, and class numbers or numbers (N,).

    `linear` (N, classes) are the logits that the texts' n-grams give, None for a model that has none; of a model of
    n-grams alone there are no ids.
    """

    ids: list[list[int]]
    expected: np.ndarray
    truncated: int
    regression: bool
    linear: np.ndarray | None = None

    @classmethod
    def of(cls, folder: ModelFolder | NgramFolder, examples: Sequence[Example]) -> Texts:
        """Examples as ids and numbers; a label that is not the model's has the number after the last."""
        if isinstance(folder, NgramFolder):
            encoded, linear = [], folder.model
        else:
            encoded = [tokenize(folder.tokenizer, x.text, x.text_pair, folder.config.max_length) for x in examples]
            linear = folder.wide
        if folder.labels is None:
            expected = np.array([float(x.label) for x in examples])
        else:
            index_of = {label: i for i, label in enumerate(folder.labels)}
            expected = np.array([index_of.get(x.label, len(folder.labels)) for x in examples])
        cut = sum(x.truncated for x in encoded)
        more = linear and linear.logits([x.text for x in examples], [x.text_pair for x in examples])
        return cls([x.ids for x in encoded], expected, cut, folder.labels is None, more)

    def together(self, logits: np.ndarray) -> np.ndarray:
        """What the model says, of the logits that it gives for token ids: those of the texts' n-grams are added."""
        if self.linear is None:
            return logits
        found = logits.copy()
        found[:, : self.linear.shape[1]] += self.linear
        return found

    def score(self, metric: str, logits: np.ndarray) -> float:
        """A metric of logits (N, classes)."""
        if self.regression:
            return REGRESSION[metric](self.expected, logits[:, 0])
        return CLASSIFICATION[metric](self.expected, logits.argmax(1))


def float_runner(folder: ModelFolder) -> Callable[[], AbstractContextManager[Runner]]:
    """What `run_all` opens to run the float model in onnxruntime: it gives logits, and what tells none of these."""
    path, rejection = fresh_onnx(folder), folder.rejection
    if rejection is None or rejection.classes is None:
        return lambda: nullcontext(Reference(path))

    def with_vector() -> AbstractContextManager[Runner]:
        reference = Reference(path)
        return nullcontext(lambda ids: rejection.values(reference.outputs(ids), folder.more))

    return with_vector


def run_all(
    open_runner: Callable[[], AbstractContextManager[Runner]],
    ids: Sequence[list[int]],
    processes: int = 1,
    what: str = "running the model",
) -> np.ndarray:
    """Logits (N, classes) of token ids, `processes` runners sharing them. what: says of it what it does."""
    logits: list[np.ndarray | None] = [None] * len(ids)
    waiting = iter(range(len(ids)))
    lock = Lock()
    done = 0

    def work() -> None:
        nonlocal done
        with open_runner() as run:
            while True:
                with lock:
                    index = next(waiting, None)
                if index is None:
                    return
                logits[index] = run(ids[index])
                with lock:
                    done += 1
                    reach(done, len(ids))

    with task(what, "texts", len(ids)) as reach, ThreadPoolExecutor(processes) as pool:
        for worker in [pool.submit(work) for _ in range(processes)]:
            worker.result()
    return np.stack(logits)
