"""What a tokenizer.json asks for, as data: the steps from a text to ids that the tokenizer on the device takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from embbert_tvm.data.hashed_words import HashedWords
from embbert_tvm.data.tokenizer import TextTokenizer

Behavior = Literal["removed", "isolated", "contiguous", "merged_with_previous", "merged_with_next"]


@dataclass(frozen=True)
class MapCharacters:
    """Changes each character by itself, as a normalizer of the library does."""

    # The normalizer as in tokenizer.json.
    normalizer: str


@dataclass(frozen=True)
class OrderMarks:
    """Brings combining marks into canonical order and, if `compose`, joins them with what they follow."""

    compose: bool


@dataclass(frozen=True)
class MapGraphemes:
    """SentencePiece's precompiled map, applied as the library does: to short grapheme clusters, else to characters."""

    # The normalizer as in tokenizer.json.
    normalizer: str
    # The `precompiled_charsmap`, decoded.
    charsmap: bytes


@dataclass(frozen=True)
class ReplaceRun:
    """Replaces each run of at least `least` characters that match a regular expression of one character."""

    atom: str
    least: int
    content: str


@dataclass(frozen=True)
class ReplaceText:
    """Replaces a text of two or more characters."""

    pattern: str
    content: str


@dataclass(frozen=True)
class Strip:
    """Removes white space at the ends."""

    left: bool
    right: bool


@dataclass(frozen=True)
class Prepend:
    """Puts characters before a text that is not empty."""

    text: str


Normalizer = MapCharacters | OrderMarks | MapGraphemes | ReplaceRun | ReplaceText | Strip | Prepend


@dataclass(frozen=True)
class Delimit:
    """Splits at the characters of a set, which `unicode_map.members` names."""

    members: str
    behavior: Behavior


@dataclass(frozen=True)
class Begin:
    """Puts a character before a piece that does not begin with it.

    first: only where the piece begins where the caller's text does. replaces: the character that it replaces
    everywhere, None for none.
    """

    character: str
    first: bool
    always: bool
    replaces: str | None


@dataclass(frozen=True)
class SplitPattern:
    """Splits by GPT-2's regular expression or, with `newlines`, by llama-3's.

    digits: how many numbers stand together at most, under `newlines`.
    """

    newlines: bool
    digits: int


Splitter = Delimit | Begin | SplitPattern


@dataclass(frozen=True)
class Bpe:
    """Byte-pair encoding. merges: (left, right, made) token ids by rank. unknown: None where such is left out."""

    vocabulary: dict[str, int]
    merges: tuple[tuple[int, int, int], ...]
    unknown: int | None
    fuse_unknown: bool
    byte_fallback: bool
    ignore_merges: bool


@dataclass(frozen=True)
class WordPiece:
    """Greedy longest matches; a word of more than `most_characters` is unknown."""

    vocabulary: dict[str, int]
    unknown: int
    prefix: str
    most_characters: int


@dataclass(frozen=True)
class Unigram:
    """The most probable sequence of pieces. scores: of the token with that id; NaN where an id has none."""

    vocabulary: dict[str, int]
    scores: tuple[float, ...]
    unknown: int
    byte_fallback: bool


@dataclass(frozen=True)
class WordLevel:
    """A token a word."""

    vocabulary: dict[str, int]
    unknown: int


Model = Bpe | WordPiece | Unigram | WordLevel | HashedWords


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in the text before it is split. text: as it is matched, normalized if `normalized`."""

    id: int
    text: str
    single_word: bool
    strips_left: bool
    strips_right: bool
    normalized: bool
    # Found, and left as text: a special token under `encode_special_tokens`.
    ignored: bool


@dataclass(frozen=True)
class Template:
    """What stands around the texts: token ids, and "A" and "B" for the texts' own."""

    single: tuple[int | str, ...]
    pair: tuple[int | str, ...]

    @property
    def added_to_single(self) -> int:
        return len(self.single) - 1

    @property
    def added_to_pair(self) -> int:
        return len(self.pair) - 2


@dataclass(frozen=True)
class TokenizerSpec:
    """A tokenizer as the device needs to know it.

    vocabulary: one more than the highest id. byte_level: words are cut into bytes. trims: whether spaces at a token's
    ends are not of its place in the text; and whether a text's first space is then taken for one that was put there.
    offsets: whether the C tells these places, too.
    """

    tokenizer: TextTokenizer
    vocabulary: int
    normalizers: tuple[Normalizer, ...]
    splitters: tuple[Splitter, ...]
    byte_level: bool
    model: Model
    template: Template
    added: tuple[AddedToken, ...]
    trims: tuple[bool, bool] = (False, False)
    offsets: bool = False
