"""The tokenizer in C gives the ids of the `tokenizers` library, whatever the text and whichever tokenizer."""

from __future__ import annotations

import functools
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from embbert_tvm.codegen import c_tokenizer
from embbert_tvm.codegen.tokenizer_scheme import read_scheme
from embbert_tvm.codegen.tokenizer_tables import pair_tables, settles
from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.tokenizer import CLS, SPECIAL_TOKENS, tokenize
from embbert_tvm.errors import InputError
from embbert_tvm.resources import resource

sys.path.insert(0, str(resource("benchmarks")))

import tokenizer as benchmark

# Random texts and random bytes, over all tokenizers; the nightly form: EMBBERT_TOKENIZER_CASES=100000.
CASES = int(os.environ.get("EMBBERT_TOKENIZER_CASES", "3000"))
OK, E_WORD = 0, 8

CORPUS = [
    *small.TEXTS,
    "It's the CAFÉ's naïve résumé, isn't it? I'll say we've they're 'S",
    "Ünïcödé e\u0301te\u0323\u0301 Straße ΑΒΓ αβγ Привет мир 한국어 中文字 123 45.67 ½ ² x_y",
    "aaaa aaaaaa abababab banana bandana  \t two  spaces\n\nlines",
]
NASTY = [
    "", " ", "  ", "\t\n\r\x0b\x0c\x1c\x85\xa0\u2028\u3000", "[SEP]", "a[CLS]b [PAD][UNK] [MASK]", "\x00", "a\x00b",
    "\ufeffa", "\ufffd", "\u200b\u200d\u00ad", "e\u0301", "\u0301", "a\u0323\u0301\u0302",
    "a\u0301\u0323\u0302", "İı\u017f\u212a",
    "ǅ ﬁ ŉ ß ẞ", "한국어", "각가", "中文ab中", "\U00020000\U0002f800", "👩‍👩‍👧‍👦 🇩🇪", 
    "x_y __ _", "1,234.5e-6", "don't 'tis 've",
    "''s 'll'll 'r 'v 'l're", "a\u2028b", "\ue000\uf8ff\U000f0000\U0010ffff", "\U0001d16d\U0001d165", "\u302e\u0301x",
    "a" * 700, "ab" * 400, "supercalifragilistic" * 40, "\u0301" * 20, "中" * 300, " " * 300, "." * 600, "'" * 9,
]  # fmt: skip
BROKEN = [
    b"\xff", b"a\x80b", b"\xc0\x80", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82a", b"\xe0\x80\x80", b"\xed\xa0\x80",
    b"\xf0\x80\x80\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80",
    b"\xe2\xe2\x82\xac", b"\xf0\x9f\xc3\xa9",
]  # fmt: skip


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
}


@functools.cache
def folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="embbert-tokenizer-")


@functools.cache
def scheme_of(name: str):
    path = Path(folder().name) / f"{list(TOKENIZERS).index(name)}.json"
    TOKENIZERS[name]().save(str(path))
    return read_scheme(path)


@functools.cache
def on_host(name: str, window: int = c_tokenizer.WINDOW, max_length: int = benchmark.MAX_LENGTH):
    where = Path(tempfile.mkdtemp(dir=folder().name))
    return benchmark.HostTokenizer(scheme_of(name), where, window=window, max_length=max_length, checked=True)


def check(name: str, text: bytes) -> None:
    expected = [CLS, *scheme_of(name).tokenizer.encode(text.decode("utf-8", "replace"), add_special_tokens=False).ids]
    status, ids, truncated = on_host(name)(text)
    if status == E_WORD and len(text) > c_tokenizer.WINDOW // 3:  # a long word of which nothing is certain
        assert name != "shipped"
        return
    assert (status, ids.tolist(), truncated) == (OK, expected, False), text


@pytest.mark.parametrize("name", TOKENIZERS)
def test_nasty_texts(name):
    for text in NASTY:
        check(name, text.encode())
    for text in CORPUS:
        check(name, text.encode())
    for text in BROKEN:
        check(name, text)
        check(name, b"x " + text + b" y")


def test_snips():
    for part in ("dev", "test"):
        for example in read_examples(resource("data") / "snips" / f"{part}.tsv.xz"):
            check("shipped", example.text.encode())


ANYTHING = st.one_of(
    st.text(),
    st.text(alphabet=st.sampled_from("abcde'ABCÉéİ\u017f\u0301\u0323\u0345\u302e \t\n_1½.,中한\u200d")),
    st.lists(st.sampled_from(["ab", "c", "d", "the", " ", "'s", "'ll", "é", "\u0301", ".", "5"]), max_size=60).map(
        "".join
    ),
)


OF_BYTES = ("shipped", "bytes")
EACH = CASES // (len(TOKENIZERS) + len(OF_BYTES))


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=EACH, deadline=None)
@given(text=ANYTHING)
def test_any_text(name, text):
    check(name, text.encode("utf-8", "replace"))


@pytest.mark.parametrize("name", OF_BYTES)
@settings(max_examples=EACH, deadline=None)
@given(text=st.binary())
def test_any_bytes(name, text):
    check(name, text)


@pytest.mark.parametrize("name", ["shipped", "bytes"])
def test_every_code_point(name):
    """Alone between letters, as the tables have each."""
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and (c < 0x3400 or c % 7 == 0)]
    for start in range(0, len(points), 4096):
        check(name, "".join(f"a{chr(c)}b " for c in points[start : start + 4096]).encode())


