"""A hub's folder as a model folder that is compiled without torch: model.onnx, tokenizer.json, labels, statistics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from embbert_tvm.data.calibration_texts import calibration_ids
from embbert_tvm.data.files import folder_in_place, write_atomically
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import calibrate, save_calibration, sha256
from embbert_tvm.graph.door import Door, normalize
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.heads import REGRESSION, VECTOR
from embbert_tvm.models.foreign import FOREIGN, padding_of, separator_of
from embbert_tvm.models.huggingface import HubFolder, export, read_hub_folder, tokenizer_of
from embbert_tvm.pruning import Files, Pruned, prune_files


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
        door = _write(folder, tokenizer, given, place)
        pruned = None if corpus is None else _prune(place, corpus, most)
        texts = 0 if calibration is None else _calibrate(place, calibration, tokenizer is not None, door.most or 256)
    return Exported(texts, pruned)


def _write(folder: HubFolder, tokenizer: bytes | None, given: onnx.ModelProto, out: Path) -> Door:
    if tokenizer is not None:
        write_atomically(out / "tokenizer.json", tokenizer)
    separator = separator_of(out / "tokenizer.json") if tokenizer is not None else None
    door = normalize(given, separator=separator, keeps_scores=folder.head in (VECTOR, REGRESSION))
    write_atomically(out / "model.onnx", door.model.SerializeToString(deterministic=True))
    labels = None if folder.labels is None else list(folder.labels)
    config = {"architecture": FOREIGN, "head": folder.head, "labels": labels, "name": folder.name}
    write_atomically(out / "config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
    return door


def _prune(folder: Path, corpus: Path, most: int | None) -> Pruned:
    """Put the model with a pruned vocabulary in the place of one that is exported."""
    onnx_path, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
    there = tokenizer if tokenizer.is_file() else None
    given = Files(folder.name, onnx_path, there, None, separator_of(there), padding_of(there))
    with TemporaryDirectory(prefix="embbert-pruned-") as place:
        _, pruned = prune_files(given, Path(place), corpus, most)
        for path in (onnx_path, tokenizer):
            write_atomically(path, (Path(place) / path.name).read_bytes())
    return pruned


def _calibrate(folder: Path, calibration: Path, has_tokenizer: bool, longest: int) -> int:
    """Write the statistics of an exported model; of how many texts they are."""
    ids = calibration_ids(calibration, folder / "tokenizer.json" if has_tokenizer else None, longest)
    mod = simplify(import_onnx(onnx.load(folder / "model.onnx")))
    save_calibration(calibrate(mod, ids, sha256(folder / "model.onnx")), folder / "calibration.json")
    return len(ids)
