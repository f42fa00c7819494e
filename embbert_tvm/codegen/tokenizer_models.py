"""The C tables of a tokenizer's model: BPE, WordPiece, Unigram, WordLevel or HashedWords."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tokenizers import Tokenizer, models

from embbert_tvm.codegen import tokenizer_trie
from embbert_tvm.codegen.c_tables import array
from embbert_tvm.codegen.tokenizer_tables import BYTE_CHARACTERS, NONE, RAW, merges_ordered, pair_tables, smallest
from embbert_tvm.codegen.unicode_map import POINTS
from embbert_tvm.data.tokenizer import encoding
from embbert_tvm.data.tokenizer_models import byte_token
from embbert_tvm.data.tokenizer_spec import Bpe, Delimit, HashedWords, TokenizerSpec, Unigram, WordLevel, WordPiece
from embbert_tvm.errors import InputError

WINDOW = 256  # symbols of a word that BPE looks at together
_UNIGRAM_WINDOW = 512  # characters of a word that Unigram does
_WIDE_NONE = 0x1FFFFF  # no token, no merge, where ids or ranks are above 16 bits
_MARKS = "\u2581\u0120"  # how Metaspace and ByteLevel write the space: where words may be cut


@dataclass(frozen=True)
class ModelTables:
    """What the model needs in C.

    values: int32 (POINTS,), the value of each code point's unit. header: its runtime. options: macros by name, less
    TOKENIZER_. tables: definitions. state, reset: fields of tokenizer_t. symbol: the type of what its window holds.
    """

    header: str
    values: np.ndarray
    options: Mapping[str, object]
    tables: Sequence[str]
    symbol: str
    window_bytes: int
    state: Sequence[str] = ()
    reset: Sequence[str] = field(default=())
    uses_bytes: bool = False


_PLACE_BYTES = 4  # of a symbol's place in the text


def model_tables(spec: TokenizerSpec, window: int | None = None) -> ModelTables:
    """The tables of a spec's model. window: of a word, as WINDOW; a test makes it small."""
    if isinstance(spec.model, Bpe):
        found, symbols = _bpe(spec, spec.model, window or WINDOW), window or WINDOW
    elif isinstance(spec.model, Unigram):
        found = _unigram(spec, spec.model, window or _UNIGRAM_WINDOW)
        symbols = _unigram_window(spec.model, window or _UNIGRAM_WINDOW)
    elif isinstance(spec.model, HashedWords):
        found, symbols = _hashed(spec, spec.model), 0
    else:
        found, symbols = _words(spec, spec.model), _held(spec.model)
    if not spec.offsets:
        return found
    at = _aligned(found.window_bytes)
    options = dict(found.options) | {"PLACES_AT": f"{at}u"}
    state = [*found.state, *_STATE_OF_PLACES.get(type(spec.model), ())]
    return replace(found, options=options, window_bytes=at + _PLACE_BYTES * symbols, state=state)


_STATE_OF_PLACES: dict[type, tuple[str, ...]] = {
    Unigram: ("size_t run_end; /* of unknown characters that become bytes */", "PLACES(run_place)"),
    WordLevel: ("PLACES(word_place)",),
    HashedWords: ("PLACES(word_place)",),
}


