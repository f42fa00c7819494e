"""A hub's folder as a model folder that is compiled without torch: model.onnx, tokenizer.json, labels, statistics."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from embbert_tvm.data.calibration_texts import calibration_ids
from embbert_tvm.data.files import write_atomically
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import calibrate, save_calibration, sha256
from embbert_tvm.graph.door import normalize
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.heads import REGRESSION, VECTOR
from embbert_tvm.models.huggingface import export, read_hub_folder, tokenizer_of
from embbert_tvm.source import FOREIGN, separator_of


def export_hub_folder(path: Path, out: Path, calibration: Path | None = None) -> int:
    """Write the model folder `out` of a hub's folder; gives how many texts its statistics are of.

    calibration: a labelled TSV, or plain text with one text a line. Raises InputError for what cannot be exported.
    """
    folder = read_hub_folder(path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already: name another output")
    tokenizer = tokenizer_of(folder)
    given = onnx.load_from_string(export(folder))
    out.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        write_atomically(out / "tokenizer.json", tokenizer)
    where = out / "tokenizer.json" if tokenizer is not None else None
    door = normalize(given, separator=separator_of(where), keeps_scores=folder.head in (VECTOR, REGRESSION))
    write_atomically(out / "model.onnx", door.model.SerializeToString(deterministic=True))
    labels = None if folder.labels is None else list(folder.labels)
    config = {"architecture": FOREIGN, "head": folder.head, "labels": labels, "name": folder.name}
    write_atomically(out / "config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
    if calibration is None:
        return 0
    ids = calibration_ids(calibration, where, door.most or 256)
    mod = simplify(import_onnx(door.model))
    save_calibration(calibrate(mod, ids, sha256(out / "model.onnx")), out / "calibration.json")
    return len(ids)
