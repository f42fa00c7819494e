"""Small tokenizers of every kind that the device takes, and random texts that are hard for them."""

from __future__ import annotations

import base64
import functools
import json
import random
import struct
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.hashed_words import HashedWords, hashed_tokenizer
from embbert_tvm.data.tokenizer import TextTokenizer
from embbert_tvm.resources import resource

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_EXTRA = [
    "It's the CAFÉ's naïve résumé, isn't it? I'll say we've they're 'S",
    "Ünïcödé e\u0301te\u0323\u0301 Straße ΑΒΓ αβγ Привет мир 한국어 中文字 123 45.67 ½ ² x_y ﬁn Å",
    "aaaa aaaaaa abababab banana bandana  \t two  spaces\n\nlines `quoted'' [SEP] <mask> new york New York",
]


@functools.cache
def corpus() -> tuple[str, ...]:
    examples = read_examples(resource("data") / "snips" / "dev.tsv.xz")
    return (*(example.text for example in examples), *_EXTRA * 3)


def _bpe(normalizer=None, pre_tokenizer=None, *, size=900, special=("<s>", "<pad>", "</s>", "<unk>"), **options):
    tokenizer = Tokenizer(models.BPE(**options))
    fallback = bool(options.get("byte_fallback"))
    special = [*special, *(f"<0x{b:02X}>" for b in range(256) if fallback)]
    trained = _trained(tokenizer, normalizer, pre_tokenizer, trainers.BpeTrainer, size, special)
    if not fallback:
        return trained
    # Bytes are tokens, but none that is found in a text.
    document = json.loads(trained.to_str())
    document["added_tokens"] = [t for t in document["added_tokens"] if not t["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(document))


def _trained(tokenizer, normalizer, pre_tokenizer, trainer, size, special, **options):
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if "ByteLevel" in str(pre_tokenizer):
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    trained = trainer(vocab_size=size, special_tokens=list(special), show_progress=False, **options)
    tokenizer.train_from_iterator(corpus(), trained)
    return tokenizer


def _word_piece(normalizer, pre_tokenizer, *, special=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), **options):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", **options))
    return _trained(tokenizer, normalizer, pre_tokenizer, trainers.WordPieceTrainer, 900, special)


def _unigram(normalizer, pre_tokenizer, *, special=("<s>", "<pad>", "</s>", "<unk>"), fallback=False, round_=False):
    trained = _trained(
        Tokenizer(models.Unigram()), normalizer, pre_tokenizer, trainers.UnigramTrainer, 700, special, unk_token="<unk>"
    )
    document = json.loads(trained.to_str())
    model = document["model"]
    if fallback:
        model["vocab"] += [[f"<0x{b:02X}>", 0.0] for b in range(256)]
        model["byte_fallback"] = True
    if round_:  # as SentencePiece's, which are float32; and many ways are of one sum
        model["vocab"] = [[piece, float(np.float32(round(score * 2) / 2))] for piece, score in model["vocab"]]
    return Tokenizer.from_str(json.dumps(document))


def _with(tokenizer: Tokenizer, post=None, added: Sequence[AddedToken] = ()) -> Tokenizer:
    if post is not None:
        tokenizer.post_processor = post
    if added:
        tokenizer.add_tokens([token for token in added if not token.special])
        tokenizer.add_special_tokens([token for token in added if token.special])
    return tokenizer


def bert_template(tokenizer: Tokenizer) -> Tokenizer:
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    template = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return _with(tokenizer, template)


def roberta(tokenizer: Tokenizer, **options) -> Tokenizer:
    sep, cls = (("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")))
    return _with(tokenizer, processors.RobertaProcessing(sep, cls, **options))


