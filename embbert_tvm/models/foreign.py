"""What a model folder says that is of no architecture of ours: its ONNX file is all there is."""

from __future__ import annotations

import json
from pathlib import Path

from embbert_tvm.data.tokenizer import encoding, load_tokenizer
from embbert_tvm.errors import InputError

FOREIGN = "onnx"  # the architecture, in config.json, of such a folder


def separator_of(tokenizer: Path | None) -> int | None:
    """The id behind which the second of two texts begins, where a tokenizer.json gives that text another type."""
    if tokenizer is None:
        return None
    try:
        pair = encoding(load_tokenizer(tokenizer), "a", "b")
    except InputError:  # what is no tokenizer is refused where it is used
        return None
    if 1 not in pair.type_ids or pair.type_ids[0] != 0:
        return None
    separator = pair.ids[pair.type_ids.index(1) - 1]
    types = [int(separator in pair.ids[:n]) for n in range(len(pair.ids))]
    return separator if types == pair.type_ids else None


_PADDING = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")


def padding_of(tokenizer: Path | None) -> int | None:
    """The id that fills a text up: that of a tokenizer.json's padding, else of a token that is called so."""
    if tokenizer is None:
        return None
    try:
        loaded = load_tokenizer(tokenizer)
    except InputError:  # likewise
        return None
    own = json.loads(tokenizer.read_text(encoding="utf-8")).get("padding")
    if own is not None:
        return int(own["pad_id"])
    return next((number for token in _PADDING if (number := loaded.token_to_id(token)) is not None), None)
