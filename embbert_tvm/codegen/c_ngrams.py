"""The C of an `ngrams` model: its table, and what turns UTF-8 into logits with firmware/tokenizer/embbert_ngrams.h."""

from __future__ import annotations

import numpy as np

from embbert_tvm.codegen.templates import substitute, template
from embbert_tvm.data.ngrams import BASE_LETTERS, FOLDS
from embbert_tvm.models.ngrams import NgramModel
from embbert_tvm.resources import firmware

RUNTIME = firmware("tokenizer", "embbert_ngrams.h")
_PER_LINE = 24
_ASCII = 0x80  # the runtime knows these without a table


def ngrams_source(model: NgramModel, prefix: str = "embbert") -> str:
    """C99 with the function

        bool <prefix>_ngrams(const char *utf8, size_t n, const char *pair, size_t pair_n, float logits[classes]);

    which is false where a text is not UTF-8; `pair` is NULL of one text.
    """
    features, columns = model.features, model.columns
    numbers = ", ".join(_float(x) for x in model.bias)
    rows = [
        ", ".join(map(str, row)) for row in np.array_split(model.table.ravel(), max(1, model.table.size // _PER_LINE))
    ]
    final = "logits[0] = -z / 2, logits[1] = z / 2;" if columns == 1 else "logits[c] = z;"
    return substitute(
        template("ngrams.c.in"),
        prefix,
        classes=len(model.labels),
        buckets=features.buckets,
        columns=columns,
        words=features.words,
        shortest=features.shortest,
        longest=features.longest,
        tables=fold_tables(),
        rows=",\n    ".join(rows),
        bias=numbers,
        scale=_float(np.float32(model.scale) * np.float32(4096)),
        final=final,
    )


def fold_tables() -> str:
    """The tables of embbert_ngrams.h that do not depend on the model: what becomes of characters beyond ASCII."""
    folds = [row for row in FOLDS if row[1] >= _ASCII]
    folds = [(max(first, _ASCII), last, kind, added) for first, last, kind, added in folds]
    lines = [f"    {{0x{first:X}, 0x{last:X}, {kind}, {added}}}," for first, last, kind, added in folds]
    bases = [
        f'    {{0x{first:X}, {len(letters)}, "{"".join(x if x.isascii() else "?" for x in letters)}"}},'
        for first, letters in BASE_LETTERS
    ]
    return "\n".join(
        [
            f"#define NGRAMS_FOLDS {len(folds)}",
            f"#define NGRAMS_BASES {len(bases)}",
            "",
            "/* first, last, what they are (NGRAMS_LETTER, ...), and what is added to a letter */",
            "static const struct {",
            "    uint32_t first, last, kind;",
            "    int32_t added;",
            "} ngrams_folds[NGRAMS_FOLDS] = {",
            *lines,
            "};",
            "static const struct { uint32_t first, count; const char *letters; } ngrams_bases[NGRAMS_BASES] = {",
            *bases,
            "};",
        ]
    )


def _float(value: float) -> str:
    """A float32 as a C constant of the same bits."""
    return f"{float(np.float32(value)).hex()}f"
