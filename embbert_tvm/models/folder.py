"""The model folder: what lies in it, read without torch (docs/architecture.md states the contract)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from embbert_tvm.data.files import check_is_here, sha256_of, write_atomically
from embbert_tvm.data.tokenizer import TextTokenizer, load_embbert_tokenizer
from embbert_tvm.errors import InputError, nearest
from embbert_tvm.heads import FurtherHead, check_printable, read_heads
from embbert_tvm.models import ngrams
from embbert_tvm.models.config import ARCHITECTURES, ModelConfig
from embbert_tvm.rejection import Rejection, read_rejection
from embbert_tvm.resources import resource

WIDE = "wide"  # in a model folder: the folder of the n-grams whose logits are added to the model's
WEIGHTS_SHA256 = "embbert.weights_sha256"  # keys of model.onnx's metadata_props
MAX_LENGTH = "embbert.max_length"


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk. `labels` is None for regression, which has one output."""

    path: Path
    name: str
    config: ModelConfig
    labels: tuple[str, ...] | None
    rejection: Rejection | None = None  # by what a text has none of the labels
    more: tuple[FurtherHead, ...] = ()  # heads beside the one of the labels

    @property
    def classes(self) -> int:
        return 1 if self.labels is None else len(self.labels)

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def onnx(self) -> Path:
        return self.path / "model.onnx"

    @property
    def tokenizer_path(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def calibration(self) -> Path:
        return self.path / "calibration.json"

    @property
    def trained_precision(self) -> str | None:
        """The precision through whose rounding the model was trained, by its training.json."""
        return trained_precision(self.path)

    @cached_property
    def wide(self) -> ngrams.NgramModel | None:
        """Hashed n-grams of the text, whose logits are added to the model's; None without."""
        return wide_of(self.path, self.labels)

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The checked tokenizer; InputError where it is missing, malformed or not this model's."""
        return load_embbert_tokenizer(self.tokenizer_path, self.config.vocabulary_size)

    def weights_sha256(self) -> str:
        """SHA-256 of model.safetensors, in hexadecimal; InputError where it is missing."""
        check_is_here(self.weights)
        return sha256_of(self.weights)

    def onnx_is_stale(self) -> bool:
        """Whether model.onnx is missing or was exported from other weights than model.safetensors holds.

        Where there is no model.safetensors, model.onnx is all there is and is not stale.
        Raises InputError for a model.onnx that is malformed.
        """
        if not self.onnx.is_file():
            return True
        if not self.weights.is_file():
            return False
        return onnx_metadata(self.onnx).get(WEIGHTS_SHA256) != self.weights_sha256()


def find_model(path: Path) -> Path:
    """The folder of that path, or where there is none, of the shipped model of that name."""
    path = Path(path)
    shipped = resource("models", path.name)
    return shipped if not path.exists() and path == Path(path.name) and shipped.is_dir() else path


def nearest_model(path: Path) -> str:
    """What ends a message about a folder that there is not: the shipped model that was meant, or nothing."""
    return nearest(path.name, (shipped.name for shipped in resource("models").iterdir() if shipped.is_dir()))


def read_folder(path: Path) -> ModelFolder:
    """Read and check config.json; the rest is read when requested. Raises InputError."""
    path = Path(path)
    file = path / "config.json"
    if not path.is_dir():
        raise InputError(f"{path}: no such model folder{nearest_model(path)}")
    check_is_here(file)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}): is {path} a model folder?") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({error})") from error
    architecture = document.get("architecture") if isinstance(document, dict) else None
    if architecture == ngrams.ARCHITECTURE:
        raise InputError(f"{path}: a linear model of n-grams has neither a graph nor weights to train on")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise InputError(f"{file}: architecture {architecture!r} is not known: choose from {', '.join(ARCHITECTURES)}")
    try:
        config = ARCHITECTURES[architecture].from_dict(document.get("config"))
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    name = document.get("name", path.resolve().name)
    if not isinstance(name, str) or not name:
        raise InputError(f"{file}: name must be a string, not {name!r}")
    labels = _labels(document, file)
    more = _heads(document, file, config)
    rejection = _rejection(document, file, labels, more, (path / WIDE).is_dir())
    return ModelFolder(path, name, config, labels, rejection, more)


def wide_of(path: Path, labels: tuple[str, ...] | None) -> ngrams.NgramModel | None:
    """The n-grams that a model folder has beside its model; InputError where they are of other labels."""
    if not (path / WIDE).is_dir():
        return None
    model = ngrams.load_ngram_model(path / WIDE)
    if model.labels != (labels or ()):
        raise InputError(f"{path / WIDE}: has other labels than {path}: train the model again")
    return model


def _labels(document: dict[str, Any], file: Path) -> tuple[str, ...] | None:
    if "labels" not in document:
        raise InputError(f"{file}: has no labels (null for regression)")
    labels = document["labels"]
    if labels is None:
        return None
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(x, str) and x for x in labels):
        raise InputError(f"{file}: labels must be null or a list of two or more strings")
    check_printable(labels, file)
    if len(set(labels)) != len(labels):
        raise InputError(f"{file}: labels holds a label twice")
    return tuple(labels)


def _rejection(
    document: dict[str, Any],
    file: Path,
    labels: tuple[str, ...] | None,
    more: tuple[FurtherHead, ...],
    has_ngrams: bool,
) -> Rejection | None:
    try:
        found = read_rejection(document.get("none_of_these"), len(labels or ()), more, has_ngrams)
    except InputError as error:
        raise InputError(f"{file}: {error}: write it with `embbert-tvm reject`") from None
    if found is not None and labels is None:
        raise InputError(f"{file}: a regression has no labels that a text could have none of")
    return found


def _heads(document: dict[str, Any], file: Path, config: ModelConfig) -> tuple[FurtherHead, ...]:
    try:
        found = read_heads(document.get("heads"))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    layers = getattr(config, "layers", 1)
    for head in found:
        if head.layer is not None and head.layer > layers:
            raise InputError(f"{file}: head {head.name}: reads behind layer {head.layer}, the model has {layers}")
    return found


def trained_precision(folder: Path) -> str | None:
    """What `train --precision` was for the model in a folder; None where its training.json does not say.

    Raises InputError where that is no training record.
    """
    path = folder / "training.json"
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))["recipe"]
        return recipe.get("precision")
    except OSError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{path}: holds no training record: train the model again") from None


def example_of(folder: Path) -> str | None:
    """A text of the model's own kind, by its training.json; None where that does not tell."""
    try:
        example = json.loads((folder / "training.json").read_text(encoding="utf-8")).get("example")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return example if isinstance(example, str) and example.strip() else None


def write_config(folder: ModelFolder) -> None:
    """Write config.json of `folder`."""
    document: dict[str, Any] = {
        "architecture": folder.config.architecture,
        "config": folder.config.to_dict(),
        "labels": None if folder.labels is None else list(folder.labels),
        "name": folder.name,
    }
    if folder.rejection is not None:
        document["none_of_these"] = folder.rejection.to_dict()
    if folder.more:
        document["heads"] = [head.to_dict() for head in folder.more]
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder.path / "config.json", text.encode("utf-8"))


def onnx_metadata(path: Path) -> dict[str, str]:
    """The metadata_props of an ONNX file; InputError where it is not one."""
    import onnx

    check_is_here(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # protobuf's DecodeError, which onnx does not export
        raise InputError(f"{path}: not an ONNX file ({error})") from error
    return {entry.key: entry.value for entry in model.metadata_props}
