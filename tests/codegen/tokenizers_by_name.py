"""Tokenizers of every kind, small: trained on a few lines or written by hand."""

from __future__ import annotations

import json
import sys

import small
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from embbert_tvm.data.tokenizer import SPECIAL_TOKENS
from embbert_tvm.resources import resource

sys.path.insert(0, str(resource("benchmarks")))

from tokenizer_kinds import KINDS

CORPUS = [
    *small.TEXTS,
    "It's the CAFÉ's naïve résumé, isn't it? I'll say we've they're 'S",
    "Ünïcödé e\u0301te\u0323\u0301 Straße ΑΒΓ αβγ Привет мир 한국어 中文字 123 45.67 ½ ² x_y",
    "aaaa aaaaaa abababab banana bandana  \t two  spaces\n\nlines",
]


def trained(normalizer, pre_tokenizer, size=420, unknown="[UNK]", **options) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=unknown, **options))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet() if isinstance(pre_tokenizer, pre_tokenizers.ByteLevel) else []
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL_TOKENS), show_progress=False, initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(CORPUS * 2, trainer)
    return tokenizer


def by_hand(merges: list[str], alphabet: str, pre_tokenizer=None) -> Tokenizer:
    """A tokenizer of those merges, in that order."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *alphabet])}
    pairs = [tuple(merge.split()) for merge in merges]
    for left, right in pairs:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def whitespace() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Whitespace()


TOKENIZERS = {
    "shipped": lambda: Tokenizer.from_file(str(resource("models") / "tokenizer.json")),
    "cased, fused": lambda: trained(None, whitespace(), fuse_unk=True),
    "accents kept": lambda: trained(normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()]), whitespace()),
    "accents stripped": lambda: trained(
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]), whitespace()
    ),
    "bert, cased": lambda: trained(normalizers.BertNormalizer(strip_accents=False, lowercase=False), whitespace()),
    "unknown left out": lambda: trained(normalizers.Lowercase(), whitespace(), 90, unknown=None),
    "bytes": lambda: trained(None, pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "bytes, space before": lambda: trained(normalizers.NFD(), pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "bytes, lower, unsplit": lambda: trained(
        normalizers.Lowercase(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ),
    "rank beats length": lambda: by_hand(["b c", "a b", "ab c", "c d", "bc d"], "abcd"),
    "no merges": lambda: by_hand([], "abcd"),
}


def document_of(name: str, **changes) -> dict:
    document = json.loads((TOKENIZERS | KINDS)[name]().to_str())
    for key, value in changes.items():
        where = document["model"] if key in document["model"] and key != "type" else document
        where[key] = value
    return document
