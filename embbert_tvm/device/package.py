"""Reading a package: the folder that `embbert-tvm compile` writes (docs/architecture.md)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embbert_tvm.c_names import DEFAULT_PREFIX, check_prefix
from embbert_tvm.errors import InputError
from embbert_tvm.heads import HEADS, REGRESSION, TOKENS, VECTOR, FurtherHead, head_for, head_named, read_heads
from embbert_tvm.rejection import Rejection, read_rejection
from embbert_tvm.target import Board, board_of, known_cpus

_FORMAT = "embbert-tvm 1"
_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_DTYPES = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)), "float16", "float32")
_MOST_LENGTH = 2**20  # far past what a microcontroller holds
MAX_LOGITS = 16000  # a reply's payload is counted in 16 bits


@dataclass(frozen=True)
class Vector:
    """One reference run: token ids and the float32 logits, as RunResult has them, that every place must give."""

    ids: tuple[int, ...]
    logits: np.ndarray


@dataclass(frozen=True)
class TextVector:
    """One reference text, or pair, and the float32 logits (classes,) that every place must give."""

    text: str
    text_pair: str | None
    logits: np.ndarray


@dataclass(frozen=True)
class StepRecord:
    """A call of a kernel. macs: (c0, c1, c2), it does c0 + c1 L + c2 L^2 multiplications; None where not known."""

    name: str
    kernel: str
    macs: tuple[int, int, int] | None

    def macs_at(self, length: int) -> int | None:
        if self.macs is None:
            return None
        c0, c1, c2 = self.macs
        return c0 + c1 * length + c2 * length * length


@dataclass(frozen=True)
class OutputRecord:
    """What a step makes. origin: the float tensor that it stands for, None where there is none; scale: what one step of
    an int8 tensor is worth in it. interleave: of so many rows the elements of a column lie side by side."""

    step: int
    name: str
    dtype: str
    origin: str | None
    scale: float | None
    interleave: int


@dataclass(frozen=True)
class Package:
    """What metadata.json says, checked; `sources` and `includes` are absolute paths that exist."""

    path: Path
    model_name: str
    prefix: str  # what the names of its C begin with
    hash: int  # what INFO says: tells its firmware, or its blob, from another's
    target: str
    precision: str
    max_length: int
    classes: int
    vocabulary: int
    labels: tuple[str, ...] | None  # None where they have no names, and for regression
    arena_bytes: int
    weights_bytes: int
    sources: tuple[Path, ...]
    includes: tuple[Path, ...]
    steps: tuple[StepRecord, ...]
    board: Board | None  # that it was compiled for, None where for a CPU
    outputs: tuple[OutputRecord, ...]
    rejection: Rejection | None  # by what a text has none of the labels
    head: str  # what the outputs are: one of HEADS
    reads_text: bool  # the text itself adds to the logits, as hashed n-grams: its token ids are not enough
    streams: bool  # a text of any length is read whole
    example: str | None  # a text of the model's own kind, None where that is not known
    min_length: int  # tokens that the model needs at least
    layout: int | None  # the hash that a blob for its firmware has; None where its weights are linked
    padding: int | None  # the id that fills a text up, of a model that takes but one length; None for others
    more: tuple[FurtherHead, ...]  # heads beside the first
    metadata: Mapping[str, Any]

    @property
    def of_tokens(self) -> bool:
        """Whether each token has logits, or the text."""
        return self.head == TOKENS

    @property
    def answers(self) -> tuple[str, ...] | None:
        """The names of the classes, their numbers where they have none; None where the outputs are no classes."""
        if self.head in (REGRESSION, VECTOR):
            return None
        return tuple(map(str, range(self.classes))) if self.labels is None else self.labels

    def logits_of(self, tokens: int) -> int:
        """How many logits a text of so many tokens has, those of all heads together."""
        more = sum(head.values * (tokens if head.of_tokens else 1) for head in self.more)
        return self.classes * (tokens if self.of_tokens else 1) + more

    def shaped(self, logits: np.ndarray) -> np.ndarray:
        """Logits (classes,), or of each token (tokens, classes); of several heads all of them, flat."""
        return logits.reshape(-1, self.classes) if self.of_tokens and not self.more else logits

    def split(self, logits: np.ndarray) -> list[np.ndarray]:
        """The logits of each head, the first first: (classes,), or (tokens, classes), of what `shaped` gave."""
        if not self.more:
            return [logits]
        widths = [(self.classes, self.of_tokens), *((head.values, head.of_tokens) for head in self.more)]
        of_the_text = sum(width for width, of_tokens in widths if not of_tokens)
        a_token = sum(width for width, of_tokens in widths if of_tokens)
        tokens = (len(logits) - of_the_text) // a_token if a_token else 0
        ends = np.cumsum([width * (tokens if of_tokens else 1) for width, of_tokens in widths])[:-1]
        parts = zip(np.split(logits, ends), widths, strict=True)
        return [part.reshape(-1, width) if of_tokens else part for part, (width, of_tokens) in parts]

    @property
    def linear(self) -> Path:
        """The folder of the hashed n-grams, where the package `reads_text`."""
        return self.path / "src" / "linear"

    def filled(self, ids: Sequence[int]) -> list[int]:
        """Token ids, filled up where the model takes but one length."""
        lacking = 0 if self.padding is None else self.min_length - len(ids)
        return [*ids, *[self.padding or 0] * lacking]

    @property
    def tokenizer(self) -> Path:
        """tokenizer.json of the model."""
        return self.path / "parameters" / "tokenizer.json"

    @property
    def reference_model(self) -> Path:
        """The float model, ONNX."""
        return self.path / "src" / "model.onnx"

    @property
    def floating(self) -> bool:
        """Whether some kernel computes in floating point, so that places may differ in the last bits."""
        kinds = [operator.get("precision") for operator in self.metadata["operators"]]
        return self.precision in ("fp16", "fp32") or any(str(kind).startswith("float") for kind in kinds)


def load_package(path: Path | str) -> Package:
    """The package in that folder; InputError says which file and key is wrong."""
    path = Path(path)
    where = path / "metadata.json"
    if not where.is_file():
        raise InputError(f"{path}: is not a compiled package (no metadata.json): make one with `embbert-tvm compile`")
    document = _json(where)
    found = _get(document, "format", str, where)
    if found != _FORMAT:
        raise InputError(f"{where}: format: is {found!r}, this version reads {_FORMAT!r}: compile the model again")
    classes = _count(document, "classes", where)
    arena = _get(document, "arena", dict, where)
    if not all(isinstance(operator, dict) for operator in _get(document, "operators", list, where)):
        raise InputError(f"{where}: operators: must be a list of objects")
    labels = document.get("labels")
    if labels is not None and not (
        isinstance(labels, list)
        and len(labels) == classes
        and all(isinstance(x, str) and not set(x) & set("\0\r\n\t") for x in labels)
    ):
        raise InputError(f"{where}: labels: must be null or a list of {classes} names, as many as classes")
    package = Package(
        path=path,
        model_name=_get(document, "model_name", str, where),
        prefix=_prefix(document, where),
        hash=_hash(document, where),
        target=_target(document, where),
        precision=_get(document, "precision", str, where),
        max_length=_count(document, "max_length", where, most=_MOST_LENGTH),
        classes=classes,
        vocabulary=_count(document, "vocabulary", where),
        labels=None if labels is None else tuple(labels),
        arena_bytes=_count({"arena.bytes": arena.get("bytes")}, "arena.bytes", where),
        weights_bytes=_count(document, "weights_bytes", where, least=0),
        sources=_paths(document, "sources", path, where, lambda p: p.is_file() and p.suffix == ".c"),
        includes=_paths(document, "includes", path, where, Path.is_dir),
        steps=tuple(_step(entry, i, where) for i, entry in enumerate(_get(document, "steps", list, where))),
        board=_board(document, where),
        rejection=_rejection(document, classes, where),
        more=_heads(document, where),
        outputs=tuple(_output(x, i, where) for i, x in enumerate(_optional(document, "outputs", list, where) or [])),
        head=_head(document, classes, where),
        reads_text=_optional(document, "linear", dict, where) is not None,
        streams=_optional(document, "streams", bool, where) or False,
        example=_optional(document, "example", str, where) or None,
        min_length=_count({"min_length": 1, **document}, "min_length", where),
        layout=None if document.get("layout") is None else _hash(document, where, "layout"),
        padding=None if document.get("padding") is None else _count(document, "padding", where, least=0),
        metadata=document,
    )
    if (logits := package.logits_of(package.max_length)) > MAX_LOGITS:
        shorter = ": compile it with a smaller --max-length" if package.logits_of(2) > package.logits_of(1) else ""
        raise InputError(f"{where}: {logits} logits are too many for a reply, {MAX_LOGITS} is the most{shorter}")
    return package


def load_vectors(package: Package) -> list[Vector]:
    """The vectors of reference.json of token ids; InputError for one malformed or not of this package's shape."""
    vectors = []
    for where, entry, logits in _references(package):
        if "text" in entry:
            continue
        ids = entry["ids"]
        right = isinstance(ids, list) and all(type(i) is int and 0 <= i < package.vocabulary for i in ids)
        if not right or not 1 <= len(ids) <= package.max_length:
            raise InputError(f"{where}.ids: must be 1 to {package.max_length} token ids")
        if len(logits) != package.logits_of(len(ids)):
            raise InputError(f"{where}.logits: must be {package.logits_of(len(ids))}, is {len(logits)}")
        vectors.append(Vector(tuple(ids), package.shaped(logits)))
    return vectors


