"""A model with a smaller vocabulary: its tokenizer, its tables and its statistics numbered anew together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from embbert_tvm.data.calibration_texts import all_texts
from embbert_tvm.data.dataset import read_columns, read_examples
from embbert_tvm.data.files import write_atomically
from embbert_tvm.data.prune_vocabulary import PrunedTokenizer, prune_tokenizer, split_otherwise
from embbert_tvm.data.tokenizer import encode, id_count, load_tokenizer, save_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import load_calibration, save_calibration, sha256
from embbert_tvm.graph.door.rows_kept import keep_rows
from embbert_tvm.graph.import_onnx import load_onnx, open_door
from embbert_tvm.heads import ONE_LABEL
from embbert_tvm.models.foreign import padding_of, separator_of
from embbert_tvm.models.reference import Reference
from embbert_tvm.source import ModelSource, folder_while_running

_MOST_JUDGED = 1000  # examples of a dev set


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


def prune_source(
    source: ModelSource, corpus: Path, most: int | None, dev: Path | None, longest: int | None
) -> tuple[ModelSource, Pruned]:
    """The model with the tokens that a corpus needs, as files that live as long as this process.

    Args:
        source: stays as it is.
        corpus: a labelled TSV or lines of text.
        most: how many tokens there may be at most; None: all that the corpus needs.
        dev: what the report is of: texts, or a labelled TSV, on which accuracy is measured too.
        longest: tokens of the longest text that is wished.

    Raises:
        InputError: where there is no tokenizer, or the model computes with ids.
    """
    if source.tokenizer is None:
        raise InputError(f"{source.name}: --prune-vocabulary needs a tokenizer.json beside the model")
    tokenizer = load_tokenizer(source.tokenizer)
    texts = [t if p is None else (t, p) for t, p in all_texts(corpus)]
    pruned = prune_tokenizer(tokenizer, texts, most, () if source.padding is None else (source.padding,))
    door = open_door(load_onnx(source.onnx), longest, source.separator, source.padding)
    place = folder_while_running("embbert-pruned-")
    onnx_path, tokenizer_path = place / "model.onnx", place / "tokenizer.json"
    save_tokenizer(pruned.tokenizer, tokenizer_path)
    write_atomically(onnx_path, keep_rows(door.model, pruned.kept).SerializeToString(deterministic=True))
    calibration = None
    if source.calibration is not None:
        statistics = load_calibration(source.calibration, sha256(source.onnx))
        calibration = place / "calibration.json"
        save_calibration(replace(statistics, onnx_sha256=sha256(onnx_path)), calibration)
    made = replace(
        source,
        onnx=onnx_path,
        tokenizer=tokenizer_path,
        calibration=calibration,
        separator=separator_of(tokenizer_path),
        padding=padding_of(tokenizer_path),
    )
    return made, _judged(source, made, tokenizer, pruned, corpus if dev is None else dev, door.most or longest or 256)


def _judged(
    source: ModelSource, made: ModelSource, tokenizer: Tokenizer, pruned: PrunedTokenizer, texts: Path, longest: int
) -> Pruned:
    words = [part for pair in all_texts(texts) for part in pair if part is not None]
    found = Pruned(id_count(tokenizer), len(pruned.kept), split_otherwise(tokenizer, pruned, words))
    labels = source.labels
    if labels is None or source.head not in (None, ONE_LABEL) or read_columns(texts) is None:
        return found
    examples = read_examples(texts, labels)[:_MOST_JUDGED]
    # Both by the model in the one form that is compiled: of the old ids, and of the new.
    old = Reference(open_door(load_onnx(source.onnx), longest, source.separator).model.SerializeToString())
    before = _accuracy(old, [encode(tokenizer, e.text, e.text_pair, longest) for e in examples], labels, examples)
    new = Reference(made.onnx)
    after = _accuracy(
        new, [encode(pruned.tokenizer, e.text, e.text_pair, longest) for e in examples], labels, examples
    )  # fmt: skip
    return replace(found, accuracy_before=before, accuracy_after=after)


def _accuracy(model: Reference, texts: Sequence[list[int]], labels: Sequence[str], examples: Sequence) -> float:
    found = [labels[int(model(ids).argmax())] for ids in texts]
    return float(np.mean([label == example.label for label, example in zip(found, examples, strict=True)]))
