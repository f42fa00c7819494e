"""The C of a linear model of hashed n-grams: <prefix>_linear.c, which firmware/tokenizer/embbert_ngrams.h computes for.

A package of nothing else takes the bytes of UTF-8 as its token ids, so that whatever speaks of ids, the protocol, the
reference vectors and the known answer, speaks of texts; its classify() streams. Beside a model of tokens it adds to
that model's logits.
"""

from __future__ import annotations

import numpy as np

from embbert_tvm.codegen.c_api import substitute
from embbert_tvm.codegen.c_expressions import real
from embbert_tvm.data.ngrams import BASE_LETTERS, FOLDS
from embbert_tvm.escape import c_comment
from embbert_tvm.models.ngrams import NEXT_TEXT, NgramModel
from embbert_tvm.resources import firmware

RUNTIME = firmware("tokenizer", "embbert_ngrams.h")
_ASCII = 0x80  # the runtime knows these without a table

_HEADER = """\
/* @TITLE@: a linear model of hashed n-grams. Made by embbert-tvm; do not edit. */
#ifndef @UPPER@_LINEAR_H
#define @UPPER@_LINEAR_H

#include <stddef.h>
#include <stdint.h>

/* Add the logits of n bytes of UTF-8, and of a second text unless pair is NULL, to `logits`. */
void @PREFIX@_linear_add(const char *utf8, size_t n, const char *pair, size_t pair_n, float *restrict logits);

/* The logits of L bytes, zeros of none; @NEXT_TEXT@ in the place of a byte begins the second text. */
void @PREFIX@_linear(int32_t L, const int32_t *restrict bytes, float *restrict logits);

#endif
"""

_SOURCE = """\
/* @TITLE@: a linear model of hashed n-grams. Made by embbert-tvm; do not edit.
 *
 * logits = @FORMULA@
 *
 * over the n features of the text: words, @WORDS@ in a row, and @CHARACTERS@, hashed to @BUCKETS@ rows. */
#include "@PREFIX@_linear.h"

#include "@PREFIX@_weights.h"

#include <stdbool.h>

#define NGRAMS_BUCKETS @BUCKETS@u
#define NGRAMS_COLUMNS @COLUMNS@
#define NGRAMS_WORDS @ORDER@
#define NGRAMS_SHORTEST @SHORTEST@
#define NGRAMS_LONGEST @LONGEST@
#define NGRAMS_EMIT(state, bucket) ngrams_add_row((state)->sums, bucket)

@TABLES@

static inline void ngrams_add_row(int32_t *sums, uint32_t bucket)
{
    const int8_t *row = &@PREFIX@_linear_table[bucket * NGRAMS_COLUMNS];
    for (int c = 0; c < NGRAMS_COLUMNS; c++) {
        sums[c] += row[c];
    }
}

#include "embbert_ngrams.h"

static void add_logits(const ngrams_t *state, float *restrict logits)
{
    /* sum * scale / sqrt(features), the scale times 4096 as the root is */
    const uint32_t features = state->count > 0 ? state->count : 1;
    const float factor = @FACTOR@ / (float)ngrams_root(features);
@LOGITS@
}

/* A text that comes as bytes, or, where utf8 is NULL, as one number a byte. */
static void read_text(ngrams_t *state, bool second, const char *utf8, const int32_t *bytes, size_t n)
{
    ngrams_start(state, second);
    for (size_t i = 0; i < n; i++) {
        ngrams_byte(state, utf8 != NULL ? (uint8_t)utf8[i] : (uint32_t)bytes[i]);
    }
    ngrams_end(state);
}

void @PREFIX@_linear_add(const char *utf8, size_t n, const char *pair, size_t pair_n, float *restrict logits)
{
    ngrams_t state;
    ngrams_begin(&state);
    read_text(&state, false, utf8, NULL, utf8 != NULL ? n : 0);
    if (pair != NULL) {
        read_text(&state, true, pair, NULL, pair_n);
    }
    add_logits(&state, logits);
}

void @PREFIX@_linear(int32_t L, const int32_t *restrict bytes, float *restrict logits)
{
    ngrams_t state;
    ngrams_begin(&state);
    for (int32_t first = 0, i = 0; i <= L; i++) {
        if (i == L || bytes[i] == @NEXT_TEXT@) {
            read_text(&state, first > 0, NULL, bytes + first, (size_t)(i - first));
            first = i + 1;
        }
    }
    for (int c = 0; c < @CLASSES@; c++) {
        logits[c] = 0.0f;
    }
    if (L > 0) {
        add_logits(&state, logits);
    }
}
"""

_PLAIN = """\
    for (int c = 0; c < NGRAMS_COLUMNS; c++) {
        float z = (float)state->sums[c] * factor;
        z += @PREFIX@_linear_bias[c];
@FINAL@
    }"""

_PROJECTED = """\
    float scaled[NGRAMS_COLUMNS];
    for (int r = 0; r < NGRAMS_COLUMNS; r++) {
        scaled[r] = (float)state->sums[r] * factor;
    }
    for (int c = 0; c < @OUTPUTS@; c++) {
        float z = @PREFIX@_linear_bias[c];
        for (int r = 0; r < NGRAMS_COLUMNS; r++) {
            float term = scaled[r] * (float)@PREFIX@_linear_projection[r * @OUTPUTS@ + c];
            z += term;
        }
@FINAL@
    }"""