def load_text_vectors(package: Package) -> list[TextVector]:
    """The vectors of reference.json of texts; InputError as of `load_vectors`."""
    vectors = []
    for where, entry, logits in _references(package):
        if "text" not in entry:
            continue
        text, pair = entry["text"], entry.get("text_pair")
        if not isinstance(text, str) or not (pair is None or isinstance(pair, str)):
            raise InputError(f"{where}: text and text_pair must be texts: compile the model again")
        if len(logits) < package.classes or (len(logits) > package.classes and not package.more):
            raise InputError(f"{where}.logits: must be {package.classes}, is {len(logits)}")
        vectors.append(TextVector(text, pair, logits))
    return vectors


def _references(package: Package) -> Iterator[tuple[str, dict[str, Any], np.ndarray]]:
    """Every entry of reference.json with its place and its logits."""
    path = package.path / "reference.json"
    document = _json(path)
    for number, entry in enumerate(_get(document, "vectors", list, path)):
        where = f"{path}: vectors[{number}]"
        try:
            bits = np.array([int(word, 16) for word in entry["logits"]], dtype=np.uint32)
            if not {"ids", "text"} & set(entry):
                raise KeyError("ids")
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise InputError(f"{where}: must be {{ids, logits}} or {{text, logits}}, logits in hex") from error
        yield where, entry, bits.view(np.float32)


