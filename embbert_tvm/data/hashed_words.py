"""A tokenizer without a vocabulary: words hashed to rows of a table, exactly as firmware's C does it.

Normalizer, pre-tokenizer and template are those of a tokenizer.json and run by the `tokenizers` library; its `model` is
of the type HashedWords, which the library does not know. It makes `words + runs` ids of each word, the rows whose mean
is the word's vector (a hash embedding, Svenstrup et al., arXiv 1709.03933; the least hashes are MinHash as in
pNLP-Mixer, arXiv 2202.04350). firmware/tokenizer/embbert_hashed_words.h mirrors this, operation by operation, modulo
2**32:

1. A word's hash is polynomial: h = h * 0x9E3779B1 + c + 1 over its code points c, from 0.
2. A run is `shortest` to `longest` characters in a row of the word written with a space on either side, hashed as a
   word is, and 0x7F4A7C15 times its length added to that.
3. mix(h): h ^= h >> 15, h *= 0x2C1B3C6D, h ^= h >> 12, h *= 0x297A2D39, h ^= h >> 15.
4. For k = 1 to words: the id of mix(h + k * 0x632BE5AB).
5. For k = words + 1 to words + runs: the id of mix(l), l the least mix(f + k * 0x632BE5AB) of the word's hash and its
   runs' hashes f. Words that are spelled alike share many of these ids.
6. The id of x is first + (x * buckets >> 32).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from tokenizers import PreTokenizedString, Tokenizer

from embbert_tvm.data.ngrams import KIND_STEP, LAST_SHIFT, MIX, MULTIPLIER
from embbert_tvm.data.special_tokens import CLS, SEP, SPECIAL_TOKENS
from embbert_tvm.errors import InputError

TYPE = "HashedWords"
SALT = 0x632BE5AB
_WORD = 2**32 - 1
_SPACE = 0x20
_MOST_IDS = 32  # of a word


@dataclass(frozen=True)
class HashedWords:
    """How words become ids. words, runs: ids of a word by its own hash, by the least of its runs' hashes."""

    buckets: int
    words: int = 4
    runs: int = 4
    shortest: int = 3
    longest: int = 5
    first: int = 5

    def __post_init__(self) -> None:
        if not all(type(value) is int and value >= 0 for value in asdict(self).values()):
            raise InputError(f"a model of {TYPE} has whole numbers, not {asdict(self)}")
        if not 1 <= self.buckets < 2**24 or self.first >= 2**24:
            raise InputError(f"{self.buckets} buckets from the id {self.first} on: give 1 to {2**24 - 1}")
        if not 1 <= self.ids_per_word <= _MOST_IDS:
            raise InputError(f"{self.ids_per_word} ids of a word: give 1 to {_MOST_IDS}")
        if not 1 <= self.shortest <= self.longest <= 8:
            raise InputError(f"runs of {self.shortest} to {self.longest} characters: give 1 to 8")

    @classmethod
    def read(cls, model: Mapping[str, Any]) -> HashedWords:
        """The `model` of a tokenizer.json. Raises InputError for one that cannot be."""
        try:
            return cls(**{key: value for key, value in model.items() if key != "type"})
        except TypeError as error:
            raise InputError(f"a model of the type {TYPE} has other settings: {error}") from error

    @property
    def ids_per_word(self) -> int:
        return self.words + self.runs

    @property
    def vocabulary(self) -> int:
        """One more than the highest id."""
        return self.first + self.buckets

    def ids(self, word: str) -> tuple[int, ...]:
        """The ids of a word of at least one character."""
        points = [ord(character) for character in word]
        whole = _polynomial(points)
        found = [_mixed(whole + k * SALT) for k in range(1, self.words + 1)]
        features = [whole, *self._runs([_SPACE, *points, _SPACE])]
        for k in range(self.words + 1, self.ids_per_word + 1):
            found.append(_mixed(min(_mixed(f + k * SALT) for f in features)))
        return tuple(self.first + (x * self.buckets >> 32) for x in found)

    def _runs(self, points: Sequence[int]) -> Iterator[int]:
        for length in range(self.shortest, self.longest + 1):
            for start in range(len(points) - length + 1):
                yield (_polynomial(points[start : start + length]) + length * KIND_STEP) & _WORD


def _polynomial(points: Sequence[int]) -> int:
    h = 0
    for point in points:
        h = (h * MULTIPLIER + point + 1) & _WORD
    return h


def _mixed(h: int) -> int:
    h &= _WORD
    for shift, multiplier in MIX:
        h = (h ^ h >> shift) * multiplier & _WORD
    return h ^ h >> LAST_SHIFT


@dataclass(frozen=True)
class HashEncoding:
    """What the library's Encoding tells of a text or pair, as far as it is used here."""

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    sequence_ids: list[int | None]


