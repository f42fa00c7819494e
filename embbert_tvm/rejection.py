"""When a model of one label answers "none of these": how known a text looks by its logits, and how known it must."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embbert_tvm.data.metrics import softmax
from embbert_tvm.errors import InputError
from embbert_tvm.heads import FurtherHead

NONE_TEXT = "none of these"
MAX_SOFTMAX = "max softmax"  # the largest of the scores
ENERGY = "energy"  # T log sum exp(logits / T)
DISTANCE = "distance"  # the squared distance of the logits to the nearest class's mean, negated
MAHALANOBIS = "mahalanobis"  # the same of what the head reads, in steps of its spread within a class
# That, and how far the vector lies in a direction in which dev and other texts differ; of a model with n-grams the
# largest of their logits, too.
LOGISTIC = "logistic"
SCORES = (MAX_SOFTMAX, ENERGY, DISTANCE, MAHALANOBIS, LOGISTIC)
OF_A_VECTOR = (MAHALANOBIS, LOGISTIC)
KNOWN_HEAD = "known"  # of OF_A_VECTOR: the further head that gives what the head reads in such steps
MOST_STEPS = 127
_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 1e-3, 1e3


@dataclass(frozen=True)
class Direction:
    """A direction of vectors in which known texts lie farther than others: whole numbers of `step`.

    ngrams: how much the largest logit of a text's n-grams adds; None of a model that has none.
    """

    numbers: tuple[int, ...]
    step: float
    ngrams: float | None = None

    def along(self, values: np.ndarray) -> np.ndarray:
        """How far each of the vectors lies in it, with what the n-grams add, (N,).

        values (N, width): the vectors, behind each the largest logit of the text's n-grams where `ngrams` is not None.
        """
        width = len(self.numbers)
        found: np.ndarray = values[:, :width] @ (np.array(self.numbers) * self.step)
        return found if self.ngrams is None else found + self.ngrams * values[:, width]


@dataclass(frozen=True)
class Rejection:
    """What turns logits into calibrated scores and into "none of these"."""

    score: str  # one of SCORES
    temperature: float  # scores are the softmax of logits / temperature
    threshold: float  # a text whose score is below is none of these
    # of DISTANCE each class's mean logits; of OF_A_VECTOR its mean vector, whole numbers of `step`
    means: tuple[tuple[float, ...], ...] | None = None
    step: float | None = None
    direction: Direction | None = None  # of LOGISTIC

    @property
    def classes(self) -> int | None:
        """How many logits stand before the vector, None where there is none."""
        return len(self.means) if self.means is not None and self.score in OF_A_VECTOR else None

    def known(self, values: np.ndarray) -> np.ndarray:
        """How known each text looks, (N,), by logits (N, classes), behind which the vector of OF_A_VECTOR stands, and
        behind that what `with_ngrams` puts there."""
        means = None if self.means is None else np.array(self.means) * (self.step or 1.0)
        asked = np.asarray(values, np.float64)[:, self.classes or 0 :]
        if self.direction is None:
            return KNOWN[self.score](asked, self.temperature, means)
        vectors = asked[:, : len(self.direction.numbers)]
        return KNOWN[self.score](vectors, self.temperature, means) + self.direction.along(asked)

    def with_ngrams(self, values: np.ndarray, linear: np.ndarray | None) -> np.ndarray:
        """What `known` takes, by what `values` gave of each text (N, width) and its n-grams' logits (N, classes)."""
        if self.direction is None or self.direction.ngrams is None or linear is None:
            return values
        return np.concatenate([values, linear.max(1, keepdims=True)], 1)

    def labels(self, values: np.ndarray) -> np.ndarray:
        """The index of each text's label by what `known` takes; the number of classes for none of these."""
        logits = values[:, : self.classes]
        return np.where(self.known(values) >= self.threshold, logits.argmax(1), logits.shape[1])

    def values(self, parts: Sequence[np.ndarray], more: Sequence[FurtherHead]) -> np.ndarray:
        """What `known` takes of one text, by what each head of its model gives, the first one's logits first."""
        if self.classes is None:
            return parts[0]
        number = next(n for n, head in enumerate(more, 1) if head.name == KNOWN_HEAD)
        return np.concatenate([parts[0], parts[number]])

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "score": self.score,
            "temperature": self.temperature,
            "threshold": self.threshold,
        }
        if self.step is not None:
            found["step"] = self.step
        if self.direction is not None:
            found["direction"] = {"step": self.direction.step, "numbers": list(self.direction.numbers)}
            if self.direction.ngrams is not None:
                found["direction"]["ngrams"] = self.direction.ngrams
        return found if self.means is None else found | {"means": [list(row) for row in self.means]}


def _max_softmax(logits: np.ndarray, temperature: float, means: np.ndarray | None) -> np.ndarray:
    return softmax(logits, temperature).max(1)


