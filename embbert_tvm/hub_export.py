"""A hub's folder as a model folder that is compiled without torch: model.onnx, tokenizer.json, labels, statistics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import onnx

from embbert_tvm.data.calibration_texts import calibration_ids
from embbert_tvm.data.files import folder_in_place, write_atomically
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import calibrate, save_calibration, sha256
from embbert_tvm.graph.door import normalize
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.heads import REGRESSION, VECTOR
from embbert_tvm.models.foreign import FOREIGN, separator_of
from embbert_tvm.models.huggingface import HubFolder, export, read_hub_folder, tokenizer_of
from embbert_tvm.pruning import Pruned, prune_source
from embbert_tvm.source import find_source


@dataclass(frozen=True)
class Exported:
    """What an export has done: how many texts its statistics are of, and what became of the vocabulary, if it was
    pruned."""

    calibration_texts: int
    pruned: Pruned | None = None


def export_hub_folder(
    path: Path, out: Path, calibration: Path | None = None, corpus: Path | None = None, most: int | None = None
) -> Exported:
    """Write the model folder `out` of a hub's folder.

    Args:
        path: the hub's folder.
        out: new or empty.
        calibration: a labelled TSV, lines of text, or token ids, for statistics.
        corpus: likewise texts; the tokens alone that these need are kept.
        most: of a corpus, how many tokens at most.

    Raises:
        InputError: for what cannot be exported.
    """
    folder = read_hub_folder(path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already: name another output")
    tokenizer = tokenizer_of(folder)
    given = onnx.load_from_string(export(folder))
    with folder_in_place(out) as place:
        return _write(folder, tokenizer, given, place, Wish(calibration, corpus, most))


@dataclass(frozen=True)
class Wish:
    """What is asked of an export beside the model."""

    calibration: Path | None
    corpus: Path | None
    most: int | None


def _write(folder: HubFolder, tokenizer: bytes | None, given: onnx.ModelProto, out: Path, wish: Wish) -> Exported:
    if tokenizer is not None:
        write_atomically(out / "tokenizer.json", tokenizer)
    where = out / "tokenizer.json" if tokenizer is not None else None
    door = normalize(given, separator=separator_of(where), keeps_scores=folder.head in (VECTOR, REGRESSION))
    write_atomically(out / "model.onnx", door.model.SerializeToString(deterministic=True))
    labels = None if folder.labels is None else list(folder.labels)
    config = {"architecture": FOREIGN, "head": folder.head, "labels": labels, "name": folder.name}
    write_atomically(out / "config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
    pruned = None if wish.corpus is None else _prune(out, wish.corpus, wish.most)
    if wish.calibration is None:
        return Exported(0, pruned)
    ids = calibration_ids(wish.calibration, where, door.most or 256)
    mod = simplify(import_onnx(onnx.load(out / "model.onnx")))
    save_calibration(calibrate(mod, ids, sha256(out / "model.onnx")), out / "calibration.json")
    return Exported(len(ids), pruned)


def _prune(folder: Path, corpus: Path, most: int | None) -> Pruned:
    """Put the model with a pruned vocabulary in the place of one that is exported."""
    source = find_source(folder)
    made, pruned = prune_source(source, corpus, most, None, None)
    for old, new in ((folder / "model.onnx", made.onnx), (folder / "tokenizer.json", made.tokenizer)):
        if new is not None:
            write_atomically(old, new.read_bytes())
    return pruned
