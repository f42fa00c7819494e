"""The C of a linear model of hashed n-grams: <prefix>_linear.c, which firmware/tokenizer/embbert_ngrams.h computes for.

A package of nothing else takes the bytes of UTF-8 as its token ids, so that whatever speaks of ids, the protocol, the
reference vectors and the known answer, speaks of texts; its classify() streams. Beside a model of tokens it adds to
that model's logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from embbert_tvm.codegen.c_api import LINKED
from embbert_tvm.codegen.c_expressions import real
from embbert_tvm.codegen.micro_headers import used_parts
from embbert_tvm.codegen.templates import fill, substitute, template
from embbert_tvm.data.ngrams import BASE_LETTERS, FOLDS
from embbert_tvm.escape import c_comment
from embbert_tvm.models.ngrams import NEXT_TEXT, NgramModel
from embbert_tvm.resources import firmware

RUNTIME = firmware("tokenizer", "embbert_ngrams.h")
_ASCII = 0x80  # the runtime knows these without a table

# Where the rows are that are added: constants of the firmware, or where the state of a text says.
_TABLE = template("linear_emit_row.c.in")
# A bucket's number spells the row: the signs and the places of its two numbers.
_SIGNS = template("linear_emit_signs.c.in")
_TABLE_OF_STATE = template("linear_emit_row_of_state.c.in")

_HEADER = template("linear.h.in")
_SOURCE = template("linear.c.in")
_PLAIN = template("linear_plain.c.in").rstrip("\n")
_PROJECTED = template("linear_projected.c.in").rstrip("\n")
_FINAL = template("linear_final.c.in").rstrip("\n")
_FINAL_OF_TWO = template("linear_final_two.c.in").rstrip("\n")
_FOLDS = template("linear_folds.c.in").rstrip("\n")

# Of a package of nothing else, in the place of the functions that call a tokenizer.
_BYTES_TEXT = template("tokenize_bytes.c.in").rstrip("\n")
# Parts of <prefix>_model.c: what begins with a text, what with ids, and what is done with the logits at the end.
WITH_TEXT = template("linear_begin.c.in")
WITHOUT_TEXT = template("linear_begin_ids.c.in")
ADD = template("linear_add.c.in") + "\n"
ADDED = template("linear_added.c.in")


@dataclass(frozen=True)
class _Rows:
    """C that adds a row, what is done with a bucket, and what begins a text; and the sum as the formula has it."""

    add: str
    emit: str
    begin: str
    sum: str


_STORED = _Rows(template("linear_add_row.c.in").rstrip("\n"), _TABLE, "", "table[bucket 1] + ... + table[bucket n]")
_IN_BLOB = replace(_STORED, emit=_TABLE_OF_STATE, begin=template("linear_begin_state.c.in"))
_SIGNED = _Rows(template("linear_add_signs.c.in").rstrip("\n"), _SIGNS, "", "signs(bucket 1) + ... + signs(bucket n)")


def bytes_text() -> str:
    """What `entry` prints of texts where the n-grams are all there is."""
    return _BYTES_TEXT.replace("@NEXT_TEXT@", str(NEXT_TEXT))


def constants(model: NgramModel) -> dict[str, np.ndarray]:
    """The arrays of <prefix>_weights.c, by their names without the prefix."""
    arrays = {"linear_table": model.table, "linear_bias": model.bias, "linear_projection": model.projection}
    return {name: array for name, array in arrays.items() if array is not None}


def factor(model: NgramModel) -> float:
    """What a sum is multiplied by, over the root of the features in 4096ths."""
    return float(np.float32(model.scale) * np.float32(4096))


def files(
    model: NgramModel, prefix: str, title: str, places: Mapping[str, object] = LINKED, in_blob: bool = False
) -> dict[str, str]:
    """<prefix>_linear.h, <prefix>_linear.c and the header that it includes, by name. places: where the weights lie;
    in_blob: whether that is a blob, whose fields' names are those of `constants`."""
    features, outputs = model.features, len(model.bias)
    projected = model.projection is not None
    final = _FINAL_OF_TWO if len(model.labels) == 2 else _FINAL
    own = "blob->" if in_blob else f"{prefix}_"
    rows = _SIGNED if model.table is None else _IN_BLOB if in_blob else _STORED
    arrays = {name: f"{own}{name}" for name in ("linear_table", "linear_bias", "linear_projection")}
    logits = substitute(_PROJECTED if projected else _PLAIN, prefix, final=final, outputs=outputs, **arrays)
    runs = f"{features.shortest} to {features.longest} characters of a word" if features.longest else "no characters"
    source = substitute(
        _SOURCE,
        prefix,
        title=c_comment(title),
        formula=f"bias + ({rows.sum})" + " projection" * projected + " scale / sqrt(n)",
        add=rows.add,
        words=f"1 to {features.words}" if features.words > 1 else "1",
        characters=runs,
        buckets=features.buckets,
        columns=model.columns,
        order=features.words,
        shortest=features.shortest,
        longest=features.longest,
        tables=fold_tables(),
        factor="blob->linear_factor[0]" if in_blob else real(factor(model)),
        table=rows.emit,
        table_of_state=rows.begin,
        blob_name="blob, " if in_blob else "",
        **places,
        logits=logits,
        classes=len(model.labels) or outputs,
        next_text=NEXT_TEXT,
    )
    runtime = {RUNTIME.name: RUNTIME.read_text(encoding="utf-8")}
    return {
        f"{prefix}_linear.h": substitute(_HEADER, prefix, title=c_comment(title), next_text=NEXT_TEXT, **places),
        f"{prefix}_linear.c": source,
        **used_parts(runtime, source),
    }


def fold_tables() -> str:
    """The tables of embbert_ngrams.h that do not depend on the model: what becomes of characters beyond ASCII."""
    folds = [row for row in FOLDS if row[1] >= _ASCII]
    folds = [(max(first, _ASCII), last, kind, added) for first, last, kind, added in folds]
    rows = [f"    {{0x{first:X}, 0x{last:X}, {kind}, {added}}}," for first, last, kind, added in folds]
    bases = [
        f'    {{0x{first:X}, {len(letters)}, "{"".join(x if x.isascii() else "?" for x in letters)}"}},'
        for first, letters in BASE_LETTERS
    ]
    return fill(_FOLDS, fold_count=len(rows), base_count=len(bases), folds="\n".join(rows), bases="\n".join(bases))