_OF_TWO = "        logits[0] += -z / 2;\n        logits[1] += z / 2;"

# Of a package of nothing else, in the place of the functions that call a tokenizer.
BYTES_TEXT = """\
@PREFIX@_status_t @PREFIX@_tokenize(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair, size_t pair_n,
                              int32_t *ids, size_t *tokens, bool *truncated)
{
    if (model == NULL || (utf8 == NULL && n > 0) || (pair == NULL && pair_n > 0)) {
        return @UPPER@_E_ARGUMENT;
    }
    if (ids == NULL || tokens == NULL || truncated == NULL) {
        return @UPPER@_E_ARGUMENT;
    }
    if (model->arena == NULL) {
        return @UPPER@_E_INIT;
    }
    /* The longer text is cut first, the second of equals; texts of one length share what there is. */
    const size_t room = pair == NULL ? @UPPER@_MAX_LENGTH : @UPPER@_MAX_LENGTH - 1;
    *truncated = n > room || pair_n > room - n;
    if (*truncated) {
        const size_t half = room / 2;
        const size_t less = n < pair_n ? n : pair_n, kept = less < half ? less : half;
        const size_t first = n <= pair_n ? kept : room - kept;
        n = first;
        pair_n = room - first;
    }
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        ids[count++] = (uint8_t)utf8[i];
    }
    if (pair != NULL) {
        ids[count++] = @NEXT_TEXT@;
        for (size_t i = 0; i < pair_n; i++) {
            ids[count++] = (uint8_t)pair[i];
        }
    }
    *tokens = count;
    return @UPPER@_OK;
}

@PREFIX@_status_t @PREFIX@_begin(@PREFIX@_t *model, const char *utf8, size_t n, const char *pair, size_t pair_n)
{
    if (model == NULL || (utf8 == NULL && n > 0) || (pair == NULL && pair_n > 0)) {
        return @UPPER@_E_ARGUMENT;
    }
    if (model->arena == NULL) {
        return @UPPER@_E_INIT;
    }
    model->step = STEPS;
    if (n == 0 && pair == NULL) {
        return @UPPER@_E_LENGTH;
    }
    model->ids = NULL;
    model->length = 0; /* the text is read here, whatever its length */
    model->step = model->iteration = 0;
    model->truncated = false;
@WITH_TEXT@    return @UPPER@_OK;
}

@ANSWER@"""

# How many tokens a result is of, where the n-grams are all there is.
TOKENS = "model->has_text ? model->bytes : (size_t)model->length"
# Parts of <prefix>_model.c: what begins with a text, what with ids, and what is done with the logits at the end.
WITH_TEXT = """\
    for (size_t i = 0; i < @UPPER@_CLASSES; i++) {
        model->linear[i] = 0.0f;
    }
    @PREFIX@_linear_add(utf8, n, pair, pair_n, model->linear); /* of the whole text, whatever is cut */
    model->has_text = true;
    model->bytes = n + (pair == NULL ? 0 : pair_n + 1);
"""
WITHOUT_TEXT = "    model->has_text = false;\n"
ADD = """\
/* Add what a text's n-grams say to the logits of the inference that is done. */
static void add_linear(const @PREFIX@_t *model, float *logits)
{
    if (model->has_text) {
        for (size_t i = 0; i < @UPPER@_CLASSES; i++) {
            logits[i] += model->linear[i];
        }
    }
}

"""
ADDED = "    add_linear(model, logits);\n"


def bytes_text() -> str:
    """What `entry` prints of texts where the n-grams are all there is."""
    return BYTES_TEXT.replace("@NEXT_TEXT@", str(NEXT_TEXT))


def constants(model: NgramModel) -> dict[str, np.ndarray]:
    """The arrays of <prefix>_weights.c, by their names without the prefix."""
    found = {"linear_table": model.table, "linear_bias": model.bias}
    return found if model.projection is None else found | {"linear_projection": model.projection}


def files(model: NgramModel, prefix: str, title: str) -> dict[str, str]:
    """<prefix>_linear.h, <prefix>_linear.c and the header that it includes, by name."""
    features, outputs = model.features, len(model.bias)
    projected = model.projection is not None
    final = _OF_TWO if len(model.labels) == 2 else "        logits[c] += z;"
    logits = substitute(_PROJECTED if projected else _PLAIN, prefix, final=final, outputs=outputs)
    runs = f"{features.shortest} to {features.longest} characters of a word" if features.longest else "no characters"
    source = substitute(
        _SOURCE,
        prefix,
        title=c_comment(title),
        formula="bias + (table[bucket 1] + ... + table[bucket n])" + " projection" * projected + " scale / sqrt(n)",
        words=f"1 to {features.words}" if features.words > 1 else "1",
        characters=runs,
        buckets=features.buckets,
        columns=model.table.shape[1],
        order=features.words,
        shortest=features.shortest,
        longest=features.longest,
        tables=fold_tables(),
        factor=real(float(np.float32(model.scale) * np.float32(4096))),
        logits=logits,
        classes=len(model.labels),
        next_text=NEXT_TEXT,
    )
    return {
        f"{prefix}_linear.h": substitute(_HEADER, prefix, title=c_comment(title), next_text=NEXT_TEXT),
        f"{prefix}_linear.c": source,
        RUNTIME.name: RUNTIME.read_text(encoding="utf-8"),
    }


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
