"""What is compiled, and where it is found: a model folder of ours, or an ONNX file."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING

from embbert_tvm.device.package import MAX_LOGITS
from embbert_tvm.errors import InputError
from embbert_tvm.heads import ONE_LABEL, FurtherHead, check_printable, head_named
from embbert_tvm.models.folder import example_of, nearest_model, read_folder, trained_precision, wide_of
from embbert_tvm.models.foreign import FOREIGN, padding_of, separator_of
from embbert_tvm.models.huggingface import is_hub_folder
from embbert_tvm.models.ngrams import NgramModel, relabelled
from embbert_tvm.rejection import Rejection

if TYPE_CHECKING:
    from embbert_tvm.pruning import Pruned


@dataclass(frozen=True)
class ModelSource:
    """What is compiled: an ONNX file with what is known beside it."""

    name: str
    onnx: Path
    # None where they have no names, and for regression, which has one output
    labels: tuple[str, ...] | None
    tokenizer: Path | None
    calibration: Path | None
    trained_precision: str | None = None  # the one through whose rounding it was trained
    # the id after which the second of two texts begins, for a model that has token types
    separator: int | None = None
    # the id that fills a text up to a model's one length, None where the tokenizer has none
    padding: int | None = None
    # what its outputs are, one of HEADS; None where only their number says
    head: str | None = None
    # by what a text has none of the labels, where one label is given
    rejection: Rejection | None = None
    # hashed n-grams of the whole text, whose logits are added to the model's
    wide: NgramModel | None = None
    # heads beside the first
    more: tuple[FurtherHead, ...] = ()
    # a text of its own kind, None where it is not known
    example: str | None = None

    @property
    def most_tokens(self) -> int | None:
        """Tokens whose logits of further heads fit in a reply of the device; None without such heads."""
        a_token = sum(head.values for head in self.more if head.of_tokens)
        of_the_text = len(self.labels or "1") + sum(head.values for head in self.more if not head.of_tokens)
        return max(1, (MAX_LOGITS - of_the_text) // a_token) if a_token else None


def find_source(path: Path, labels: str | None = None) -> ModelSource:
    """A model folder, a hub's folder, or an ONNX file, with tokenizer.json and calibration.json beside it, if they are.

    A folder whose model.onnx is older than its weights is exported anew where torch is installed. labels: names of
    the classes in the place of the model's own, as `read_labels` takes them. Raises InputError for what is neither.
    """
    source = _source(path)
    if labels is None:
        return source
    names = read_labels(labels)
    return replace(source, labels=names, wide=source.wide and relabelled(source.wide, names))


def _source(path: Path) -> ModelSource:
    if path.is_dir() and is_hub_folder(path):
        return _exported(path)
    if path.is_dir() and (found := _foreign(path)) is not None:
        return found
    if path.is_dir():
        from embbert_tvm.graph.onnx_export import fresh_onnx

        folder = read_folder(path)
        files = (folder.tokenizer_path, folder.calibration)
        return ModelSource(
            folder.name,
            fresh_onnx(folder),
            folder.labels,
            *files,
            folder.trained_precision,
            rejection=folder.rejection,
            more=folder.more,
            wide=wide_of(path, folder.labels),
            example=example_of(path),
        )
    if not path.exists():
        raise InputError(f"{path}: no such model folder or ONNX file{nearest_model(path)}")

    def beside(name: str) -> Path | None:
        return path.with_name(name) if path.with_name(name).is_file() else None

    tokenizer = beside("tokenizer.json")
    files = (tokenizer, beside("calibration.json"))
    own = trained_precision(path.parent), separator_of(tokenizer), padding_of(tokenizer)
    return ModelSource(path.stem, path, None, *files, *own)


def _foreign(path: Path) -> ModelSource | None:
    """A folder that `export` has written of a hub's; None for another."""
    try:
        document = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("architecture") != FOREIGN:
        return None
    labels, head = document.get("labels"), head_named(document.get("head"))
    name = document.get("name", path.resolve().name)
    named = isinstance(labels, list) and all(isinstance(x, str) for x in labels)
    if not (labels is None or named) or head is None or not isinstance(name, str):
        raise InputError(f"{path / 'config.json'}: labels, head or name are not what `export` writes: export it again")
    check_printable(labels or (), path / "config.json")

    def there(file: str) -> Path | None:
        return path / file if (path / file).is_file() else None

    tokenizer = there("tokenizer.json")
    files = (None if labels is None else tuple(labels), tokenizer, there("calibration.json"))
    own = None, separator_of(tokenizer), padding_of(tokenizer), head
    return ModelSource(name, path / "model.onnx", *files, *own, wide=wide_of(path, files[0]))


def folder_while_running(prefix: str) -> Path:
    """A new folder that lives as long as this process."""
    place = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def _exported(path: Path) -> ModelSource:
    """A hub's folder, exported to where it lives as long as this process."""
    from embbert_tvm.hub_export import export_hub_folder

    place = folder_while_running("embbert-hub-")
    export_hub_folder(path, place / "model")
    return _foreign(place / "model")


def pruned_source(
    source: ModelSource, corpus: Path, most: int | None, dev: Path | None, longest: int | None
) -> tuple[ModelSource, Pruned]:
    """A model with the tokens alone that a corpus needs, and what that changed; arguments as of `prune_files`."""
    from embbert_tvm.pruning import Files, prune_files

    labels = source.labels if source.head in (None, ONE_LABEL) else None
    files = source.tokenizer, source.calibration
    given = Files(source.name, source.onnx, *files, source.separator, source.padding, labels)
    made, report = prune_files(given, folder_while_running("embbert-pruned-"), corpus, most, dev, longest)
    return (
        replace(
            source,
            onnx=made.onnx,
            tokenizer=made.tokenizer,
            calibration=made.calibration,
            separator=made.separator,
            padding=made.padding,
        ),
        report,
    )


def read_labels(given: str) -> tuple[str, ...]:
    """The labels that `--labels` names: a file with one a line, or a list with commas. Raises InputError."""
    if isfile(given):  # which takes a list of many names for no file
        try:
            labels = Path(given).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeError) as error:
            raise InputError(f"--labels {given}: cannot be read ({error})") from None
        labels = labels[:-1] if labels[-1] == "" else labels
    elif "," in given:
        labels = given.split(",")
    else:
        raise InputError(f"--labels {given}: no such file: give a file with one label a line, or names as a,b,c")
    labels = [label.strip() for label in labels]
    if not all(labels) or len(set(labels)) != len(labels):
        raise InputError(f"--labels {given}: a label is empty or there twice")
    check_printable(labels, f"--labels {given}")
    return tuple(labels)