def _head(document: Mapping[str, Any], classes: int, where: Path) -> str:
    """What the outputs are; where a package does not say, what its classes and labels can be."""
    said = _optional(document, "head", str, where)
    if said is None:
        return head_for(classes, False, document.get("labels") is not None)
    head = head_named(said)
    if head is None:
        raise InputError(f"{where}: head: unknown {said!r}, known: {', '.join(HEADS)}")
    return head


def _prefix(document: Mapping[str, Any], where: Path) -> str:
    try:
        return check_prefix(document.get("prefix", DEFAULT_PREFIX))
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('--')}") from error


def _target(document: Mapping[str, Any], where: Path) -> str:
    """The name of a CPU of targets/cpus: a file that a package names would choose the programs that are started."""
    target: str = _get(document, "target", str, where)
    if target not in known_cpus():
        raise InputError(f"{where}: target: unknown {target!r}, known: {', '.join(known_cpus())}")
    return target


def _rejection(document: Mapping[str, Any], classes: int, where: Path) -> Rejection | None:
    try:
        linear, heads = document.get("linear"), _heads(document, where)
        return read_rejection(document.get("none_of_these"), classes, heads, has_ngrams=linear is not None)
    except InputError as error:
        raise InputError(f"{where}: {error}: compile the model again") from None


