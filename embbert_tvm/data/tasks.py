"""The tasks that models are measured on: TinyNLP and GLUE, as tasks.yaml describes them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from embbert_tvm.errors import InputError

SUITES = ("tinynlp", "glue")


@dataclass(frozen=True)
class Task:
    """One task; tasks.yaml says what each field means. `labels` is None for regression."""

    name: str
    suite: str
    columns: Mapping[str, str]
    splits: Mapping[str, str]
    metrics: tuple[str, ...]
    licence: str
    source: Mapping[str, Any] | None = None
    labels: tuple[str, ...] | None = None
    mean: bool = True
    note: str = ""
    tests: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        named = tuple(split for split in self.splits if split.startswith("test"))
        object.__setattr__(self, "tests", named or ("test",))

    @property
    def regression(self) -> bool:
        return self.labels is None

    def figure_name(self, test: str) -> str:
        """What a figure of that test split is listed under: `mnli`, `mnli-mismatched`."""
        return self.name + test.removeprefix("test").replace("_", "-")


@functools.cache
def all_tasks() -> dict[str, Task]:
    """Every task by its name."""
    document = yaml.safe_load(Path(__file__).with_name("tasks.yaml").read_text(encoding="utf-8"))
    return {
        name: Task(
            name=name,
            **{
                **values,
                "metrics": tuple(values["metrics"]),
                "labels": tuple(values["labels"]) if "labels" in values else None,
            },
        )
        for name, values in document.items()
    }


def find_tasks(names: str) -> list[Task]:
    """Tasks by their names or a suite's, separated by commas: `emotion,limit`, `tinynlp`. Raises InputError."""
    known = all_tasks()
    found: dict[str, Task] = {}
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name in SUITES:
            found.update({task.name: task for task in known.values() if task.suite == name})
        elif name in known:
            found[name] = known[name]
        else:
            raise InputError(f"task {name!r} is not known: choose from {', '.join((*SUITES, *known))}")
    if not found:
        raise InputError(f"no task is named: choose from {', '.join((*SUITES, *known))}")
    return list(found.values())
