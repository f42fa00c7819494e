"""Which answers change from one model to another on a labelled set, for better and for worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.data.dataset import Example, read_examples
from embbert_tvm.data.predictions import Prediction
from embbert_tvm.errors import InputError
from embbert_tvm.heads import ONE_LABEL


@dataclass(frozen=True)
class Change:
    """An example of which the models say different things."""

    example: Example
    old: str
    new: str

    @property
    def kind(self) -> str:
        """better, worse, or other where both are wrong."""
        if self.new == self.example.label:
            return "better"
        return "worse" if self.old == self.example.label else "other"


@dataclass(frozen=True)
class ClassChanges:
    """Changes in the examples of one label: how many each model has right, and how many changed."""

    label: str
    examples: int
    old: int
    new: int
    better: int
    worse: int


@dataclass(frozen=True)
class ModelComparison:
    """Both models on a set: `old` and `new` are accuracies, `changes` in the order of the set."""

    examples: int
    old: float
    new: float
    changes: list[Change]
    classes: list[ClassChanges]

    def count(self, kind: str) -> int:
        """Changes of a kind."""
        return sum(x.kind == kind for x in self.changes)


def compare(old: Path, new: Path, data: Path) -> ModelComparison:
    """Compare two model folders or packages, or one with the other.

    Raises InputError for a model of regression, and for what is neither a folder nor a package.
    """
    examples = read_examples(data)
    before, after = answers(old, examples, data), answers(new, examples, data)
    changes = [
        Change(x.example, x.predicted, y.predicted)
        for x, y in zip(before, after, strict=True)
        if x.predicted != y.predicted
    ]
    return ModelComparison(
        len(examples), _accuracy(before), _accuracy(after), changes, _by_class(examples, before, after, changes)
    )


def answers(model: Path, examples: Sequence[Example], data: Path) -> list[Prediction]:
    """What a model folder, or a package on this machine, says of examples."""
    if (model / "metadata.json").is_file():
        from embbert_tvm.device.package import load_package
        from embbert_tvm.device.validate import predict

        package = load_package(model)
        if package.head != ONE_LABEL:
            raise InputError(f"{model}: gives {package.head}, and one label a text is compared")
        return predict(package, examples)
    from embbert_tvm.training.evaluate import evaluate, read_any_folder

    folder = read_any_folder(model)
    if folder.labels is None:
        raise InputError(f"{model}: gives numbers, and labels are compared")
    return evaluate(folder, data).predictions


def _accuracy(predictions: Sequence[Prediction]) -> float:
    return sum(x.right for x in predictions) / len(predictions)


def _by_class(
    examples: Sequence[Example], old: Sequence[Prediction], new: Sequence[Prediction], changes: Sequence[Change]
) -> list[ClassChanges]:
    found = []
    for label in sorted({x.label for x in examples}):
        rows = [i for i, x in enumerate(examples) if x.label == label]
        kinds = [x.kind for x in changes if x.example.label == label]
        right = [sum(predictions[i].right for i in rows) for predictions in (old, new)]
        found.append(ClassChanges(label, len(rows), *right, kinds.count("better"), kinds.count("worse")))
    return found
