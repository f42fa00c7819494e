"""Tokenizers of the `tokenizers` library, and those that hash words: load one, encode with it; train EmbBERT's own, a
BPE over lower-cased words.

`embbert-tvm tokenizer TEXT... -o tokenizer.json` trains one on files of plain text.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from embbert_tvm.data.files import check_is_here, read_lines, write_atomically
from embbert_tvm.data.hashed_words import HashEncoding, HashTokenizer, is_hashed
from embbert_tvm.data.special_tokens import CLS as CLS
from embbert_tvm.data.special_tokens import MASK as MASK
from embbert_tvm.data.special_tokens import PAD as PAD
from embbert_tvm.data.special_tokens import SEP as SEP
from embbert_tvm.data.special_tokens import SPECIAL_TOKENS as SPECIAL_TOKENS
from embbert_tvm.data.special_tokens import UNK as UNK
from embbert_tvm.errors import InputError

TextTokenizer = Tokenizer | HashTokenizer
TextEncoding = Encoding | HashEncoding

_ALPHABET = 512  # a character rarer than the 512 most frequent becomes [UNK]


@dataclass(frozen=True)
class Encoded:
    """Token ids of one text or pair, and how many there would be without the cut to max_length.

    tokens: what each is called. places: which of the texts each is of, None for what stands around them, and its first
    character there and the one behind its last.
    """

    ids: list[int]
    full_length: int
    tokens: Sequence[str] = ()
    places: Sequence[tuple[int | None, int, int]] = ()

    @property
    def truncated(self) -> bool:
        return self.full_length > len(self.ids)


def train_tokenizer(lines: Iterable[str], vocabulary_size: int = 8192) -> Tokenizer:
    """A BPE tokenizer of at most `vocabulary_size` entries; the same lines give the same tokenizer.

    Raises InputError where the lines hold no text or the vocabulary cannot hold their alphabet.
    """
    lines = list(lines)
    normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True
    )
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(normalizer.normalize_str(line))
    # Ranked here, ties by code point: the trainer's own limit breaks ties by hash order.
    ranked = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    if not ranked:
        raise InputError("a tokenizer cannot be trained on no text: give lines that hold words")
    alphabet = ranked[:_ALPHABET]
    if vocabulary_size < len(SPECIAL_TOKENS) + len(alphabet):
        raise InputError(
            f"a vocabulary of {vocabulary_size} cannot hold the {len(alphabet)} characters of this text: "
            f"ask for {len(SPECIAL_TOKENS) + len(alphabet)} or more"
        )
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A [SEP] $B", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer, length=len(lines))
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_tokenizer(path: Path, vocabulary_size: int | None = None) -> TextTokenizer:
    """The tokenizer of a tokenizer.json, without padding or truncation of its own.

    Args:
        path: the tokenizer.json.
        vocabulary_size: what the model has; a tokenizer with an id outside it is refused.

    Raises InputError for a file that is missing, malformed or of a larger vocabulary.
    """
    check_is_here(path)
    try:
        content = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeError as error:
        raise InputError(f"{path}: not a tokenizer.json of the tokenizers library ({error})") from error
    with _refusing(path):
        tokenizer = HashTokenizer(json.loads(content)) if is_hashed(content) else Tokenizer.from_str(content)
        with suppress(Exception):  # a template of tokens that are not there panics only now; a panic is no Exception
            tokenizer.encode(_PROBE)
            tokenizer.encode(_PROBE, _PROBE)
    size = id_count(tokenizer)
    if size == 0:
        raise InputError(f"{path}: holds no tokens")
    if size > _MOST_IDS:  # the library walks over every id up to the highest, for minutes
        raise InputError(f"{path}: has a token of the id {size - 1}, {_MOST_IDS} ids are the most")
    if vocabulary_size is not None and size > vocabulary_size:
        raise InputError(
            f"{path}: holds {size} tokens, the model has {vocabulary_size}: use the tokenizer it was trained with"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = is_embbert(tokenizer)
    return tokenizer


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Raise InputError for whatever the library raises; it may panic, and what it then says on stderr is dropped."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # bare Exception for a malformed file; a panic is no Exception
        raise InputError(f"{path}: not a tokenizer.json of the tokenizers library ({error})") from error
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def id_count(tokenizer: TextTokenizer) -> int:
    """One more than the highest id that the tokenizer can give."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def load_embbert_tokenizer(path: Path, vocabulary_size: int | None = None) -> TextTokenizer:
    """`load_tokenizer` for EmbBERT and the models trained beside it; InputError unless it has their special tokens."""
    tokenizer = load_tokenizer(path)
    for expected, token in enumerate(SPECIAL_TOKENS):
        found = tokenizer.token_to_id(token)
        if found != expected:
            where = "is missing" if found is None else f"has id {found}"
            raise InputError(f"{path}: {token} {where}, EmbBERT needs it at id {expected}: train a tokenizer for it")
    size, highest = tokenizer.get_vocab_size(), id_count(tokenizer) - 1
    if highest != size - 1:
        raise InputError(f"{path}: ids are not 0 to {size - 1}, the highest is {highest}")
    if vocabulary_size is not None and size != vocabulary_size:
        raise InputError(
            f"{path}: holds {size} tokens, the model has {vocabulary_size}: use the tokenizer it was trained with"
        )
    if not is_embbert(tokenizer):
        raise InputError(f"{path}: does not write [CLS] $A and [CLS] $A [SEP] $B, as EmbBERT needs it")
    return tokenizer


