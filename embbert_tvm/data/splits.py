"""A task's splits: read from its folder, cut where there is none, and freed of texts that two of them share."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.data.dataset import Example, read_examples
from embbert_tvm.data.leaks import example_key
from embbert_tvm.data.tasks import Task
from embbert_tvm.errors import InputError

_SUFFIXES = (".tsv.xz", ".tsv.gz", ".tsv")
_CUT_SHARE, _CUT_MOST = 10, 2500  # a tenth of train, at most so many examples


@dataclass(frozen=True)
class Splits:
    """train, dev and the test splits of a task.

    `removed` counts, by split, the examples that were left out since a split that is evaluated on holds their text.
    """

    train: list[Example]
    dev: list[Example]
    tests: dict[str, list[Example]]
    removed: dict[str, int]


def split_path(folder: Path, task: Task, split: str) -> Path:
    """The TSV of a split in a folder of tasks; InputError where there is none."""
    for suffix in _SUFFIXES:
        path = Path(folder) / task.name / f"{split}{suffix}"
        if path.is_file():
            return path
    raise InputError(f"{Path(folder) / task.name}: has no {split}.tsv.xz: fetch it with --download, or copy it there")


def read_split(folder: Path, task: Task, split: str) -> list[Example]:
    """The examples of one split as published. Raises InputError."""
    return read_examples(split_path(folder, task, split), task.labels, regression=task.regression)


def read_splits(folder: Path, task: Task) -> Splits:
    """All splits of a task, without leaks (see `without_leaks`)."""
    return without_leaks(
        read_split(folder, task, "train"),
        read_split(folder, task, "dev"),
        {test: read_split(folder, task, test) for test in task.tests},
    )


def without_leaks(train: Sequence[Example], dev: Sequence[Example], tests: Mapping[str, Sequence[Example]]) -> Splits:
    """Leave out of train every text that dev or a test holds, and out of dev every one that a test holds.

    Texts are compared without case, punctuation and white space. The tests stay as published.
    """
    held_out = {example_key(x) for test in tests.values() for x in test}
    kept_dev = [x for x in dev if example_key(x) not in held_out]
    held_out |= {example_key(x) for x in kept_dev}
    kept_train = [x for x in train if example_key(x) not in held_out]
    removed = {"train": len(train) - len(kept_train), "dev": len(dev) - len(kept_dev)}
    return Splits(kept_train, kept_dev, {name: list(test) for name, test in tests.items()}, removed)


def cut(examples: Sequence[Example], name: str, least: int = 0) -> tuple[list[Example], list[Example]]:
    """(the rest, a tenth, at least `least` and at most 2,500 examples), drawn by text; the same name, the same cut."""
    keys = sorted({example_key(x) for x in examples})
    random.Random(name).shuffle(keys)
    wanted, chosen = min(max(len(examples) // _CUT_SHARE, least), _CUT_MOST), set()
    counts: dict[tuple[str, str], int] = {}
    for example in examples:
        counts[example_key(example)] = counts.get(example_key(example), 0) + 1
    for key in keys:
        if wanted <= 0:
            break
        chosen.add(key)
        wanted -= counts[key]
    return [x for x in examples if example_key(x) not in chosen], [x for x in examples if example_key(x) in chosen]


def without_contradictions(examples: Iterable[Example]) -> list[Example]:
    """The examples whose text has one label only."""
    examples = list(examples)
    labels: dict[tuple[str, str], set[str]] = {}
    for example in examples:
        labels.setdefault(example_key(example), set()).add(example.label)
    return [x for x in examples if len(labels[example_key(x)]) == 1]