class HashTokenizer:
    """A tokenizer.json whose model is HashedWords, with those methods of the library's Tokenizer that are used here."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Raises InputError for a model that cannot be, and whatever the library raises of the rest."""
        self.model = HashedWords.read(document["model"])
        self._document = dict(document)
        # The library's own, for all but the model, of which it needs one.
        plain = {"type": "WordLevel", "vocab": {"": 0}, "unk_token": ""}
        self._front = Tokenizer.from_str(json.dumps(self._document | {"model": plain}))
        self.normalizer, self.pre_tokenizer = self._front.normalizer, self._front.pre_tokenizer
        self.post_processor = self._front.post_processor
        self.encode_special_tokens = True
        self._most: int | None = None
        self._ids = lru_cache(1 << 18)(self.model.ids)
        processor = document["post_processor"]
        self._templates = {False: processor["single"], True: processor["pair"]}
        self._special = {name: (token["ids"], token["tokens"]) for name, token in processor["special_tokens"].items()}
        uneven = [name for name, (ids, _) in self._special.items() if len(ids) != self.model.ids_per_word]
        if uneven or document["added_tokens"]:
            raise InputError(f"a model of {TYPE} has tokens of {self.model.ids_per_word} ids each, and none added")
        # A bucket is called by its number.
        named = {ids[0]: name for name, (ids, _) in self._special.items()} | dict(enumerate(SPECIAL_TOKENS))
        self._names = [named.get(number, f"#{number}") for number in range(self.model.vocabulary)]
        self._numbers = {name: number for number, name in enumerate(self._names)}

    def encode(self, text: str, pair: str | None = None, add_special_tokens: bool = True) -> HashEncoding:
        """The ids of a text or pair, cut as the library cuts, LongestFirst, but between tokens."""
        texts = [self._words(text), *([] if pair is None else [self._words(pair)])]
        if self._most is not None:
            added = self.num_special_tokens_to_add(pair is not None) if add_special_tokens else 0
            texts = self._cut(texts, (self._most - added) // self.model.ids_per_word)
        found = HashEncoding([], [], [], [])
        if add_special_tokens:
            for piece in self._templates[pair is not None]:
                if "Sequence" in piece:
                    number = "AB".index(piece["Sequence"]["id"])
                    self._append(found, texts[number], number)
                else:
                    ids, tokens = self._special[piece["SpecialToken"]["id"]]
                    found.ids.extend(ids)
                    found.tokens.extend(tokens)
                    found.offsets.extend([(0, 0)] * len(ids))
                    found.sequence_ids.extend([None] * len(ids))
        else:
            for number, words in enumerate(texts):
                self._append(found, words, number)
        return found

    def encode_batch(
        self, texts: Sequence[str | tuple[str, str]], add_special_tokens: bool = True
    ) -> list[HashEncoding]:
        """`encode` of each text or pair."""
        pairs = [(text, None) if isinstance(text, str) else text for text in texts]
        return [self.encode(text, pair, add_special_tokens) for text, pair in pairs]

    def _words(self, text: str) -> list[tuple[str, tuple[int, int]]]:
        """The words of a text after normalizing, and their places in it."""
        split = PreTokenizedString(text)
        if self.normalizer is not None:
            split.normalize(self.normalizer.normalize)
        if self.pre_tokenizer is not None:
            self.pre_tokenizer.pre_tokenize(split)
        return [(word, place) for word, place, _ in split.get_splits("original", "char") if word]

    def _append(self, found: HashEncoding, words: Sequence[tuple[str, tuple[int, int]]], number: int) -> None:
        each = self.model.ids_per_word
        for word, place in words:
            found.ids.extend(self._ids(word))
            found.tokens.extend([word] * each)
            found.offsets.extend([place] * each)
            found.sequence_ids.extend([number] * each)

    @staticmethod
    def _cut(texts: list[list], room: int) -> list[list]:
        """The longest gives way, until both are of one length."""
        if sum(map(len, texts)) <= room:
            return texts
        if len(texts) == 1:
            return [texts[0][:room]]
        less, more = sorted(map(len, texts))
        more = max(less, room - less)
        if less + more > room:
            less, more = room // 2, room - room // 2
        kept = (more, less) if len(texts[0]) > len(texts[1]) else (less, more)
        return [words[:n] for words, n in zip(texts, kept, strict=True)]

    def num_special_tokens_to_add(self, is_pair: bool) -> int:
        return sum(self.model.ids_per_word for piece in self._templates[is_pair] if "SpecialToken" in piece)

    def enable_truncation(self, max_length: int, strategy: str = "longest_first") -> None:
        assert strategy == "longest_first"
        self._most = max_length

    def no_truncation(self) -> None:
        self._most = None

    def no_padding(self) -> None:
        """There never is any."""

    def get_vocab_size(self) -> int:
        return self.model.vocabulary

    def get_vocab(self) -> dict[str, int]:
        return self._numbers

    def id_to_token(self, number: int) -> str:
        return self._names[number]

    def token_to_id(self, token: str) -> int | None:
        return self._numbers.get(token)

    def to_str(self) -> str:
        return json.dumps(self._document, ensure_ascii=False)


def is_hashed(content: str) -> bool:
    """Whether a tokenizer.json's model is HashedWords."""
    if TYPE not in content:  # the library reads it, and a large one is not read twice
        return False
    try:
        model = json.loads(content)["model"]
        return bool(model["type"] == TYPE)
    except (ValueError, KeyError, TypeError):
        return False


def hashed_tokenizer(model: HashedWords) -> HashTokenizer:
    """EmbBERT's: words of lower-cased text between white space and punctuation, each of which is a word as is a Chinese
    character; [CLS] $A and [CLS] $A [SEP] $B."""
    special = {
        name: {"id": name, "ids": [number] * model.ids_per_word, "tokens": [name] * model.ids_per_word}
        for number, name in ((n, SPECIAL_TOKENS[n]) for n in (CLS, SEP))
    }
    single = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    pair = [{"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}]
    return HashTokenizer(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "BertPreTokenizer"},
                    {"type": "Split", "pattern": {"Regex": "\\p{Han}"}, "behavior": "Isolated", "invert": False},
                ],
            },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": single,
                "pair": [*single, *pair],
                "special_tokens": special,
            },
            "decoder": None,
            "model": {"type": TYPE, **asdict(model)},
        }
    )
