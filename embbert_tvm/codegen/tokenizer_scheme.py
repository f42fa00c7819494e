"""What a tokenizer.json asks of the tokenizer on the device; what that cannot do is refused here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from embbert_tvm.data.tokenizer import load_tokenizer
from embbert_tvm.errors import InputError

_SUPPORTED = (
    "the tokenizer on the device takes BPE with BertNormalizer, Lowercase, NFD and StripAccents, and with Whitespace "
    "or ByteLevel; --no-tokenizer compiles the model for token ids alone"
)
_NORMALIZERS = {
    "BertNormalizer": {"clean_text", "handle_chinese_chars", "strip_accents", "lowercase"},
    "Lowercase": set(),
    "NFD": set(),
    "StripAccents": set(),
}
_MOST_TOKENS = 65535  # ids are kept in 16 bits, one of which marks nothing


@dataclass(frozen=True)
class Scheme:
    """A tokenizer as the device needs to know it.

    decomposes: whether its normalizer brings combining marks into canonical order. merges: (left, right, result) token
    ids by rank. characters: the token of each base symbol by its string: a character, or one that stands for a byte.
    unknown: the id for what has none, None where the library leaves that out.
    """

    tokenizer: Tokenizer
    vocabulary: int
    decomposes: bool
    byte_level: bool
    prefix_space: bool
    splits: bool
    unknown: int | None
    fuse_unknown: bool
    merges: tuple[tuple[int, int, int], ...]
    characters: dict[str, int]


def read_scheme(path: Path) -> Scheme:
    """The scheme of a tokenizer.json; InputError names what the device cannot do."""
    tokenizer = load_tokenizer(path)
    document = json.loads(tokenizer.to_str())

    def refuse(what: str) -> None:
        raise InputError(f"{path}: {what} is not supported: {_SUPPORTED}")

    for token in document["added_tokens"]:
        if not token["special"]:
            refuse(f"the added token {token['content']!r}, which is found before words are split,")
    names = _normalizers(document["normalizer"], refuse)
    byte_level = _pre_tokenizer(document["pre_tokenizer"], refuse)
    return _bpe(document["model"], tokenizer, "NFD" in names, byte_level, refuse)


def _normalizers(found: dict[str, Any] | None, refuse: Any) -> Sequence[str]:
    steps = [] if found is None else found["normalizers"] if found["type"] == "Sequence" else [found]
    for place, step in enumerate(steps):
        known = _NORMALIZERS.get(step["type"])
        if known is None or set(step) - {"type"} - known:
            refuse(f"the normalizer {step['type']}")
        if step["type"] == "BertNormalizer" and place > 0:
            refuse("a BertNormalizer behind another normalizer")
    return [step["type"] for step in steps]


def _pre_tokenizer(found: dict[str, Any] | None, refuse: Any) -> dict[str, Any] | None:
    """The options of ByteLevel, None for Whitespace."""
    if found is not None and found["type"] == "Sequence" and len(found["pretokenizers"]) == 1:
        (found,) = found["pretokenizers"]
    if found is None:
        refuse("a text that is not split into words")
    if found["type"] not in ("Whitespace", "ByteLevel"):
        refuse(f"the pre-tokenizer {found['type']}")
    return found if found["type"] == "ByteLevel" else None


def _bpe(
    model: dict[str, Any], tokenizer: Tokenizer, decomposes: bool, byte_level: dict[str, Any] | None, refuse: Any
) -> Scheme:
    if model["type"] != "BPE":
        refuse(f"the model {model['type']}")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        if model.get(option):
            refuse(f"BPE with {option} {model[option]!r}")
    vocabulary: dict[str, int] = model["vocab"]
    size = tokenizer.get_vocab_size()
    if size > _MOST_TOKENS:
        refuse(f"a vocabulary of {size} tokens (the most is {_MOST_TOKENS})")
    ranks: dict[tuple[int, int], tuple[int, int]] = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        pair = (vocabulary[left], vocabulary[right])
        ranks[pair] = (rank, vocabulary[left + right])  # the last of equals counts, as in the library
    merges = [(*pair, made) for pair, (_, made) in sorted(ranks.items(), key=lambda item: item[1])]
    if len(merges) >= _MOST_TOKENS:
        refuse(f"{len(merges)} merges (the most is {_MOST_TOKENS - 1})")
    unknown = None if model["unk_token"] is None else vocabulary[model["unk_token"]]
    if any(unknown in merge for merge in merges):
        refuse(f"a merge of the unknown token {model['unk_token']!r}")
    return Scheme(
        tokenizer=tokenizer,
        vocabulary=size,
        decomposes=decomposes,
        byte_level=byte_level is not None,
        prefix_space=bool(byte_level and byte_level["add_prefix_space"]),
        splits=byte_level is None or byte_level.get("use_regex", True),
        unknown=unknown,
        fuse_unknown=bool(model["fuse_unk"]),
        merges=tuple(merges),
        characters={token: number for token, number in vocabulary.items() if len(token) == 1},
    )
