"""What a model is calibrated on: texts, a line each or labelled, or token ids where there is no tokenizer."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embbert_tvm.data.dataset import calibration_sample, read_columns, read_examples
from embbert_tvm.data.files import read_lines
from embbert_tvm.data.tokenizer import encode, load_tokenizer
from embbert_tvm.errors import InputError

_IDS = (".npz", ".jsonl")


def calibration_ids(path: Path, tokenizer: Path | None, longest: int) -> list[list[int]]:
    """Token ids of the texts of a file that a model is calibrated on, each cut to `longest`.

    path: a labelled TSV or lines of text, for which a tokenizer is needed; or token ids: arrays of an .npz, of which
    one of two dimensions holds a text a row, or .jsonl with a list of ids a line.
    """
    if path.suffix in _IDS:
        texts = _npz(path) if path.suffix == ".npz" else _json_lines(path)
        if not texts:
            raise InputError(f"{path}: holds no text")
        return [ids[:longest] for ids in calibration_sample(texts)]
    if tokenizer is None:
        raise InputError(
            f"{path}: --calibration with texts needs a tokenizer.json beside the model; without one give token ids, as "
            ".npz or .jsonl"
        )
    loaded = load_tokenizer(tokenizer)
    return [encode(loaded, text, pair, longest) for text, pair in calibration_sample(all_texts(path))]


def all_texts(path: Path) -> list[tuple[str, str | None]]:
    """Texts and pairs of a labelled TSV or of lines of text. Raises InputError where there is none."""
    if read_columns(path) is not None:
        return [(x.text, x.text_pair) for x in read_examples(path)]
    found: list[tuple[str, str | None]] = [(line.strip(), None) for line in read_lines(path) if line.strip()]
    if not found:
        raise InputError(f"{path}: holds no text")
    return found


def check_ids(path: Path, texts: Sequence[Sequence[int]], vocabulary: int, least: int, most: int) -> None:
    """InputError for ids or lengths that the model does not take."""
    for number, ids in enumerate(texts, 1):
        if not least <= len(ids) <= most:
            raise InputError(f"{path}: text {number} has {len(ids)} token ids, the model takes {least} to {most}")
        wrong = next((i for i in ids if not 0 <= i < vocabulary), None)
        if wrong is not None:
            raise InputError(f"{path}: text {number} has the token id {wrong}, the model knows 0 to {vocabulary - 1}")


def _npz(path: Path) -> list[list[int]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[name] for name in file.files]
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path}: not an .npz of numbers ({error})") from None
    if any(a.dtype.kind not in "iu" or a.ndim not in (1, 2) for a in arrays):
        raise InputError(f"{path}: its arrays must hold whole numbers in one or two dimensions: token ids")
    return [row.astype(int).tolist() for a in arrays for row in (a if a.ndim == 2 else a[None])]


def _json_lines(path: Path) -> list[list[int]]:
    found = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            ids = json.loads(line)
        except ValueError:
            ids = None
        if not isinstance(ids, list) or not all(type(i) is int for i in ids):
            raise InputError(f"{path}, line {number}: must be a list of token ids, as [101, 7592, 102]")
        found.append(ids)
    return found