def embbert() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(resource("models") / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return tokenizer


def charsmap(entries: dict[str, str]) -> bytes:
    """A `precompiled_charsmap`: a double array of the keys' bytes, then what they become, each ended by 0."""
    made, places = bytearray(), {}
    for text in dict.fromkeys(entries.values()):
        places[text] = len(made)
        made += text.encode() + b"\0"
    children: dict[bytes, set[int]] = {}
    for key in entries:
        coded = key.encode()
        for n, byte in enumerate(coded):
            children.setdefault(coded[:n], set()).add(byte)
    ends = {key.encode(): places[text] for key, text in entries.items()}
    units, taken = [0] * (1 << 20), bytearray(1 << 20)
    base, waiting = 256, [(b"", 0)]
    for prefix, place in waiting:
        ending = [0] if prefix in ends else []
        wanted = [*ending, *sorted(children.get(prefix, ()))]
        base += 1
        while any(taken[base ^ label] for label in wanted):
            base += 1
        units[place] |= (place ^ base) << 10 | len(ending) << 8
        for label in wanted:
            taken[base ^ label] = 1
            units[base ^ label] = label or ends[prefix] | 1 << 31
            if label:
                waiting.append((prefix + bytes([label]), base ^ label))
    size = taken.rindex(1) + 256
    return struct.pack("<I", 4 * size) + np.array(units[:size], "<u4").tobytes() + bytes(made)


@functools.cache
def nmt_nfkc() -> dict[str, str]:
    """Much of what SentencePiece's nmt_nfkc does: NFKC of single characters and of letters with marks, white space."""
    entries = {}
    for c in [*range(0xA0, 0x3400), *range(0xF900, 0x10000), *range(0x1D400, 0x1D500)]:
        character = chr(c)
        made = unicodedata.normalize("NFKC", character)
        if made != character and unicodedata.category(character) != "Cs":
            entries[character] = made
        parts = unicodedata.normalize("NFD", character)
        if len(parts) > 1 and made == character:
            entries[parts] = made
            if len(parts) > 2 and len(half := unicodedata.normalize("NFC", parts[:2])) == 1:
                entries[parts[:2]] = half
    entries |= dict.fromkeys([*map(chr, range(1, 9)), "\x0b", "\x7f", "\u200b", "\ufeff"], "")
    return entries | dict.fromkeys("\t\n\r\x0c\u2028\u2029\u1680", " ")


def precompiled() -> normalizers.Normalizer:
    step = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(nmt_nfkc())).decode()}
    model = {"type": "BPE", "vocab": {}, "merges": []}
    return Tokenizer.from_str(json.dumps({"version": "1.0", "normalizer": step, "model": model})).normalizer


def _sequence(*steps):
    return normalizers.Sequence(list(steps))


def _splits(*steps):
    return pre_tokenizers.Sequence(list(steps))


def _bert() -> Tokenizer:
    special = ["[PAD]", *(f"[unused{n}]" for n in range(9)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return bert_template(
        _word_piece(normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer(), special=special)
    )


def _ignoring_merges() -> Tokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
    document = json.loads(_bpe(None, _splits(split, byte_level), ignore_merges=True).to_str())
    vocabulary = document["model"]["vocab"]
    for word in ("Ġzzyzx", "Ġlightsoff", "qqq", "ĊĊĊ"):
        vocabulary[word] = len(vocabulary)
    return Tokenizer.from_str(json.dumps(document))


def _first_words() -> list[AddedToken]:
    return [
        AddedToken("<mask>", lstrip=True, special=True, normalized=False),
        AddedToken("New York", normalized=True),
        AddedToken("york", normalized=True, single_word=True),
        AddedToken("[R]", rstrip=True, normalized=False),
        AddedToken("ab", single_word=True, normalized=False),
        AddedToken("café", normalized=True, lstrip=True, rstrip=True),
    ]


def _metaspace(scheme="always", split=True):
    return pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)


def _byte_level(prefix=False, regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


KINDS: dict[str, Callable[[], TextTokenizer]] = {
    "EmbBERT": embbert,
    "hashed words": lambda: hashed_tokenizer(HashedWords(763)),
    "BERT": _bert,
    "BERT, cased": lambda: bert_template(
        _word_piece(normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer())
    ),
    "WordPiece, NFC, short words": lambda: bert_template(
        _word_piece(normalizers.NFC(), pre_tokenizers.Whitespace(), max_input_chars_per_word=7)
    ),
    "WordPiece, NFD": lambda: _word_piece(
        _sequence(normalizers.NFD(), normalizers.Lowercase()), pre_tokenizers.WhitespaceSplit()
    ),
    "WordPiece, NFKD, punctuation, added": lambda: _with(
        _word_piece(
            _sequence(normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()),
            _splits(pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_next")),
        ),
        None,
        _first_words(),
    ),
    "RoBERTa": lambda: _with(
        roberta(_bpe(None, _byte_level())), None, [AddedToken("<mask>", lstrip=True, special=True, normalized=False)]
    ),
    "GPT-2": lambda: _with(
        _bpe(None, _byte_level(), special=()), None, [AddedToken("<|endoftext|>", special=True, normalized=True)]
    ),
    "bytes, prefix, added": lambda: _with(
        roberta(_bpe(normalizers.NFC(), _byte_level(prefix=True)), add_prefix_space=True), None, _first_words()
    ),
    "bytes, digits": lambda: _bpe(
        normalizers.Lowercase(), _splits(pre_tokenizers.Digits(True), _byte_level(prefix=True))
    ),
    "bytes, unsplit": lambda: _bpe(normalizers.NFKC(), _byte_level(regex=False)),
    "llama-3": lambda: _with(
        _bpe(None, _splits(pre_tokenizers.Split(Regex(LLAMA3), "isolated"), _byte_level(regex=False))),
        processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]),
            ]
        ),
    ),
    "llama-3, merges ignored": _ignoring_merges,
    "GPT-2's pattern, no bytes": lambda: _bpe(
        None, pre_tokenizers.Split(Regex(GPT2), "removed", invert=True), unk_token="<unk>", fuse_unk=True
    ),
    "llama": lambda: _with(
        _bpe(
            _sequence(normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")),
            None,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        ),
        processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)]),
    ),
    "Metaspace BPE": lambda: _bpe(None, _metaspace(), unk_token="<unk>"),
    "Metaspace BPE, first, unknown left out": lambda: _with(
        _bpe(
            _sequence(normalizers.Strip(True, True), normalizers.Replace("``", '"'), normalizers.Lowercase()),
            _metaspace("first"),
        ),
        None,
        [AddedToken("<mask>", lstrip=True, special=True, normalized=False), AddedToken("york", normalized=True)],
    ),
    "BPE, words": lambda: _bpe(
        normalizers.BertNormalizer(strip_accents=False, lowercase=False),
        pre_tokenizers.Whitespace(),
        unk_token="<unk>",
    ),
    "Unigram": lambda: roberta(
        _unigram(
            _sequence(normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(" {2,}"), " ")),
            _metaspace(),
        )
    ),
    "ALBERT": lambda: roberta(
        _with(
            _unigram(
                _sequence(
                    normalizers.Replace("``", '"'),
                    normalizers.Replace("''", '"'),
                    normalizers.NFKD(),
                    normalizers.StripAccents(),
                    normalizers.Lowercase(),
                    precompiled(),
                    normalizers.Replace(Regex(" {2,}"), " "),
                ),
                _metaspace(),
                round_=True,
            ),
            None,
            [AddedToken("<mask>", lstrip=True, special=True, normalized=False)],
        )
    ),
    "XLM-R": lambda: roberta(
        _unigram(
            _sequence(precompiled(), normalizers.Replace(Regex(" {2,}"), " ")),
            _splits(pre_tokenizers.WhitespaceSplit(), _metaspace()),
        )
    ),
    "Unigram, first, rounded": lambda: _unigram(
        _sequence(normalizers.Strip(False, True), precompiled(), normalizers.Replace(Regex(r"\s{2,}"), "▁")),
        _metaspace("first"),
        round_=True,
    ),
    "Unigram, byte fallback, unsplit": lambda: _unigram(
        normalizers.Replace(" ", "▁"), _metaspace("never", split=False), fallback=True, round_=True
    ),
    "WordLevel": lambda: _with(
        _trained(
            Tokenizer(models.WordLevel(unk_token="<unk>")),
            normalizers.Replace(Regex(r"[0-9]+"), "0"),
            _splits(pre_tokenizers.Split(" ", "merged_with_previous"), pre_tokenizers.Punctuation("contiguous")),
            trainers.WordLevelTrainer,
            900,
            ("<unk>",),
        ),
        None,
        _first_words(),
    ),
}


