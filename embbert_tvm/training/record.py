"""The record of a training, training.json in the model folder: what it learned from and what chose it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from embbert_tvm.data.dataset import Example, examples_sha256
from embbert_tvm.data.files import write_atomically
from embbert_tvm.errors import InputError

FILE = "training.json"


@dataclass(frozen=True)
class RecordedSet:
    """A labelled set: its file, how many examples of it were used, and their SHA-256 (data.examples_sha256)."""

    path: str
    examples: int
    sha256: str


@dataclass(frozen=True)
class TrainingRecord:
    """`train` was learned from; `metric` on `dev` chose the weights, `value` is what it was then.

    `unlabelled` names the files whose texts, or words of them, a teacher labelled besides. `left_out` counts by source
    (train, unlabelled, mixed, noised, replaced) the texts left out since dev or one of `held_out` holds them.
    `baseline` is what a linear model on hashed n-grams gives on dev, `wide_weight` with what weight it is added to the
    model, None without. `further` are the sets of further heads, with the accuracy of each. `tried` are the recipes of
    a search, with dev's metric of each. `example` is the beginning of a text of dev.
    """

    task: str
    seed: int
    metric: str
    value: float
    epoch: int
    train: RecordedSet
    dev: RecordedSet
    command: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    unlabelled: list[str] = field(default_factory=list)
    baseline: dict[str, Any] | None = None
    held_out: list[RecordedSet] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    wide_weight: float | None = None
    example: str | None = None
    tried: list[dict[str, Any]] = field(default_factory=list)
    further: list[dict[str, Any]] = field(default_factory=list)


def recorded_set(path: Path, examples: Sequence[Example]) -> RecordedSet:
    return RecordedSet(str(path), len(examples), examples_sha256(examples))


def write_record(folder: Path, record: TrainingRecord) -> None:
    """Write training.json of a model folder."""
    write_atomically(Path(folder) / FILE, (json.dumps(asdict(record), indent=2) + "\n").encode("utf-8"))


def read_record(folder: Path) -> TrainingRecord:
    """The record of a model folder; InputError where there is none or it is malformed."""
    path = Path(folder) / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        sets = {name: RecordedSet(**values[name]) for name in ("train", "dev")}
        held_out = [RecordedSet(**one) for one in values.get("held_out", [])]
        record = TrainingRecord(**{**values, **sets, "held_out": held_out})
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}): only a model that `embbert-tvm train` made tells what chose it"
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: holds no training record ({error}): train the model again") from error
    sets = (record.train, record.dev)
    right = isinstance(record.task, str) and type(record.seed) is int and all(isinstance(x.sha256, str) for x in sets)
    if not right:
        raise InputError(f"{path}: holds no training record: train the model again")
    return record
