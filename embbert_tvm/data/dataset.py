"""Labelled sets: a TSV with the header `label<TAB>text[<TAB>text_pair|<TAB>tags]`, plain, .gz or .xz."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from embbert_tvm.data.files import open_binary, write_atomically
from embbert_tvm.data.slots import read_tags
from embbert_tvm.errors import InputError

_QUOTED = (
    "is quoted as CSV is, and a TSV here has no quoting: write texts as they are (pandas: to_csv with "
    "quoting=csv.QUOTE_NONE and no tabs or line ends in them)"
)
_TAGS = "tags"
_HEADERS = (["label", "text"], ["label", "text", "text_pair"], ["label", "text", _TAGS])
CALIBRATION_TEXTS = 256
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Example:
    """One labelled text, or pair of texts. For regression the label is a number, kept as it was written.

    tags: a BIO tag for each white-space word, None where the set has none.
    """

    label: str
    text: str
    text_pair: str | None = None
    tags: tuple[str, ...] | None = None


def read_examples(path: Path, labels: Sequence[str] | None = None, regression: bool = False) -> list[Example]:
    """The examples of a TSV, in order; blank lines are skipped.

    Raises InputError, which names the line, for a missing header or column, an empty set, invalid UTF-8,
    a label that is not one of `labels` where those are given, or one that is no number where `regression` is.
    """
    path = Path(path)
    known = None if labels is None else frozenset(labels)
    examples: list[Example] = []
    columns: list[str] = []
    with open_binary(path) as lines:
        for number, raw in enumerate(lines, 1):
            fields = _fields(raw, f"{path}, line {number}")
            if not columns:
                columns = fields
                if columns not in _HEADERS:
                    quoted = [field.strip('"') for field in columns] in _HEADERS
                    raise InputError(
                        f"{path}, line 1: must be the header label<TAB>text, label<TAB>text<TAB>text_pair or "
                        "label<TAB>text<TAB>tags"
                        f"{f': {_QUOTED}' if quoted else ''}"
                    )
            elif fields != [""]:
                examples.append(_example(fields, columns, known, regression, f"{path}, line {number}"))
    if not examples:
        raise InputError(f"{path}: holds no examples")
    return examples


def calibration_sample(examples: Sequence[_Item]) -> list[_Item]:
    """The examples that activations are calibrated on: all, or CALIBRATION_TEXTS drawn at random, the same each time.

    Never the first ones: a set sorted by label begins with one class.
    """
    if len(examples) <= CALIBRATION_TEXTS:
        return list(examples)
    return random.Random(0).sample(list(examples), CALIBRATION_TEXTS)


def read_columns(path: Path) -> list[str] | None:
    """Every text of a TSV, its labels unread, or None where the file does not start with a TSV's header."""
    with open_binary(path) as lines:
        first = next(iter(lines), b"")
    if first.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n").split("\t") not in _HEADERS:
        return None
    return [text for x in read_examples(path) for text in (x.text, x.text_pair) if text and text.strip()]


def _fields(raw: bytes, where: str) -> list[str]:
    try:
        line = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 (byte {error.start + 1}): re-encode the file") from error
    return line.removeprefix("\ufeff").split("\t")


def _example(
    fields: list[str], columns: list[str], known: frozenset[str] | None, regression: bool, where: str
) -> Example:
    if len(fields) != len(columns):
        quoted = any(field.startswith('"') or field.endswith('"') for field in fields)
        more = f": {_QUOTED}" if quoted else ""
        raise InputError(f"{where}: has {len(fields)} columns, the header has {len(columns)}{more}")
    label = fields[0].strip()
    if not label:
        raise InputError(f"{where}: has no label")
    if not label.isprintable():
        raise InputError(f"{where}: label {label!r} holds a control character: labels are one line of text")
    if any(map(_is_quoted, fields)) or (len(label) > 1 and label[0] == label[-1] == '"'):
        raise InputError(f"{where}: {_QUOTED}")
    if regression and not _is_number(label):
        raise InputError(f"{where}: label {label!r} is not a number, which regression needs")
    if known is not None and label not in known:
        raise InputError(f"{where}: label {label!r} is not the model's, which knows {', '.join(sorted(known))}")
    if columns[-1] == _TAGS:
        return Example(label, fields[1], None, read_tags(fields[1], fields[2], where))
    return Example(label, fields[1], fields[2] if len(fields) > 2 else None)


def _is_quoted(field: str) -> bool:
    """Whether a field is what CSV makes of a text with quotes. One that merely stands in quotes is a text."""
    inside = field[1:-1]
    return len(field) > 1 and field[0] == field[-1] == '"' and '""' in inside and '"' not in inside.replace('""', "")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def label_list(examples: Iterable[Example]) -> list[str]:
    """The labels that occur, sorted: the order of a model's outputs."""
    return sorted({example.label for example in examples})


def unknown_labels(examples: Iterable[Example], labels: Sequence[str]) -> dict[str, int]:
    """Count the examples of each label that a model does not have."""
    return dict(Counter(x.label for x in examples if x.label not in labels))


def check_labels(where: str, examples: Sequence[Example], labels: Sequence[str] | None) -> None:
    """InputError where not one label is a model's; those that are not count as wrong answers. None: numbers."""
    if labels is not None and not {x.label for x in examples} & set(labels):
        raise InputError(
            f"{where}: not one label is the model's, which knows {', '.join(labels)}: is it another task's set?"
        )


def task_name(path: Path) -> str:
    """What to call a set: the folder of `snips/test.tsv.xz`, the stem of any other file."""
    stem = Path(path).name.split(".")[0]
    return Path(path).resolve().parent.name if stem in ("train", "dev", "test") else stem


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write a TSV that `read_examples` reads, compressed as its name says; white space in a field is collapsed."""
    more = next((f"\t{name}" for name in ("text_pair", _TAGS) if any(getattr(x, name) for x in examples)), "")
    header = f"label\ttext{more}\n"
    content = (header + "".join(f"{line}\n" for line in map(_line, examples))).encode("utf-8")
    packed = {".xz": lzma.compress, ".gz": lambda data: gzip.compress(data, mtime=0)}.get(Path(path).suffix, bytes)
    write_atomically(path, packed(content))


def examples_sha256(examples: Iterable[Example]) -> str:
    """SHA-256 of the examples, in hexadecimal: the same in whatever order, and however the file is compressed."""
    lines = sorted(f"{_line(example)}\n" for example in examples)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def _line(example: Example) -> str:
    fields = (example.label, example.text, example.text_pair, example.tags and " ".join(example.tags))
    return "\t".join(" ".join(field.split()) for field in fields if field is not None)
