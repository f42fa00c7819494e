"""Tasks by their public names, through the `datasets` library, into a folder of TSVs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embbert_tvm.data.dataset import Example, write_examples
from embbert_tvm.data.splits import cut, without_contradictions
from embbert_tvm.data.tasks import Task
from embbert_tvm.errors import InputError, WorkError


def fetch(task: Task, folder: Path, source: Mapping[str, Any] | None = None) -> dict[str, int]:
    """Write `folder/<task>/{train,dev,test}.tsv.xz` from the task's source; gives the size of each split.

    source: other arguments of datasets.load_dataset than the task's own, for a copy of the data: a CSV of Kaggle's is
    `{"path": "csv", "data_files": FILE}`. Official splits are taken; what there is not is cut from train.
    Raises InputError where `datasets` is not installed or the source lacks what tasks.yaml says of it, WorkError
    where it cannot be reached.
    """
    published = _load(task, source or task.source)
    splits = {split: _examples(task, published, name) for split, name in task.splits.items()}
    if not any(split.startswith("test") for split in splits):
        splits["train"], splits["test"] = cut(without_contradictions(splits["train"]), f"{task.name} test")
    if "dev" not in splits:
        splits["train"], splits["dev"] = cut(splits["train"], f"{task.name} dev")
    for split, examples in splits.items():
        if not examples:
            raise InputError(f"{task.name}: its source has no examples for {split}")
    for split, examples in splits.items():
        write_examples(Path(folder) / task.name / f"{split}.tsv.xz", examples)
    return {split: len(examples) for split, examples in splits.items()}


def fetch_missing(task: Task, folder: Path) -> bool:
    """`fetch`, but only where the folder lacks the task's train set; says whether it did."""
    if any((Path(folder) / task.name).glob("train.tsv*")):
        return False
    fetch(task, folder)
    return True


def _load(task: Task, source: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if source is None:
        raise InputError(
            f"{task.name}: its licence lets nobody serve it ({task.licence}): put train, dev and test.tsv.xz there"
        )
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise InputError("downloading needs the datasets library: pip install 'embbert-tvm[datasets]'") from error
    try:
        return datasets.load_dataset(**source)
    except Exception as error:  # the library passes on whatever the network, the file system and parsers raise
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise WorkError(f"{task.name}: {source['path']} cannot be loaded ({line})") from error


def _examples(task: Task, published: Mapping[str, Any], name: str) -> list[Example]:
    """A split's examples in the source's order; rows without a text or with the label -1 are left out."""
    if name not in published:
        raise InputError(f"{task.name}: its source has no split {name}, only {', '.join(published)}")
    rows = published[name]
    missing = [column for column in task.columns.values() if column not in rows.column_names]
    if missing:
        raise InputError(f"{task.name}: its source has no column {missing[0]}, only {', '.join(rows.column_names)}")
    columns = {key: rows[column] for key, column in task.columns.items()}
    texts = columns["text"]
    pairs = columns.get("text_pair", [None] * len(texts))
    found = []
    for value, text, pair in zip(columns["label"], texts, pairs, strict=True):
        label = _label(task, value)
        if label is not None and text and ("text_pair" not in columns or pair):
            found.append(Example(label, text, pair))
    return found


def _label(task: Task, value: Any) -> str | None:
    if value is None or value == -1:
        return None
    if task.labels is None:
        return str(value)
    if isinstance(value, int):
        if value < len(task.labels):
            return task.labels[value]
    elif value in task.labels:
        return value
    raise InputError(f"{task.name}: its source has the label {value!r}, tasks.yaml only {', '.join(task.labels)}")