_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz     .,'",
    "the lights ABC don't we'll 's 'RE 'Ve 'd '\u017f  ",
    "éÉàüßñÅåİıŉǅ\u0301\u0323\u0302\u0345 e a",
    " \t\n\r\x0b\x0c\x85\xa0\u2028\u3000\u200b\u200d\x00\x1c a1.",
    "中文字かなカナ한국어각가\u1100\u1161\u11a8 ab\u0301",
    "0123456789½²①٣Ⅷ,.-a ",
    "👩\u200d👧🇩🇪©\u200d®\ufe0f!?§€_-—“”`` ''",
    "\u0600\u0915\u094d\u0937ﬁﬃ\uff21①㍿\u0301\u0340\u0344\u1e9b\u2126 x",
    "ab▁ ▁▁ĠĊ<[]>|_",
)
_PIECES = (
    "<mask>", " <mask> ", "[SEP]", "[CLS]", "<s>", "</s>", "new york", "New York", "york", "yorker", "café",
    "cafe\u0301", "[R]  ", "ab", "<|endoftext|>", "<unk>", "``", "''", "  ", "   ", "\n\n", " \n \n", "turn", " the",
    "lights", "zzyzx", " lightsoff", "qqq", "Straße", "...", "'ll", "'S", "<0x41>", "[unused1]",
)  # fmt: skip


def random_text(rng: random.Random) -> str:
    """A text of one of several mixtures, none of which has a lone surrogate."""
    mixture = rng.randrange(6)
    length = rng.choice((3, 8, 20, 60))
    if mixture == 0:
        points = (rng.choice((0x80, 0x800, 0x3000, 0x10000, 0x20000, 0x110000)) for _ in range(length))
        return "".join(chr(c) for c in map(rng.randrange, points) if not 0xD800 <= c < 0xE000)
    if mixture == 1:
        return "".join(rng.choice(rng.choice(_ALPHABETS)) for _ in range(length))
    if mixture == 2:
        return "".join(rng.choice((*_PIECES, rng.choice(_ALPHABETS[0]), " ")) for _ in range(length // 2 + 1))
    if mixture == 3:
        text = rng.choice(corpus())
        return text if rng.random() < 0.5 else text.upper().replace(" ", rng.choice((" ", "  ", "\n", "\t ")))
    alphabet = rng.choice(_ALPHABETS)
    return "".join(rng.choice(alphabet) for _ in range(length))
