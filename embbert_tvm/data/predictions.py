"""What a model says of labelled examples, and the file of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embbert_tvm.data.dataset import Example
from embbert_tvm.data.files import write_atomically
from embbert_tvm.data.metrics import softmax


@dataclass(frozen=True)
class Prediction:
    """What the model says of an example: a label and its probability, or for regression a number."""

    example: Example
    predicted: str
    probability: float | None

    @property
    def right(self) -> bool:
        """Whether the label is the example's."""
        return self.predicted == self.example.label


def predictions_of(examples: Sequence[Example], logits: np.ndarray, labels: Sequence[str] | None) -> list[Prediction]:
    """The answers that logits (N, outputs) tell; labels: None for regression."""
    if labels is None:
        return [Prediction(x, f"{z:g}", None) for x, z in zip(examples, logits[:, 0], strict=True)]
    found = zip(examples, logits.argmax(1), softmax(logits), strict=True)
    return [Prediction(x, labels[i], float(p.max())) for x, i, p in found]


def reliability(probabilities: Sequence[float], right: Sequence[bool], bins: int = 10) -> list[tuple[int, float, int]]:
    """Each bin of probabilities that holds any: its number of `bins` of equal width, the share that is right, and how
    many it holds."""
    inside: list[list[bool]] = [[] for _ in range(bins)]
    for probability, is_right in zip(probabilities, right, strict=True):
        inside[min(int(probability * bins), bins - 1)].append(is_right)
    return [(number, sum(found) / len(found), len(found)) for number, found in enumerate(inside) if found]


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write a TSV with the columns label, predicted, probability, text and, of pairs, text_pair."""
    pairs = any(x.example.text_pair is not None for x in predictions)
    lines = ["label\tpredicted\tprobability\ttext" + "\ttext_pair" * pairs]
    for x in predictions:
        probability = "" if x.probability is None else f"{x.probability:.4f}"
        texts = [x.example.text, x.example.text_pair or ""][: 1 + pairs]
        lines.append(
            "\t".join([x.example.label, x.predicted, probability, *(" ".join(text.split()) for text in texts)])
        )
    write_atomically(path, ("\n".join(lines) + "\n").encode("utf-8"))