def _heads(document: Mapping[str, Any], where: Path) -> tuple[FurtherHead, ...]:
    try:
        return read_heads(document.get("heads"))
    except InputError as error:
        raise InputError(f"{where}: {error}: compile the model again") from None


def _board(document: Mapping[str, Any], where: Path) -> Board | None:
    board = document.get("board")
    if board is None:
        return None
    try:
        return board_of(board)
    except InputError as error:
        raise InputError(f"{where}: board: {error}: compile the model again") from error


def _step(entry: object, number: int, where: Path) -> StepRecord:
    name = f"{where}: steps[{number}]"
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("name", "kernel")):
        raise InputError(f"{name}: must have a name and a kernel: compile the model again")
    macs = entry.get("macs")
    if macs is not None and not (isinstance(macs, list) and len(macs) == 3 and all(type(c) is int for c in macs)):
        raise InputError(f"{name}.macs: must be null or three whole numbers: compile the model again")
    return StepRecord(entry["name"], entry["kernel"], None if macs is None else (macs[0], macs[1], macs[2]))


def _output(entry: object, number: int, where: Path) -> OutputRecord:
    place = Path(f"{where}: outputs[{number}]")
    if not isinstance(entry, dict) or entry.get("dtype") not in _DTYPES:
        words = f"must be {{step, name, dtype, float, scale}}, dtype of {', '.join(_DTYPES)}"
        raise InputError(f"{place}: {words}: compile the model again")
    scale = entry.get("scale")
    if scale is not None and not (type(scale) in (int, float) and abs(scale) < math.inf):
        raise InputError(f"{place}: scale: must be null or a finite number: compile the model again")
    return OutputRecord(
        step=_count(entry, "step", place, least=0),
        name=_get(entry, "name", str, place),
        dtype=entry["dtype"],
        origin=_optional(entry, "float", str, place),
        scale=scale,
        interleave=_count({"interleave": entry.get("lanes", 1), **entry}, "interleave", place),
    )


def _json(where: Path) -> dict[str, Any]:
    try:
        document = json.loads(where.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}): compile the model again") from error
    if not isinstance(document, dict):
        raise InputError(f"{where}: must be a JSON object: compile the model again")
    return document


def _get(document: Mapping[str, Any], key: str, kind: type, where: Path) -> Any:
    if key not in document:
        raise InputError(f"{where}: {key}: is missing: compile the model again")
    if not isinstance(document[key], kind):
        raise InputError(f"{where}: {key}: must be of type {kind.__name__}, is {type(document[key]).__name__}")
    return document[key]


def _optional(document: Mapping[str, Any], key: str, kind: type, where: Path) -> Any:
    """What a key holds; None where it is not there or null."""
    return None if document.get(key) is None else _get(document, key, kind, where)


def _count(document: Mapping[str, Any], key: str, where: Path, least: int = 1, most: int = 2**31 - 1) -> int:
    value = document.get(key)
    if type(value) is not int or not least <= value <= most:
        raise InputError(f"{where}: {key}: must be a whole number of {least} to {most}, is {value!r}")
    return value


def _hash(document: Mapping[str, Any], where: Path, key: str = "hash") -> int:
    text = _get(document, key, str, where)
    if not re.fullmatch("[0-9a-f]{8}", text):
        raise InputError(f"{where}: {key}: must be eight hexadecimal digits, is {text!r}")
    return int(text, 16)


def _paths(document: Mapping[str, Any], key: str, root: Path, where: Path, right: Any) -> tuple[Path, ...]:
    """Relative paths of plain names that stay inside the package and satisfy `right`."""
    found = []
    for entry in _get(document, key, list, where):
        if not isinstance(entry, str) or not _PATH.fullmatch(entry):
            raise InputError(f"{where}: {key}: {entry!r} is not a path of letters, digits, _, - and .")
        path = (root / str(entry)).resolve()
        if not path.is_relative_to(root.resolve()):
            raise InputError(f"{where}: {key}: {entry!r} lies outside the package")
        if not right(path):
            raise InputError(f"{where}: {key}: {entry!r} is missing or of the wrong kind: compile the model again")
        found.append(path)
    if not found:
        raise InputError(f"{where}: {key}: is empty")
    return tuple(found)
