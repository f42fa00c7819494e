"""Texts to intents that are given by example, with a package whose outputs are a text's vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from embbert_tvm.data.dataset import Example
from embbert_tvm.device.classify import Answer, classify
from embbert_tvm.device.examples import Examples
from embbert_tvm.device.package import Package
from embbert_tvm.errors import InputError
from embbert_tvm.heads import VECTOR

THRESHOLD = 0.5  # the cosine from which on a text means what an example says


def classify_by_example(
    package: Package,
    examples: Sequence[Example],
    texts: Sequence[str],
    place: str,
    timeout: float | None = None,
    threshold: float = THRESHOLD,
) -> list[Answer]:
    """The name of the nearest examples of each text, `none` where their cosine is below the threshold.

    scores has the nearest name with its cosine. Raises InputError for a package that gives no vectors.
    """
    if package.head != VECTOR:
        raise InputError(f"{package.path}: its outputs are {package.head!r}: examples need a model of vectors")
    store = Examples(package.classes)
    said = classify(package, [*(x.text for x in examples), *texts], place, timeout)
    for example, answer in zip(examples, said, strict=False):
        store.add(example.label, _vector(answer))
    return [_answered(answer, store, threshold) for answer in said[len(examples) :]]


def _answered(answer: Answer, store: Examples, threshold: float) -> Answer:
    nearest, cosine = store.nearest(_vector(answer))
    none = nearest is None or cosine < threshold
    scores = {} if nearest is None else {nearest: cosine}
    return replace(answer, label=None if none else nearest, scores=scores, none=none)


def _vector(answer: Answer) -> np.ndarray:
    assert answer.vector is not None
    return np.array(answer.vector, np.float32)
