"""A model with a smaller vocabulary: its tokenizer, its tables and its statistics numbered anew together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from embbert_tvm.data.calibration_texts import all_texts
from embbert_tvm.data.dataset import Example, read_columns, read_examples
from embbert_tvm.data.files import write_atomically
from embbert_tvm.data.prune_vocabulary import prune_tokenizer, split_otherwise
from embbert_tvm.data.tokenizer import TextTokenizer, encode, id_count, load_tokenizer, save_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import load_calibration, save_calibration, sha256
from embbert_tvm.graph.door.rows_kept import keep_rows
from embbert_tvm.graph.import_onnx import load_onnx, open_door
from embbert_tvm.models.foreign import padding_of, separator_of
from embbert_tvm.models.reference import Reference

_MOST_EXAMPLES = 1000  # examples of a dev set


@dataclass(frozen=True)
class Pruned:
    """What became of a vocabulary.

    split_otherwise: the share of the words of the dev set, or of the corpus where there is none, that have other
    tokens now. accuracy_before, accuracy_after: of the float model on a labelled dev set, None without one.
    """

    tokens_before: int
    tokens_after: int
    split_otherwise: float
    accuracy_before: float | None = None
    accuracy_after: float | None = None


@dataclass(frozen=True)
class Files:
    """A model's files, and what is known of them: ids of the separator and of padding, labels where a text has one."""

    name: str
    onnx: Path
    tokenizer: Path | None
    calibration: Path | None = None
    separator: int | None = None
    padding: int | None = None
    labels: tuple[str, ...] | None = None


def prune_files(
    given: Files, place: Path, corpus: Path, most: int | None, dev: Path | None = None, longest: int | None = None
) -> tuple[Files, Pruned]:
    """The model with the tokens that a corpus needs.

    Args:
        given: stays as it is.
        place: a folder for the files that are made.
        corpus: a labelled TSV or lines of text.
        most: how many tokens there may be at most; None: all that the corpus needs.
        dev: what the report is of: texts, or a labelled TSV, on which accuracy is measured too; None: the corpus.
        longest: tokens of the longest text that is wished.

    Raises:
        InputError: where there is no tokenizer, or the model computes with ids.
    """
    if given.tokenizer is None:
        raise InputError(f"{given.name}: --prune-vocabulary needs a tokenizer.json beside the model")
    tokenizer = load_tokenizer(given.tokenizer)
    texts = [t if p is None else (t, p) for t, p in all_texts(corpus)]
    pruned = prune_tokenizer(tokenizer, texts, most, () if given.padding is None else (given.padding,))
    door = open_door(load_onnx(given.onnx), longest, given.separator, given.padding)
    onnx_path, tokenizer_path = place / "model.onnx", place / "tokenizer.json"
    save_tokenizer(pruned.tokenizer, tokenizer_path)
    write_atomically(onnx_path, keep_rows(door.model, pruned.kept).SerializeToString(deterministic=True))
    calibration = None
    if given.calibration is not None:
        statistics = load_calibration(given.calibration, sha256(given.onnx))
        calibration = place / "calibration.json"
        save_calibration(replace(statistics, onnx_sha256=sha256(onnx_path)), calibration)
    ids = separator_of(tokenizer_path), padding_of(tokenizer_path)
    made = Files(given.name, onnx_path, tokenizer_path, calibration, *ids, given.labels)
    words = [part for pair in all_texts(corpus if dev is None else dev) for part in pair if part is not None]
    report = Pruned(id_count(tokenizer), len(pruned.kept), split_otherwise(tokenizer, pruned, words))
    if dev is None or given.labels is None or read_columns(dev) is None:
        return made, report
    examples = read_examples(dev, given.labels)[:_MOST_EXAMPLES]
    # Both by the model in the one form that is compiled: of the old ids, and of the new.
    models = Reference(door.model.SerializeToString()), Reference(onnx_path)
    before, after = (
        _accuracy(model, coder, examples, given.labels, door.most or longest or 256)
        for model, coder in zip(models, (tokenizer, pruned.tokenizer), strict=True)
    )
    return made, replace(report, accuracy_before=before, accuracy_after=after)


def _accuracy(
    model: Reference, tokenizer: TextTokenizer, examples: Sequence[Example], labels: Sequence[str], longest: int
) -> float:
    texts = [encode(tokenizer, e.text, e.text_pair, longest) for e in examples]
    found = [labels[int(model(ids).argmax())] for ids in texts]
    return float(np.mean([label == example.label for label, example in zip(found, examples, strict=True)]))
