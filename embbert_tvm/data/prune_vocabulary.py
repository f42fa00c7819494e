"""A tokenizer with those tokens alone that a corpus needs, and what that changes elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from embbert_tvm.data.hashed_words import HashTokenizer
from embbert_tvm.data.tokenizer import TextTokenizer, encoding, encodings, is_embbert
from embbert_tvm.data.tokenizer_models import byte_token
from embbert_tvm.errors import InputError

Text = str | tuple[str, str]


@dataclass(frozen=True)
class PrunedTokenizer:
    """A tokenizer whose ids are numbered anew. kept: the former id of each: row n of a table was row kept[n]."""

    tokenizer: Tokenizer
    kept: tuple[int, ...]


def prune_tokenizer(
    tokenizer: TextTokenizer, texts: Iterable[Text], most: int | None = None, also: Iterable[int] = ()
) -> PrunedTokenizer:
    """Keep the special and added tokens, all single characters and bytes, and what the texts are encoded to.

    The texts' own tokens stay what they are. Raises InputError where `most` is less than what is kept in any case.

    Args:
        tokenizer: as `load_tokenizer` gives it.
        texts: texts and pairs of the corpus.
        most: how many tokens there may be; the most frequent are kept, and the texts' tokens may change.
        also: ids that are kept in any case, as that of padding.
    """
    if isinstance(tokenizer, HashTokenizer):
        raise InputError("words that are hashed have no vocabulary to prune: leave out --prune-vocabulary")
    document = json.loads(tokenizer.to_str())
    counts = Counter(i for encoded in encodings(tokenizer, texts) for i in encoded.ids)
    parts = _parts(document["model"])
    kept = _closed(_always(document, tokenizer) | set(also), parts)
    if most is not None and len(kept) > most:
        raise InputError(f"a vocabulary of {most} cannot hold the {len(kept)} special tokens and single characters")
    for number, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        wanted = _closed({number}, parts) | kept
        if most is None or len(wanted) <= most:
            kept = wanted
    ordered = tuple(sorted(kept))
    new = {former: number for number, former in enumerate(ordered)}
    pruned = Tokenizer.from_str(json.dumps(_renumbered(document, new)))
    pruned.no_padding()
    pruned.no_truncation()
    pruned.encode_special_tokens = is_embbert(pruned)
    return PrunedTokenizer(pruned, ordered)


def split_otherwise(before: TextTokenizer, after: PrunedTokenizer, texts: Iterable[str]) -> float:
    """The share of the texts' words, each as often as it stands there, that have other tokens after pruning."""
    counts = Counter(word for text in texts for word in text.split())
    changed = 0
    for word, count in counts.items():
        now = [after.kept[i] for i in encoding(after.tokenizer, word, special_tokens=False).ids]
        changed += count * (now != encoding(before, word, special_tokens=False).ids)
    return changed / max(1, counts.total())


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    if isinstance(model["vocab"], dict):
        return model["vocab"]
    return {piece: number for number, (piece, _) in enumerate(model["vocab"])}


def _always(document: dict[str, Any], tokenizer: Tokenizer) -> set[int]:
    """What is kept whatever the texts."""
    model = document["model"]
    vocabulary = _vocabulary(model)
    prefix = model.get("continuing_subword_prefix") or ""
    kept = {token["id"] for token in document["added_tokens"]}
    kept |= {number for token, number in vocabulary.items() if len(token.removeprefix(prefix)) == 1 or len(token) == 1}
    if model.get("byte_fallback"):
        kept |= {vocabulary[byte_token(b)] for b in range(256) if byte_token(b) in vocabulary}
    if model["type"] == "Unigram":
        if model["unk_id"] is not None:
            kept.add(model["unk_id"])
        # The lowest score says what an unknown character costs.
        kept.add(min(range(len(model["vocab"])), key=lambda number: model["vocab"][number][1]))
    elif model.get("unk_token") in vocabulary:
        kept.add(vocabulary[model["unk_token"]])
    return kept | set(encoding(tokenizer, "", "").ids) | set(encoding(tokenizer, "").ids)


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    return [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model.get("merges", ())]


def _parts(model: dict[str, Any]) -> dict[int, set[int]]:
    """Tokens of BPE that merges make each token of."""
    vocabulary = _vocabulary(model)
    found: dict[int, set[int]] = {}
    for left, right in _merges(model):
        found.setdefault(vocabulary[left + right], set()).update((vocabulary[left], vocabulary[right]))
    return found


def _closed(tokens: set[int], parts: dict[int, set[int]]) -> set[int]:
    """The tokens with their parts, and the parts of those."""
    found, waiting = set(tokens), list(tokens)
    while waiting:
        new = parts.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def _renumbered(document: dict[str, Any], new: dict[int, int]) -> dict[str, Any]:
    model = document["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {token: new[number] for token, number in model["vocab"].items() if number in new}
        if "merges" in model:
            vocabulary = model["vocab"]
            model["merges"] = [
                list(pair) for pair in _merges(model) if all(t in vocabulary for t in (*pair, "".join(pair)))
            ]
    else:
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in new]
        model["unk_id"] = None if model["unk_id"] is None else new[model["unk_id"]]
    for token in document["added_tokens"]:
        token["id"] = new[token["id"]]
    _renumber_processor(document["post_processor"], new)
    document["padding"] = document["truncation"] = None
    return document


def _renumber_processor(processor: dict[str, Any] | None, new: dict[int, int]) -> None:
    if processor is None:
        return
    for part in processor.get("processors", ()):
        _renumber_processor(part, new)
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new[number] for number in token["ids"]]
    for name in ("sep", "cls"):
        if name in processor:
            processor[name] = _renamed(processor[name], new)


def _renamed(token: Sequence[Any], new: dict[int, int]) -> list[Any]:
    return [token[0], new[token[1]]]
