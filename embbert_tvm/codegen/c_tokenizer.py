"""The tokenizer's C: the tables of a tokenizer.json in front of the runtime of firmware/tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import embbert_tvm.firmware as firmware
from embbert_tvm.codegen import c_api
from embbert_tvm.codegen.tokenizer_scheme import Scheme
from embbert_tvm.codegen.tokenizer_tables import NONE, byte_tokens, character_tables, pair_tables, settles, smallest
from embbert_tvm.data.tokenizer import CLS, SEP

RUNTIME = Path(next(iter(firmware.__path__))) / "tokenizer" / "embbert_bpe.h"
WINDOW = 256  # symbols of a word that are merged together
MARKS = 32  # combining marks in a run, under NFD
WINDOW_BYTES = 4 * WINDOW

_HEADER = """\
/* @TITLE@: the tokenizer. Made by embbert-tvm; do not edit. */
#ifndef @UPPER@_TOKENIZER_H
#define @UPPER@_TOKENIZER_H

#include "@PREFIX@.h"

#define @UPPER@_WINDOW_BYTES @WINDOW_BYTES@

/* @PREFIX@_tokenize() with its arguments checked. window: @UPPER@_WINDOW_BYTES bytes, aligned to 2. */
@PREFIX@_status_t @PREFIX@_tokenizer(uint8_t *window, const char *utf8, size_t n, const char *pair, size_t pair_n,
                               int32_t *ids, size_t *tokens, bool *truncated);

#endif
"""

_SOURCE = """\
/* @TITLE@: the tokenizer, @VOCABULARY@ tokens and @MERGES@ merges (embbert-tvm's docs/tokenizer.md).
 * Made by embbert-tvm; do not edit. */
#include "@PREFIX@_tokenizer.h"

@OPTIONS@

@TABLES@

@FUNCTIONS@

#include "embbert_bpe.h"

@PREFIX@_status_t @PREFIX@_tokenizer(uint8_t *window, const char *utf8, size_t n, const char *pair, size_t pair_n,
                               int32_t *ids, size_t *tokens, bool *truncated)
{
    tokenizer_end_t end = tokenize_texts(window, utf8, n, pair, pair_n, ids, @UPPER@_MAX_LENGTH, tokens);
    *truncated = end == TOKENIZER_FULL;
    return end == TOKENIZER_LOST ? @UPPER@_E_WORD : @UPPER@_OK;
}
"""

_FUNCTION = "static inline uint16_t {name}(uint16_t {parameter}) {{ return (uint16_t)({value}); }}"


def header(prefix: str, title: str) -> str:
    """<prefix>_tokenizer.h, which the model includes."""
    return c_api.substitute(_HEADER, prefix, title=title, window_bytes=WINDOW_BYTES)


def source(scheme: Scheme, prefix: str, title: str, window: int = WINDOW) -> str:
    """<prefix>_tokenizer.c. window: as WINDOW; a test makes it small."""
    characters = character_tables(scheme)
    pairs = pair_tables([merge[:2] for merge in scheme.merges] or [(0, 0)])
    results = [made - rank for rank, (_, _, made) in enumerate(scheme.merges)]
    first = results[0] if results else scheme.vocabulary
    in_order = len(set(results)) <= 1
    options = {
        "BYTE_LEVEL": int(scheme.byte_level),
        "SPLIT": int(scheme.splits),
        "PREFIX_SPACE": int(scheme.prefix_space),
        "REORDER": int(characters.reorders),
        "MARKS": MARKS,
        "HANGUL": int(characters.hangul),
        "NONE": NONE,
        "UNK": NONE if scheme.unknown is None else scheme.unknown,
        "FUSE_UNK": int(scheme.fuse_unknown),
        "CLS": CLS,
        "SEP": SEP,
        "MERGES": len(scheme.merges),
        "SETTLES": int(settles(scheme.merges)),
        "WINDOW": window,
        "UNITS": len(characters.units),
        "MIDDLE_BITS": characters.middle_bits,
        "LOW_BITS": characters.low_bits,
        "SLOTS": len(pairs.at),
        "BUCKET_SHIFT": pairs.bucket_shift,
    }
    tables = {
        "map_top": characters.top,
        "map_middle": characters.middle,
        "map_low": characters.low,
        "units": np.array(characters.units, np.uint32),
        "sequence_at": smallest(np.array(characters.at)),
        "sequences": np.array(characters.sequences or (0,), np.uint32),
        "pair_shift": pairs.shift,
        "pair_at": pairs.at,
        "pair_left": np.array([merge[0] for merge in scheme.merges] or (NONE,), np.uint16),
        "pair_right": np.array([merge[1] for merge in scheme.merges] or (NONE,), np.uint16),
    }
    if scheme.byte_level:
        tables["byte_token"] = np.array(byte_tokens(scheme), np.uint16)
    if in_order:
        token_of = f"rank + {first}u"
        merge_of = f"(uint16_t)(token - {first}u) < TOKENIZER_MERGES ? token - {first}u : TOKENIZER_MERGES"
    else:
        made_by = np.full(scheme.vocabulary, len(scheme.merges), np.uint16)
        for rank, (_, _, made) in enumerate(scheme.merges):
            made_by[made] = rank
        tables["merged"] = np.array([made for _, _, made in scheme.merges], np.uint16)
        tables["made_by"] = made_by
        token_of, merge_of = "merged[rank]", "made_by[token]"
    functions = [
        _FUNCTION.format(name="token_of", parameter="rank", value=token_of),
        _FUNCTION.format(name="merge_of", parameter="token", value=merge_of),
    ]
    return c_api.substitute(
        _SOURCE,
        prefix,
        title=title,
        vocabulary=scheme.vocabulary,
        merges=len(scheme.merges),
        options="\n".join(f"#define TOKENIZER_{name} {value}" for name, value in options.items()),
        tables="\n\n".join(_table(name, value) for name, value in tables.items()),
        functions="\n".join(functions),
    )


def _table(name: str, values: np.ndarray, width: int = 110) -> str:
    texts = [f"{value}{'u' if value > 0x7FFFFFFF else ''}" for value in values.tolist()]
    per_line = max(1, (width - 4) // (max(map(len, texts)) + 2))
    rows = "\n".join(f"    {', '.join(texts[i : i + per_line])}," for i in range(0, len(texts), per_line))
    return f"static const {values.dtype}_t {name}[{len(texts)}] = {{\n{rows}\n}};"