def _aligned(size: int) -> int:
    return -(-size // _PLACE_BYTES) * _PLACE_BYTES


def _held(model: WordPiece | WordLevel | HashedWords) -> int:
    """Symbols of a word that are held."""
    return model.most_characters if isinstance(model, WordPiece) else 0


def window_bytes(spec: TokenizerSpec) -> int:
    """Bytes of the arena that the tokenizer works in."""
    size, model = _symbol_bytes(spec), spec.model
    if not spec.offsets:
        return size
    if isinstance(model, Bpe):
        symbols = WINDOW
    else:
        symbols = _unigram_window(model, _UNIGRAM_WINDOW) if isinstance(model, Unigram) else _held(model)
    return _aligned(size) + _PLACE_BYTES * symbols


def _symbol_bytes(spec: TokenizerSpec) -> int:
    model = spec.model
    if isinstance(model, Bpe):
        return 2 * WINDOW * (4 if _is_wide(spec, model) else 2)
    if isinstance(model, WordPiece):
        return max(4, model.most_characters * (4 if spec.vocabulary > NONE else 2))
    if isinstance(model, Unigram):
        return _unigram_bytes(model, _unigram_window(model, _UNIGRAM_WINDOW))
    return 4


def _values(tokens: Mapping[str, int], missing: int) -> np.ndarray:
    """Number of the token that each code point is. missing: that of others, RAW for the code point itself."""
    values = _raw_values() if missing == RAW else np.full(POINTS, missing, np.int32)
    for token, number in tokens.items():
        if len(token) == 1:
            values[ord(token)] = number
    return values


def _raw_values() -> np.ndarray:
    return np.arange(POINTS, dtype=np.int32) | RAW


def _is_wide(spec: TokenizerSpec, model: Bpe) -> bool:
    return spec.vocabulary > NONE or len(model.merges) >= NONE


def _bpe(spec: TokenizerSpec, model: Bpe, window: int) -> ModelTables:
    wide = _is_wide(spec, model)
    none = _WIDE_NONE if wide else NONE
    symbol = np.uint32 if wide else np.uint16
    unknown = none if model.unknown is None else model.unknown
    merges = model.merges
    pairs = pair_tables([merge[:2] for merge in merges] or [(0, 0)], wide)
    wholes = _wholes(spec, model, window)
    options = {
        "NONE": none,
        "WIDE": int(wide),
        "UNK": unknown,
        "FUSE_UNK": int(model.fuse_unknown),
        # Without any there is one that no pair has, so that tables and comparisons stay what they are.
        "MERGES": max(1, len(merges)),
        "ORDERED_MERGES": int(merges_ordered(merges)),
        "WINDOW": window,
        "SLOTS": f"{len(pairs.at)}u",
        "BUCKET_SHIFT": pairs.bucket_shift,
        "WHOLES": len(wholes),
        "CUT": none if wholes else _cut(spec, model, none),
    }
    tables = [
        array("pair_shift", pairs.shift),
        array("pair_at", pairs.at.astype(symbol)),
        array("pair_left", np.array([merge[0] for merge in merges] or [none], symbol)),
        array("pair_right", np.array([merge[1] for merge in merges] or [none], symbol)),
        *_whole_tables(wholes, symbol),
        *_made_tables(spec, model, symbol),
    ]
    state, reset = ["bool unknown; /* the last character of the word had no token */"], ["t->unknown = false;"]
    if wholes:
        state.append("bool committed; /* a part of the word is written */")
        reset.append("t->committed = false;")
    if options["CUT"] != none:
        state, reset = [*state, "uint32_t last; /* symbol of the word */"], [*reset, "t->last = TOKENIZER_NONE;"]
    if spec.byte_level:
        values, uses_bytes = _raw_values(), True
        tables.append(_byte_symbols([model.vocabulary.get(c, unknown) for c in BYTE_CHARACTERS]))
        if model.byte_fallback and unknown in [model.vocabulary.get(c, unknown) for c in BYTE_CHARACTERS]:
            raise InputError("BPE with byte_fallback behind ByteLevel is not supported on the device")
    else:
        values, uses_bytes = _values(model.vocabulary, RAW if model.byte_fallback else unknown), model.byte_fallback
        if uses_bytes:
            tables.append(_byte_symbols([model.vocabulary[byte_token(b)] for b in range(256)]))
    return ModelTables(
        "embbert_bpe.h",
        values,
        options,
        tables,
        f"{np.dtype(symbol)}_t",
        2 * window * np.dtype(symbol).itemsize,
        state,
        reset,
        uses_bytes,
    )


def _byte_symbols(symbols: Sequence[int]) -> str:
    return array("byte_symbol", list(symbols))


_FUNCTION = "static inline uint32_t {name}(uint32_t {parameter})\n{{\n    return {value};\n}}"


def _made_tables(spec: TokenizerSpec, model: Bpe, symbol: type) -> list[str]:
    """token_of() and merge_of(): by arithmetic where merges make the tokens one after the other."""
    merges = model.merges
    offsets = {made - rank for rank, (_, _, made) in enumerate(merges)}
    if len(offsets) <= 1:
        first = offsets.pop() if offsets else spec.vocabulary
        tables, token_of = [], f"rank + {first}u"
        merge_of = f"token - {first}u < TOKENIZER_MERGES ? token - {first}u : TOKENIZER_MERGES"
    else:
        made_by = np.full(spec.vocabulary, len(merges), symbol)
        for rank, (_, _, made) in enumerate(merges):
            made_by[made] = rank
        tables = [array("merged", np.array([made for _, _, made in merges], symbol)), array("made_by", made_by)]
        token_of, merge_of = "merged[rank]", "made_by[token]"
    return [
        *tables,
        _FUNCTION.format(name="token_of", parameter="rank", value=token_of),
        _FUNCTION.format(name="merge_of", parameter="token", value=merge_of),
    ]


def _cut(spec: TokenizerSpec, model: Bpe, none: int) -> int:
    """The symbol of the space before which words may be cut: no token has it behind another character."""
    if any(isinstance(s, Delimit) and s.behavior == "merged_with_next" for s in spec.splitters):
        return none
    names = {number: token for token, number in model.vocabulary.items()}
    made = [names[merge[2]] for merge in model.merges]
    for mark in _MARKS:
        if mark in model.vocabulary and not any(a != mark == b for t in made for a, b in itertools.pairwise(t)):
            return model.vocabulary[mark]
    return none


def _wholes(spec: TokenizerSpec, model: Bpe, window: int) -> list[tuple[tuple[int, ...], int]]:
    """Under ignore_merges, what merges make of tokens that they do not make, with the token, sorted."""
    if not model.ignore_merges:
        return []
    names = {number: token for token, number in model.vocabulary.items()}
    merges = [(names[a], names[b]) for a, b, _ in model.merges]
    unknown = None if model.unknown is None else names[model.unknown]
    merged = Tokenizer(models.BPE(model.vocabulary, merges, unk_token=unknown, fuse_unk=model.fuse_unknown))
    found_first = {token.text for token in spec.added if not token.normalized and not token.ignored}
    found = []
    for token, number in model.vocabulary.items():
        if len(token) < 2 or token in found_first or (spec.byte_level and not set(token) <= set(BYTE_CHARACTERS)):
            continue
        ids = tuple(encoding(merged, token).ids)
        if ids == (number,):
            continue
        if "".join(names[i] for i in ids) != token or len(token) > window:
            raise InputError(
                f"BPE with ignore_merges and the token {token!r}, which merges do not cover, is not supported"
            )
        found.append((ids, number))
    return sorted(found)


def _whole_tables(wholes: Sequence[tuple[tuple[int, ...], int]], symbol: type) -> list[str]:
    if not wholes:
        return []
    at = np.cumsum([0, *(len(ids) for ids, _ in wholes)])
    return [
        array("whole_parts", np.array([i for ids, _ in wholes for i in ids], symbol)),
        array("whole_at", at.tolist()),
        array("whole_token_ids", np.array([number for _, number in wholes], symbol)),
    ]


@dataclass(frozen=True)
class _TrieTables:
    trie: tokenizer_trie.Trie
    symbols: dict[str, int]
    tables: list[str]
    values: np.ndarray


_NO_SYMBOL = 0xFFFF


def _trie(spec: TokenizerSpec, vocabulary: Mapping[str, int], prefix: str | None, missing: int) -> _TrieTables:
    vocabulary = {token: number for token, number in vocabulary.items() if token}
    symbols = tokenizer_trie.symbols_of(vocabulary)
    trie = tokenizer_trie.build(vocabulary, symbols)
    nodes: list[int | None] = [0]
    if prefix is not None:
        known = set(prefix) <= set(symbols)
        nodes.append(trie.find(tokenizer_trie.codes_of(prefix, symbols)) if known else None)
    starts = np.zeros((len(nodes), 256), np.int64)
    for row, node in zip(starts, nodes, strict=True):
        if node is None:
            continue
        first = trie.first_child(node)
        children = np.arange(first, first + int(trie.children[node]))
        row[trie.label[children]] = children
    tables = [
        *(array(f"trie_{name}", getattr(trie, name)) for name in trie.__dataclass_fields__),
        array("trie_start", smallest(starts)),
    ]
    if spec.byte_level:
        values = _raw_values()
        tables.append(_byte_symbols([symbols.get(c, missing) for c in BYTE_CHARACTERS]))
    else:
        values = _values(symbols, missing)
    return _TrieTables(trie, symbols, tables, values)


def _words(spec: TokenizerSpec, model: WordPiece | WordLevel) -> ModelTables:
    prefix = model.prefix if isinstance(model, WordPiece) else None
    found = _trie(spec, model.vocabulary, prefix, _NO_SYMBOL)
    options = {"UNK": model.unknown, "NO_SYMBOL": f"{_NO_SYMBOL}u"}
    symbol = "uint32_t" if spec.vocabulary > NONE else "uint16_t"
    if isinstance(model, WordLevel):
        state, reset = ["uint32_t node; /* of the word so far, 0 for none */"], ["t->node = 0;"]
        return ModelTables(
            "embbert_wordlevel.h", found.values, options, found.tables, symbol, 4, state, reset, spec.byte_level
        )
    options |= {"WINDOW": f"{model.most_characters}u", "INSIDE": 1}
    state, reset = ["bool unknown; /* a character of the word has no symbol */"], ["t->unknown = false;"]
    size = 4 if symbol == "uint32_t" else 2
    return ModelTables(
        "embbert_wordpiece.h",
        found.values,
        options,
        found.tables,
        symbol,
        max(4, model.most_characters * size),
        state,
        reset,
        spec.byte_level,
    )


def _hashed(spec: TokenizerSpec, model: HashedWords) -> ModelTables:
    options = {
        "WORDS": f"{model.words}u",
        "LEAST": f"{model.runs}u",
        "SHORTEST": f"{model.shortest}u",
        "LONGEST": f"{model.longest}u",
        "FIRST": f"{model.first}u",
        "BUCKETS": f"{model.buckets}u",
        "TOGETHER": f"{model.ids_per_word}u",
    }
    state = [
        "uint32_t word; /* its hash so far */",
        f"uint32_t runs[{model.longest + 1}]; /* hashes of the last 0, 1, ... characters of the word */",
        f"uint32_t least[{max(1, model.runs)}];",
        "uint32_t seen; /* characters of the word and the space before it, at most as in the longest run */",
    ]
    return ModelTables("embbert_hashed_words.h", _raw_values(), options, [], "uint16_t", 4, state, [], spec.byte_level)


def _longest(model: Unigram) -> int:
    return max(map(len, model.vocabulary))


def _unigram_window(model: Unigram, window: int) -> int:
    return max(window, 2 * _longest(model))


def _sums(model: Unigram) -> int:
    return 1 << _longest(model).bit_length()


def _unigram_bytes(model: Unigram, window: int) -> int:
    size = 4 if model.byte_fallback else 2
    return -(-(8 * _sums(model) + size * window + window + 1) // 8) * 8


def _unigram(spec: TokenizerSpec, model: Unigram, window: int) -> ModelTables:
    longest = _longest(model)
    if longest > 255:
        raise InputError(
            f"Unigram with a token of {longest} characters is not supported on the device (the most is 255)"
        )
    if model.byte_fallback and spec.byte_level:
        raise InputError("Unigram with byte_fallback behind ByteLevel is not supported on the device")
    window = _unigram_window(model, window)
    found = _trie(spec, model.vocabulary, None, RAW if model.byte_fallback else _NO_SYMBOL)
    scores = np.array(model.scores)[found.trie.tokens]
    narrow = scores.astype(np.float32)
    lowest = min(model.scores)
    options = {
        "UNK": model.unknown,
        "UNK_SCORE": f"({lowest - 10.0!r})",
        "WINDOW": window,
        "LONGEST": longest,
        "SUMS": f"{_sums(model)}u",
        "NO_SYMBOL": f"{_NO_SYMBOL}u",
        "BYTE_FALLBACK": int(model.byte_fallback),
    }
    tables = [*found.tables, array("unigram_scores", narrow if (narrow == scores).all() else scores)]
    if model.byte_fallback:
        tables.append(_byte_symbols([model.vocabulary[byte_token(b)] for b in range(256)]))
        lone = sorted((s, ord(c)) for c, s in found.symbols.items() if c not in model.vocabulary)
        rows = ", ".join(f"{{{s}, {c}}}" for s, c in [*lone, (_NO_SYMBOL, 0)])
        tables.append(
            f"/* Symbols of characters that are no tokens. */\nstatic const uint32_t lone_symbols[][2] = {{{rows}}};"
        )
    symbol = "uint32_t" if model.byte_fallback else "uint16_t"
    state = [
        "size_t done;     /* positions whose tokens have been followed */",
        "uint32_t base;   /* characters of the word before the window */",
        "bool unknown;    /* the last token written is unknown */",
    ]
    reset = ["t->done = 0;", "t->base = 0;", "t->unknown = false;"]
    bytes_ = _unigram_bytes(model, window)
    return ModelTables(
        "embbert_unigram.h", found.values, options, tables, symbol, bytes_, state, reset, spec.byte_level
    )
