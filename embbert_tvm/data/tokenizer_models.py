"""Reads the `model` of a tokenizer.json: BPE, WordPiece, Unigram, WordLevel or HashedWords."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from embbert_tvm.data.hashed_words import TYPE, HashedWords
from embbert_tvm.data.tokenizer_spec import Bpe, Model, Unigram, WordLevel, WordPiece

_MOST_CHARACTERS = 1000  # of a word of WordPiece's, which is held whole

Refuse = Callable[[str], NoReturn]


def read_model(model: dict[str, Any], refuse: Refuse) -> Model:
    """The model; `refuse` is called with the name of what the device cannot do."""
    readers = {"BPE": _bpe, "WordPiece": _word_piece, "Unigram": _unigram, "WordLevel": _word_level, TYPE: _hashed}
    if model["type"] not in readers:
        refuse(f"the model {model['type']}")
    return readers[model["type"]](model, refuse)


def byte_token(byte: int) -> str:
    """The token that stands for a byte under byte_fallback."""
    return f"<0x{byte:02X}>"


def _bpe(model: dict[str, Any], refuse: Refuse) -> Bpe:
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            refuse(f"BPE with {option} {model[option]!r}")
    vocabulary: dict[str, int] = model["vocab"]
    ranks: dict[tuple[int, int], tuple[int, int]] = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        if not {left, right, left + right} <= vocabulary.keys():
            refuse(f"a merge of {left!r} and {right!r}, of which the vocabulary lacks one or what they make,")
        pair = (vocabulary[left], vocabulary[right])
        ranks[pair] = (rank, vocabulary[left + right])  # the last of equals counts, as in the library
    merges = [(*pair, made) for pair, (_, made) in sorted(ranks.items(), key=lambda item: item[1])]
    unknown = _unknown(model["unk_token"], vocabulary, "BPE", refuse) if model["unk_token"] is not None else None
    if any(unknown in merge for merge in merges):
        refuse(f"a merge of the unknown token {model['unk_token']!r}")
    return Bpe(
        vocabulary=vocabulary,
        merges=tuple(merges),
        unknown=unknown,
        fuse_unknown=bool(model["fuse_unk"]),
        byte_fallback=_byte_fallback(model, vocabulary, refuse),
        ignore_merges=bool(model.get("ignore_merges")),
    )


def _word_piece(model: dict[str, Any], refuse: Refuse) -> WordPiece:
    most = model["max_input_chars_per_word"]
    if not 0 < most <= _MOST_CHARACTERS:
        refuse(f"WordPiece with max_input_chars_per_word {most} (it is 1 to {_MOST_CHARACTERS} there)")
    unknown = _unknown(model["unk_token"], model["vocab"], "WordPiece", refuse)
    return WordPiece(model["vocab"], unknown, model["continuing_subword_prefix"], most)


def _unigram(model: dict[str, Any], refuse: Refuse) -> Unigram:
    if model["unk_id"] is None:
        refuse("Unigram without an unknown token")
    scores = tuple(score for _, score in model["vocab"])
    if min(scores) > 0:
        refuse("Unigram with scores above 0 alone")
    vocabulary = {piece: number for number, (piece, _) in enumerate(model["vocab"]) if piece}
    return Unigram(vocabulary, scores, model["unk_id"], _byte_fallback(model, vocabulary, refuse))


def _word_level(model: dict[str, Any], refuse: Refuse) -> WordLevel:
    return WordLevel(model["vocab"], _unknown(model["unk_token"], model["vocab"], "WordLevel", refuse))


def _hashed(model: dict[str, Any], refuse: Refuse) -> HashedWords:
    return HashedWords.read(model)


def _unknown(token: str, vocabulary: dict[str, int], name: str, refuse: Refuse) -> int:
    if token not in vocabulary:
        refuse(f"{name} whose vocabulary has not its own unknown token {token!r}")
    return vocabulary[token]


def _byte_fallback(model: dict[str, Any], vocabulary: dict[str, int], refuse: Refuse) -> bool:
    """Whether what has no token becomes bytes: where the vocabulary has not one of them, it does not."""
    if not model.get("byte_fallback"):
        return False
    missing = [byte_token(b) for b in range(256) if byte_token(b) not in vocabulary]
    if 0 < len(missing) < 256:
        refuse(f"byte_fallback without the token {missing[0]}")
    return not missing