def is_embbert(tokenizer: TextTokenizer) -> bool:
    """Whether the tokenizer is of EmbBERT's kind: its special tokens at ids 0 to 4 and its template.

    To such a tokenizer a special token that a user types, "[SEP]", is text; to others it is that token, as is the
    library's way.
    """
    if [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] != list(range(len(SPECIAL_TOKENS))):
        return False
    if not isinstance(tokenizer.post_processor, processors.TemplateProcessing):
        return False
    return _template(json.loads(tokenizer.to_str())["post_processor"]) == _TEMPLATE


def _template(processor: dict) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple(next(iter(piece.values()))["id"] for piece in processor[sequences]) for sequences in ("single", "pair")
    )


_PROBE = "a probe"
_MOST_IDS = 2**24
_TEMPLATE = (("[CLS]", "A"), ("[CLS]", "A", "[SEP]", "B"))


def save_tokenizer(tokenizer: TextTokenizer, path: Path) -> None:
    """Write tokenizer.json, compact, through a temporary name."""
    document = json.loads(tokenizer.to_str())
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    write_atomically(Path(path), (text + "\n").encode("utf-8"))


def encoding(
    tokenizer: TextTokenizer, text: str, text_pair: str | None = None, special_tokens: bool = True
) -> TextEncoding:
    """The library's encoding of a text or pair. Raises InputError where it has none: its unknown token is not there."""
    with _reading(text):
        return tokenizer.encode(text, text_pair, add_special_tokens=special_tokens)


def encodings(tokenizer: TextTokenizer, texts: Sequence[str], special_tokens: bool = True) -> Sequence[TextEncoding]:
    """`encoding` of many texts, by as many threads as there are cores."""
    with _reading(texts[0] if texts else ""):
        return tokenizer.encode_batch(list(texts), add_special_tokens=special_tokens)


@contextmanager
def _reading(text: str) -> Iterator[None]:
    """Raise InputError for whatever the library raises of texts, the first of which is `text`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # bare Exception of an unknown token that is not there; a panic is no Exception
        raise InputError(
            f"the tokenizer cannot read the text {text[:40]!r} ({error}): repair its tokenizer.json"
        ) from error


def tokenize(tokenizer: TextTokenizer, text: str, text_pair: str | None = None, max_length: int = 256) -> Encoded:
    """The library's `encode` of a text or pair, special tokens included, cut to `max_length` as the library cuts.

    Of a pair that is too long, the longer text gives way first ("longest_first"). Raises InputError for a text that
    holds a lone surrogate, which is what invalid UTF-8 decodes to, and where not even the special tokens fit.
    """
    for each in (text, text_pair or ""):
        try:
            each.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"the text is not valid UTF-8 (character {error.start + 1}): re-encode it") from error
    whole = encoding(tokenizer, text, text_pair)
    if len(whole.ids) <= max_length:
        return _encoded(whole, len(whole.ids))
    added = tokenizer.num_special_tokens_to_add(text_pair is not None)
    if max_length < added:
        raise InputError(f"a text of {max_length} tokens has no room for the tokenizer's {added} special tokens")
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    try:
        return _encoded(encoding(tokenizer, text, text_pair), len(whole.ids))
    finally:
        tokenizer.no_truncation()


def _encoded(found: TextEncoding, full_length: int) -> Encoded:
    places = [(part, begin, end) for part, (begin, end) in zip(found.sequence_ids, found.offsets, strict=True)]
    return Encoded(found.ids, full_length, found.tokens, places)


def encode(tokenizer: TextTokenizer, text: str, text_pair: str | None = None, max_length: int = 256) -> list[int]:
    """The ids of `tokenize`, for callers to whom the cut does not matter."""
    return tokenize(tokenizer, text, text_pair, max_length).ids


def plain_lines(paths: Iterable[Path]) -> Iterable[str]:
    """Lines of text files, without blank ones and `<|marker|>` lines."""
    for path in paths:
        for line in map(str.strip, read_lines(path)):
            if line and not (line.startswith("<|") and line.endswith("|>")):
                yield line
