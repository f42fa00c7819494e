"""A hub's folder as a model folder that is compiled without torch: model.onnx, tokenizer.json, labels, statistics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import onnx
from tokenizers import Tokenizer

from embbert_tvm.data.dataset import calibration_sample, read_columns, read_examples
from embbert_tvm.data.files import folder_in_place, read_lines, write_atomically
from embbert_tvm.data.tokenizer import load_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import calibrate, save_calibration, sha256
from embbert_tvm.graph.door import normalize
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.models.foreign import FOREIGN, separator_of
from embbert_tvm.models.huggingface import HubFolder, export, read_hub_folder, tokenizer_of


def export_hub_folder(path: Path, out: Path, calibration: Path | None = None) -> int:
    """Write the model folder `out` of a hub's folder; gives how many texts its statistics are of.

    calibration: a labelled TSV, or plain text with one text a line. Raises InputError for what cannot be exported.
    """
    folder = read_hub_folder(path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already: name another output")
    tokenizer = tokenizer_of(folder)
    texts = [] if calibration is None else _texts(calibration)
    if texts and tokenizer is None:
        raise InputError(f"{path}: --calibration needs the model's tokenizer, which is not there")
    given = onnx.load_from_string(export(folder))
    with folder_in_place(out) as place:
        _write(folder, tokenizer, given, texts, place)
    return len(texts)


def _write(
    folder: HubFolder, tokenizer: bytes | None, given: onnx.ModelProto, texts: list[tuple[str, str | None]], out: Path
) -> None:
    if tokenizer is not None:
        write_atomically(out / "tokenizer.json", tokenizer)
    door = normalize(given, separator=separator_of(out / "tokenizer.json") if tokenizer is not None else None)
    write_atomically(out / "model.onnx", door.model.SerializeToString(deterministic=True))
    labels = None if folder.labels is None else list(folder.labels)
    config = {"architecture": FOREIGN, "head": folder.head, "labels": labels, "name": folder.name}
    write_atomically(out / "config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
    if texts:
        mod = simplify(import_onnx(door.model))
        ids = _ids(load_tokenizer(out / "tokenizer.json"), texts, door.most or 256)
        save_calibration(calibrate(mod, ids, sha256(out / "model.onnx")), out / "calibration.json")


def _texts(path: Path) -> list[tuple[str, str | None]]:
    """The texts of a file to calibrate on."""
    if read_columns(path) is not None:
        found = [(x.text, x.text_pair) for x in read_examples(path)]
    else:
        found = [(line.strip(), None) for line in read_lines(path) if line.strip()]
    if not found:
        raise InputError(f"{path}: holds no text")
    return calibration_sample(found)


def _ids(tokenizer: Tokenizer, texts: Sequence[tuple[str, str | None]], longest: int) -> list[list[int]]:
    tokenizer.enable_truncation(longest)
    tokenizer.no_padding()
    return [tokenizer.encode(text, pair).ids for text, pair in texts]
