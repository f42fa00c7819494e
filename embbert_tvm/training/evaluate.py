"""A float model's figures on a labelled set, from its ONNX in onnxruntime: no torch."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embbert_tvm.data.dataset import read_examples, task_name
from embbert_tvm.data.tokenizer import tokenize
from embbert_tvm.errors import InputError
from embbert_tvm.graph.onnx_export import fresh_onnx
from embbert_tvm.models.folder import ModelFolder
from embbert_tvm.models.reference import Reference
from embbert_tvm.training.metrics import CLASSIFICATION, REGRESSION


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
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Run the model over a TSV, or over `limit` examples of it that `seed` draws.

    `metric` is accuracy unless said otherwise, spearman for regression. Raises InputError.
    """
    known = REGRESSION if folder.labels is None else CLASSIFICATION
    metric = metric or next(iter(known))
    if metric not in known:
        raise InputError(f"metric {metric!r} does not fit {folder.name}: choose from {', '.join(known)}")
    examples = read_examples(data, folder.labels, regression=folder.labels is None)
    if limit is not None and limit < len(examples):
        examples = random.Random(seed).sample(examples, max(1, limit))
    reference = Reference(fresh_onnx(folder))
    truncated, outputs = 0, []
    for index, example in enumerate(examples):
        encoded = tokenize(folder.tokenizer, example.text, example.text_pair, folder.config.max_length)
        truncated += encoded.truncated
        outputs.append(reference(encoded.ids))
        on_step(index + 1, len(examples))
    logits = np.stack(outputs)
    if folder.labels is None:
        expected, predicted = np.array([float(x.label) for x in examples]), logits[:, 0]
    else:
        index_of = {label: i for i, label in enumerate(folder.labels)}
        expected, predicted = np.array([index_of[x.label] for x in examples]), logits.argmax(1)
    value = known[metric](expected, predicted)
    return Evaluation(task_name(data), metric, value, len(examples), seed, truncated)
