"""What a classifier gets right and wrong, class by class: precision, recall, and the pairs that it confuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MOST_PAIRS = 8


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class with `examples` examples; None is what no example, or no answer, can tell."""

    label: str
    precision: float | None
    recall: float | None
    examples: int

    @property
    def f1(self) -> float:
        if not self.precision or not self.recall:
            return 0.0
        return 2 * self.precision * self.recall / (self.precision + self.recall)


@dataclass(frozen=True)
class Confusion:
    """`count` examples of the class `expected` were taken for `predicted`."""

    expected: str
    predicted: str
    count: int


def class_figures(expected: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> list[ClassFigures]:
    """Each class's figures, in the order of the labels; `expected` may hold numbers of classes beyond them."""
    found = []
    for i, label in enumerate(labels):
        hits = int(np.sum((expected == i) & (predicted == i)))
        examples, answers = int(np.sum(expected == i)), int(np.sum(predicted == i))
        found.append(
            ClassFigures(label, hits / answers if answers else None, hits / examples if examples else None, examples)
        )
    return found


def confusions(
    expected: np.ndarray, predicted: np.ndarray, labels: Sequence[str], most: int = _MOST_PAIRS
) -> list[Confusion]:
    """The pairs of classes that are confused most often; a class beyond the labels is '(another)'."""
    names = [*labels, "(another)"]
    wrong = expected != predicted
    pairs, counts = np.unique(np.stack([expected[wrong], predicted[wrong]]), axis=1, return_counts=True)
    order = sorted(range(len(counts)), key=lambda i: (-counts[i], *pairs[:, i].tolist()))
    return [
        Confusion(names[min(int(pairs[0, i]), len(labels))], names[int(pairs[1, i])], int(counts[i]))
        for i in order[:most]
    ]