def _energy(logits: np.ndarray, temperature: float, means: np.ndarray | None) -> np.ndarray:
    best = logits.max(1)
    found: np.ndarray = best + temperature * np.log(np.exp((logits - best[:, None]) / temperature).sum(1))
    return found


def _distance(logits: np.ndarray, temperature: float, means: np.ndarray | None) -> np.ndarray:
    assert means is not None
    squares = (logits**2).sum(1)[:, None] - 2 * logits @ means.T + (means**2).sum(1)
    found: np.ndarray = -squares.min(1)
    return found


# By the name of a score: how known each text looks by logits (N, classes), the temperature, and the means of classes.
KNOWN: Mapping[str, Callable[[np.ndarray, float, np.ndarray | None], np.ndarray]] = {
    MAX_SOFTMAX: _max_softmax,
    ENERGY: _energy,
    DISTANCE: _distance,
    MAHALANOBIS: _distance,
    LOGISTIC: _distance,
}


def read_rejection(
    document: object, classes: int, more: Sequence[FurtherHead] = (), has_ngrams: bool = False
) -> Rejection | None:
    """What `to_dict` wrote of a model of so many classes; None for None. Raises InputError that says what is wrong.

    more: the model's further heads; has_ngrams: whether n-grams of the text add to its logits.
    """
    if document is None:
        return None
    if not isinstance(document, dict):
        raise InputError(f"{NONE_TEXT}: must be an object or null")
    score, means = document.get("score"), document.get("means")
    if score not in SCORES:
        raise InputError(f"{NONE_TEXT}: score {score!r} is not known: choose from {', '.join(SCORES)}")
    temperature, threshold = _number(document, "temperature"), _number(document, "threshold")
    if not _LEAST_TEMPERATURE <= temperature <= _MOST_TEMPERATURE:
        raise InputError(f"{NONE_TEXT}: temperature must be {_LEAST_TEMPERATURE:g} to {_MOST_TEMPERATURE:g}")
    with_means = (DISTANCE, *OF_A_VECTOR)
    if (score in with_means) != (means is not None):
        raise InputError(f"{NONE_TEXT}: means go with the scores {', '.join(with_means)}, and with them alone")
    if (score == LOGISTIC) != (document.get("direction") is not None):
        raise InputError(f"{NONE_TEXT}: a direction goes with the score {LOGISTIC!r}, and with it alone")
    if score not in OF_A_VECTOR:
        return Rejection(
            score, temperature, threshold, None if means is None else _rows("means", means, (classes, classes))
        )
    width = next((head.width for head in more if head.name == KNOWN_HEAD), None)
    if width is None:
        raise InputError(f"{NONE_TEXT}: the score {score!r} needs a head {KNOWN_HEAD!r} that gives a vector")
    rows, step = _steps("means", document, means, (classes, width))
    direction = None
    if score == LOGISTIC:
        direction = _direction(document["direction"], width)
        if direction.ngrams is not None and not has_ngrams:
            raise InputError(f"{NONE_TEXT}: the direction has a number for n-grams, which the model does not have")
    return Rejection(score, temperature, threshold, rows, step, direction)


def _direction(document: object, width: int) -> Direction:
    if not isinstance(document, dict):
        raise InputError(f"{NONE_TEXT}: direction must be an object")
    rows, step = _steps("direction", document, [document.get("numbers")], (1, width))
    return Direction(tuple(map(int, rows[0])), step, _number(document, "ngrams") if "ngrams" in document else None)


def _steps(
    name: str, document: Mapping[str, Any], rows: object, shape: tuple[int, int]
) -> tuple[tuple[tuple[float, ...], ...], float]:
    """Rows of whole numbers of a step, and the step."""
    found, step = _rows(name, rows, shape), _number(document, "step")
    if step <= 0 or any(value != round(value) or abs(value) > MOST_STEPS for row in found for value in row):
        raise InputError(f"{NONE_TEXT}: {name} must be whole numbers of -{MOST_STEPS} to {MOST_STEPS} steps above 0")
    return found, step


def _number(document: Mapping[str, Any], key: str) -> float:
    value = document.get(key)
    if type(value) not in (int, float) or not abs(value) <= np.finfo(np.float32).max:
        raise InputError(f"{NONE_TEXT}: {key} must be a number, not {value!r}")
    return float(value)


def _rows(name: str, rows: object, shape: tuple[int, int]) -> tuple[tuple[float, ...], ...]:
    try:
        found = np.array(rows, np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.shape != shape or not (np.abs(found) <= np.finfo(np.float32).max).all():
        raise InputError(f"{NONE_TEXT}: {name} must be {shape[0]} rows of {shape[1]} numbers")
    return tuple(tuple(row) for row in found.tolist())
