"""A float model's figures on a labelled set, from its ONNX in onnxruntime: no torch."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from embbert_tvm.data.dataset import Example, read_examples, task_name
from embbert_tvm.data.tokenizer import tokenize
from embbert_tvm.errors import InputError
from embbert_tvm.graph.onnx_export import fresh_onnx
from embbert_tvm.models.folder import ModelFolder
from embbert_tvm.models.reference import Reference
from embbert_tvm.training.metrics import CLASSIFICATION, REGRESSION

Runner = Callable[[list[int]], np.ndarray]  # token ids to logits (classes,)
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """`value` of `metric` over `examples` of a set, `truncated` of which were cut to the model's length."""

    task: str
    metric: str
    value: float
    examples: int
    seed: int
    truncated: int


def evaluate(
    folder: ModelFolder,
    data: Path,
    metric: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    on_step: OnStep = lambda done, total: None,
) -> Evaluation:
    """Run the model over a TSV, or over `limit` examples of it that `seed` draws.

    `metric` is accuracy unless said otherwise, spearman for regression. Raises InputError.
    """
    known = REGRESSION if folder.labels is None else CLASSIFICATION
    metric = metric or next(iter(known))
    check_metric(folder, metric)
    examples = read_examples(data, folder.labels, regression=folder.labels is None)
    if limit is not None and limit < len(examples):
        examples = random.Random(seed).sample(examples, max(1, limit))
    texts = Texts.of(folder, examples)
    logits = run_all(float_runner(folder), texts.ids, on_step=on_step)
    return Evaluation(task_name(data), metric, texts.score(metric, logits), len(examples), seed, texts.truncated)


def check_metric(folder: ModelFolder, metric: str) -> None:
    """InputError where a metric does not fit the model's labels."""
    known = REGRESSION if folder.labels is None else CLASSIFICATION
    if metric not in known:
        raise InputError(f"metric {metric!r} does not fit {folder.name}: choose from {', '.join(known)}")
    if metric == "f1_positive" and folder.classes != 2:
        raise InputError(f"metric 'f1_positive' needs two labels, {folder.name} has {folder.classes}: choose f1")


@dataclass(frozen=True)
class Texts:
    """A labelled set as a model reads it: ids, and class numbers or numbers (N,)."""

    ids: list[list[int]]
    expected: np.ndarray
    truncated: int
    regression: bool

    @classmethod
    def of(cls, folder: ModelFolder, examples: Sequence[Example]) -> Texts:
        """Examples whose labels are the model's."""
        encoded = [tokenize(folder.tokenizer, x.text, x.text_pair, folder.config.max_length) for x in examples]
        if folder.labels is None:
            expected = np.array([float(x.label) for x in examples])
        else:
            index_of = {label: i for i, label in enumerate(folder.labels)}
            expected = np.array([index_of[x.label] for x in examples])
        return cls([x.ids for x in encoded], expected, sum(x.truncated for x in encoded), folder.labels is None)

    def score(self, metric: str, logits: np.ndarray) -> float:
        """A metric of logits (N, classes)."""
        if self.regression:
            return REGRESSION[metric](self.expected, logits[:, 0])
        return CLASSIFICATION[metric](self.expected, logits.argmax(1))


def float_runner(folder: ModelFolder) -> Callable[[], AbstractContextManager[Runner]]:
    """What `run_all` opens to run the float model in onnxruntime."""
    path = fresh_onnx(folder)
    return lambda: nullcontext(Reference(path))


def run_all(
    open_runner: Callable[[], AbstractContextManager[Runner]],
    ids: Sequence[list[int]],
    processes: int = 1,
    on_step: OnStep = lambda done, total: None,
) -> np.ndarray:
    """Logits (N, classes) of token ids, `processes` runners sharing them; `on_step(done, all)` counts texts."""
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
                    on_step(done, len(ids))

    with ThreadPoolExecutor(processes) as pool:
        for worker in [pool.submit(work) for _ in range(processes)]:
            worker.result()
    return np.stack(logits)