@pytest.mark.parametrize("name", ["shipped", "bytes", "cased, fused"])
def test_words_that_the_window_cannot_hold(name):
    """Exact, or refused where so small a window does not tell; never wrong. 24 symbols mostly suffice."""
    rng, refused = random.Random(0), 0
    host, tokenizer = on_host(name, 24), scheme_of(name).tokenizer
    for case in range(200):
        letters = ["ab", "etaoinshr", "abcdefghijklmnopqrstuvwxyz"][case % 3]
        text = "".join(rng.choice(letters) for _ in range(rng.randrange(400)))
        status, ids, _ = host(text.encode())
        refused += status == E_WORD
        assert status == E_WORD or ids.tolist() == [CLS, *tokenizer.encode(text, add_special_tokens=False).ids], text
    assert refused < 20 or not settles(scheme_of(name).merges)


def test_a_word_whose_end_decides_its_beginning_is_refused(tmp_path):
    """Each merge waits for the one to its right: no window of a finite size can know."""
    alphabet = "".join(chr(0x4E00 + n) for n in range(300))
    merges = [f"{alphabet[n]} {alphabet[n + 1]}" for n in reversed(range(299))]
    by_hand(merges, alphabet).save(str(tmp_path / "t.json"))
    scheme = read_scheme(tmp_path / "t.json")
    host = benchmark.HostTokenizer(scheme, tmp_path, checked=True)
    short = alphabet[-250:]
    assert host(short.encode())[1].tolist()[1:] == scheme.tokenizer.encode(short, add_special_tokens=False).ids
    assert host(alphabet.encode())[0] == E_WORD


def test_merges_out_of_order_are_exact_or_refused(tmp_path):
    """`ab` is used before it is made."""
    by_hand(["ab c", "a b", "b c"], "abc").save(str(tmp_path / "t.json"))
    scheme = read_scheme(tmp_path / "t.json")
    assert not settles(scheme.merges)
    host = benchmark.HostTokenizer(scheme, tmp_path, checked=True)
    for text in ("abc", "abcabc", "aabbcc", "abcb" * 60):
        assert host(text.encode())[1].tolist()[1:] == scheme.tokenizer.encode(text, add_special_tokens=False).ids
    assert host(b"abc" * 100)[0] == E_WORD


@pytest.mark.parametrize("max_length", [1, 2, 7, 16])
def test_a_text_or_pair_that_is_too_long_is_cut_as_on_the_host(max_length):
    host, tokenizer = on_host("shipped", max_length=max_length), scheme_of("shipped").tokenizer
    words = "turn the lights off and on again"
    for a, b in [("", None), ("", ""), (words, None), (words, words), ("", words), ("on", "off"), (words, "")]:
        expected = tokenize(tokenizer, a, b, max_length)
        status, ids, truncated = host(a.encode(), None if b is None else b.encode())
        assert (status, ids.tolist(), truncated) == (OK, expected.ids, expected.truncated)


def change(path: Path, **changes) -> Path:
    document = json.loads(TOKENIZERS["rank beats length"]().to_str())
    for key, value in changes.items():
        where = document["model"] if key in document["model"] and key != "type" else document
        where[key] = value
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizer NFC"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "NFKC"}]}}, "normalizer NFKC"),
        ({"normalizer": {"type": "Prepend", "prepend": "x"}}, "normalizer Prepend"),
        ({"pre_tokenizer": None}, "not split into words"),
        ({"pre_tokenizer": {"type": "BertPreTokenizer"}}, "pre-tokenizer BertPreTokenizer"),
        ({"byte_fallback": True}, "byte_fallback"),
        ({"ignore_merges": True}, "ignore_merges"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_what_the_device_cannot_do_is_refused_by_name(changes, named, tmp_path):
    with pytest.raises(InputError, match=named) as refused:
        read_scheme(change(tmp_path / "t.json", **changes))
    assert "--no-tokenizer" in str(refused.value)
    assert "ByteLevel" in str(refused.value)


def test_other_models_and_added_tokens_are_refused(tmp_path):
    tokenizer = TOKENIZERS["rank beats length"]()
    tokenizer.add_tokens(["new york"])
    tokenizer.save(str(tmp_path / "added.json"))
    with pytest.raises(InputError, match="added token 'new york'"):
        read_scheme(tmp_path / "added.json")
    words = Tokenizer(models.WordPiece({token: n for n, token in enumerate(SPECIAL_TOKENS)}, unk_token="[UNK]"))
    words.pre_tokenizer = whitespace()
    words.save(str(tmp_path / "words.json"))
    with pytest.raises(InputError, match="model WordPiece"):
        read_scheme(tmp_path / "words.json")


def test_the_same_tokenizer_gives_the_same_c():
    texts = {c_tokenizer.source(scheme_of("accents kept"), "x", "t") for _ in range(2)}
    assert len(texts) == 1


@settings(max_examples=30, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 999), st.integers(0, 999)), max_size=300))
def test_every_pair_has_its_own_slot(pairs):
    tables = pair_tables(sorted(pairs))
    ranks = [rank for rank in tables.at.tolist() if rank != 0xFFFF]
    assert sorted(ranks) == list(range(len(pairs)))


def test_what_the_shipped_tokenizer_costs(tmp_path):
    from embbert_tvm.target import load_cpu

    sizes = benchmark.sections(scheme_of("shipped"), load_cpu("host"), tmp_path)
    assert sizes["tables"] <= 75_000
    assert sizes["static"] == 0
    assert c_tokenizer.WINDOW_BYTES <= 2048


def test_instructions_are_counted_on_the_emulated_device(tmp_path):
    from embbert_tvm.target import load_cpu

    texts = ["turn the lights off", "play Bach's air"]
    instructions, characters = benchmark.count(scheme_of("shipped"), load_cpu("cortex-m4"), texts, tmp_path)
    assert characters == sum(map(len, texts))
    assert 50 * characters < instructions < 400 * characters
