"""The tokenizer's C: the tables of a tokenizer.json and the stages between a text and its ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.codegen import tokenizer_chain
from embbert_tvm.codegen.c_tables import array
from embbert_tvm.codegen.micro_headers import used_parts
from embbert_tvm.codegen.templates import substitute, template
from embbert_tvm.codegen.tokenizer_models import model_tables, window_bytes
from embbert_tvm.data.tokenizer_spec import AddedToken, Begin, TokenizerSpec
from embbert_tvm.resources import firmware

__all__ = ["files", "header", "source", "window_bytes"]

_FOLDER = firmware("tokenizer")

_HEADER = template("tokenizer_header.h.in")

_OFFSETS_DECLARATION = "\n" + template("tokenizer_offsets_declaration.h.in")

_SOURCE = template("tokenizer_source.c.in").rstrip("\n")

_OPENING = template("tokenizer_opening.c.in").rstrip("\n")

_OFFSETS_OPENING = template("tokenizer_offsets_opening.c.in").rstrip("\n")

_OFFSETS_CLOSING = "\n" + template("tokenizer_offsets_closing.c.in")

# Where the bytes of a character stand.
_PLACE = template("tokenizer_place.c.in")

_WORD = "\n" + template("tokenizer_word.c.in")

_RAW = template("tokenizer_raw.c.in").rstrip("\n")

_PIECES = template("tokenizer_pieces.c.in")


_ADDED_PLACE = template("tokenizer_added_place.c.in")

_ADDED_TRIMMED = template("tokenizer_added_trimmed.c.in")


def files(spec: TokenizerSpec, prefix: str, title: str, window: int | None = None) -> dict[str, bytes]:
    """Name and content of the tokenizer's C files: its own two, and the headers that it includes.

    window: symbols of a word that are looked at together; a test makes it small.
    """
    text = source(spec, prefix, title, window)
    found = {
        f"{prefix}_tokenizer.h": header(spec, prefix, title, window).encode(),
        f"{prefix}_tokenizer.c": text.encode(),
    }
    headers = {name: (_FOLDER / name).read_text(encoding="utf-8") for name in runtime(text)}
    return found | {name: used.encode() for name, used in used_parts(headers, text).items()}


def runtime(text: str) -> list[str]:
    """The headers of firmware/tokenizer that C includes, and those that they do."""
    found: list[str] = []
    waiting = re.findall(r'#include "(\w+\.h)"', text)
    while waiting:
        name = waiting.pop(0)
        if name not in found and (_FOLDER / name).is_file():
            found.append(name)
            waiting += re.findall(r'#include "(\w+\.h)"', (_FOLDER / name).read_text())
    return sorted(found)


def header(spec: TokenizerSpec, prefix: str, title: str, window: int | None = None) -> str:
    """<prefix>_tokenizer.h, which the model includes."""
    size = window_bytes(spec) if window is None else model_tables(spec, window).window_bytes
    declaration = substitute(_OFFSETS_DECLARATION, prefix) if spec.offsets else ""
    return substitute(_HEADER, prefix, title=title, window_bytes=size, declaration=declaration)


def source(spec: TokenizerSpec, prefix: str, title: str, window: int | None = None) -> str:
    """<prefix>_tokenizer.c. window: as in files()."""
    model = model_tables(spec, window)
    chain = tokenizer_chain.stages(spec, model.values)
    added = _added(spec)
    options = {"TOGETHER": "1u"} | dict(model.options) | {"NO_POINT": "0xFFFFFFFFu"}
    options["SINGLE_WORDS"] = int(any(token.single_word for token in spec.added))
    state = [*model.state, *chain.state]
    reset = [*model.reset, *chain.reset]
    options["OFFSETS"] = int(spec.offsets)
    if spec.offsets:
        options["TRIMS"] = 0 if not spec.trims[0] else 2 if spec.trims[1] else 1
        reset += ["t->start = bytes;"]
        if spec.trims[0]:
            state += ["bool has_bytes, first_is_blank;"]
            reset += ["t->has_bytes = t->first_is_blank = false;"]
    first = ""
    if any(isinstance(s, Begin) and s.first for s in spec.splitters):
        state += ["const uint8_t *text;", "bool is_first;", "bool removed; /* what the piece begins with */"]
        reset += ["t->text = bytes;"]
        first = "    t->is_first = bytes == t->text;\n    t->removed = false;\n"
    push = _RAW if model.uses_bytes else "push(t, value);"
    word = ('\n#include "embbert_bytes.h"\n' if model.uses_bytes else "") + _WORD.replace("@PUSH@", push)
    return substitute(
        _SOURCE,
        prefix,
        title=title,
        vocabulary=spec.vocabulary,
        options="\n".join(f"#define TOKENIZER_{name} {value}" for name, value in options.items()),
        state=" \\\n".join(f"    {line}" for line in state) or "    uint8_t unused;",
        symbol=model.symbol,
        tables="\n\n".join(model.tables),
        model=model.header,
        word=word,
        stages=chain.code,
        character=chain.first,
        first=first,
        added=added.code,
        pieces=added.first,
        reset="\n".join(f"    {line}" for line in reset),
        templates=_templates(spec),
        place=_PLACE if spec.offsets else "",
        opening=substitute(_OFFSETS_OPENING if spec.offsets else _OPENING, prefix),
        both=", begin, end" if spec.offsets else "",
        closing=substitute(_OFFSETS_CLOSING, prefix) if spec.offsets else "",
        added_to_pair=spec.template.added_to_pair,
        added_to_single=spec.template.added_to_single,
    )


def _templates(spec: TokenizerSpec) -> str:
    codes = {"A": -1, "B": -2}
    parts = []
    for name in ("single", "pair"):
        pieces = [codes.get(piece, piece) for piece in getattr(spec.template, name)]
        parts.append(array(f"template_{name}", np.array(pieces, np.int32)))
        parts.append(f"#define TEMPLATE_{name.upper()} {len(pieces)}u")
    return "\n".join(parts)


@dataclass(frozen=True)
class _Added:
    """C that finds added tokens in bytes: `first(t, bytes, n)` does."""

    code: str
    first: str


def _added(spec: TokenizerSpec) -> _Added:
    """Tokens that are matched as they stand come first, then those that normalizing leaves as they are."""
    sets = [[token for token in spec.added if not token.normalized]]
    if not spec.normalizers:
        sets.append([token for token in spec.added if token.normalized])
    sets = [tokens for tokens in sets if tokens]
    code = ""
    following = "tokenize_plain"
    for number, tokens in reversed(list(enumerate(sets))):
        code += _added_tables(number, tokens) + "\n\n"
        place = _ADDED_PLACE + (_ADDED_TRIMMED if spec.trims[0] else "") if spec.offsets else ""
        code += _PIECES.replace("@N@", str(number)).replace("@NEXT@", following).replace("@PLACE@", place)
        following = f"tokenize_added_{number}"
    if sets:
        code = tokenizer_chain.word_test(spec) + '#include "embbert_added.h"\n\n' + code
    return _Added(code, following)


def _added_tables(number: int, tokens: Sequence[AddedToken]) -> str:
    ranked = sorted(tokens, key=lambda token: (-len(token.text.encode()), token.id))
    texts = [token.text.encode() for token in ranked]
    first = np.zeros(8, np.uint32)
    for text in texts:
        first[text[0] // 32] |= np.uint32(1 << text[0] % 32)
    at = np.cumsum([0, *map(len, texts)]).astype(np.uint16)
    name = f"added_{number}"
    return "\n\n".join(
        [
            array(f"{name}_bytes", np.frombuffer(b"".join(texts), np.uint8)),
            array(f"{name}_at", at),
            array(f"{name}_flags", np.array([tokenizer_chain.added_flags(token) for token in ranked], np.uint8)),
            array(f"{name}_ids", np.array([token.id for token in ranked], np.uint32)),
            array(f"{name}_first", first),
            f"static const added_t {name} = {{{name}_bytes, {name}_at, {name}_flags, {name}_ids, {name}_first, "
            f"{len(ranked)}}};",
        ]
    )
