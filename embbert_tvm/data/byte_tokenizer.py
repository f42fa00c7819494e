"""The tokenizer of a model that reads bytes, as one of the `tokenizers` library: what tokenizes knows no other.

Ids are the bytes of UTF-8; of a pair `separator` stands between both texts.
"""

from __future__ import annotations

import json

from tokenizers import pre_tokenizers

_BYTES = 256


def byte_tokenizer(separator: int) -> bytes:
    """tokenizer.json. separator: an id from 256 on."""
    vocabulary = {character: byte for byte, character in _alphabet().items()}
    name = "<pair>"
    pieces = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": name, "type_id": 0}}]
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": pieces[:1],
            "pair": [*pieces, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {name: {"id": name, "ids": [separator], "tokens": [name]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary | {name: separator},
            "merges": [],
        },
    }
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8")


def _alphabet() -> dict[int, str]:
    """The character that stands for each byte in a byte-level vocabulary: printable ones for themselves."""
    known = set(pre_tokenizers.ByteLevel.alphabet())
    found = {byte: chr(byte) for byte in range(_BYTES) if chr(byte) in known}
    rest = (byte for byte in range(_BYTES) if byte not in found)
    return found | {byte: chr(_BYTES + place) for place, byte in enumerate(rest)}
