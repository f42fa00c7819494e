"""The tokenizer in C gives the ids of the `tokenizers` library, whatever the text and whichever tokenizer."""

from __future__ import annotations

import base64
import functools
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from embbert_tvm.codegen import c_tokenizer
from embbert_tvm.codegen.tokenizer_tables import merges_ordered, pair_tables
from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.tokenizer import save_tokenizer, tokenize
from embbert_tvm.data.tokenizer_json import read_spec, spec_of
from embbert_tvm.errors import InputError
from embbert_tvm.resources import resource

sys.path.insert(0, str(resource("benchmarks")))

import tokenizer as benchmark
from tokenizer_kinds import KINDS, charsmap, random_text

# Random texts and random bytes, over all tokenizers; the nightly form: EMBBERT_TOKENIZER_CASES=100000.
from tokenizers_by_name import CORPUS, TOKENIZERS, by_hand, document_of

CASES = int(os.environ.get("EMBBERT_TOKENIZER_CASES", "3000"))
OK, E_LENGTH, E_WORD = 0, 2, 8

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


WINDOW = 256  # of BPE


@functools.cache
def folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="embbert-tokenizer-")


@functools.cache
def spec_named(name: str):
    path = Path(folder().name) / "tokenizer.json"
    save_tokenizer((TOKENIZERS | KINDS)[name](), path)
    return read_spec(path)


@functools.cache
def on_host(name: str, window: int | None = None, max_length: int = benchmark.MAX_LENGTH):
    where = Path(tempfile.mkdtemp(dir=folder().name))
    return benchmark.HostTokenizer(spec_named(name), where, window=window, max_length=max_length, checked=True)


def library(name: str, text: str, pair: str | None = None) -> list[int]:
    return spec_named(name).tokenizer.encode(text, pair).ids


def check(name: str, text: bytes) -> None:
    expected = library(name, text.decode("utf-8", "replace"))
    status, ids, truncated = on_host(name)(text)
    if status == E_WORD and len(text) > WINDOW // 3:  # a long word of which nothing is certain
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
    host = on_host(name, 24)
    for case in range(200):
        letters = ["ab", "etaoinshr", "abcdefghijklmnopqrstuvwxyz"][case % 3]
        text = "".join(rng.choice(letters) for _ in range(rng.randrange(400)))
        status, ids, _ = host(text.encode())
        refused += status == E_WORD
        assert status == E_WORD or ids.tolist() == library(name, text), text
    assert refused < 20 or not merges_ordered(spec_named(name).model.merges)


def test_tokens_of_planes_that_unicode_leaves_empty(tmp_path):
    """Of such code points a few are asked about; a token among the others got the next one's id."""
    lone = "a\U00040000\U000e1234\U000f0000\U000f1234\U0010fffd"
    by_hand(["a b"], lone + "b").save(str(tmp_path / "t.json"))
    spec = read_spec(tmp_path / "t.json")
    host = benchmark.HostTokenizer(spec, tmp_path, checked=True)
    for text in [*lone, "\U00040001", "\U000f1235", "z"]:
        assert host(text.encode())[1].tolist() == spec.tokenizer.encode(text).ids, hex(ord(text))


def test_a_word_whose_end_decides_its_beginning_is_refused(tmp_path):
    """Each merge waits for the one to its right: no window of a finite size can know."""
    alphabet = "".join(chr(0x4E00 + n) for n in range(300))
    merges = [f"{alphabet[n]} {alphabet[n + 1]}" for n in reversed(range(299))]
    by_hand(merges, alphabet).save(str(tmp_path / "t.json"))
    spec = read_spec(tmp_path / "t.json")
    host = benchmark.HostTokenizer(spec, tmp_path, checked=True)
    short = alphabet[-250:]
    assert host(short.encode())[1].tolist() == spec.tokenizer.encode(short).ids
    assert host(alphabet.encode())[0] == E_WORD


def test_merges_out_of_order_are_exact_or_refused(tmp_path):
    """`ab` is used before it is made."""
    by_hand(["ab c", "a b", "b c"], "abc").save(str(tmp_path / "t.json"))
    spec = read_spec(tmp_path / "t.json")
    assert not merges_ordered(spec.model.merges)
    host = benchmark.HostTokenizer(spec, tmp_path, checked=True)
    for text in ("abc", "abcabc", "aabbcc", "abcb" * 60):
        assert host(text.encode())[1].tolist() == spec.tokenizer.encode(text).ids
    assert host(b"abc" * 100)[0] == E_WORD


WORDS = "turn the lights off and on again"
CUT = [
    ("", None), ("", ""), (WORDS, None), (WORDS, WORDS), ("", WORDS), ("on", "off"), (WORDS, ""),
    (WORDS[:20], WORDS), (WORDS, WORDS[:17]), (WORDS * 9, "on"), ("on", WORDS * 9),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "max_length"),
    [
        *((name, n) for name in ("shipped", "BERT", "RoBERTa", "GPT-2") for n in (1, 4, 7, 16)),
        *(("hashed words", n) for n in (7, 8, 20, 33, 72, 128)),
    ],
)
def test_a_text_or_pair_that_is_too_long_is_cut_as_the_library_does(name, max_length):
    host, tokenizer = on_host(name, max_length=max_length), spec_named(name).tokenizer
    for a, b in CUT:
        status, ids, truncated = host(a.encode(), None if b is None else b.encode())
        if tokenizer.num_special_tokens_to_add(b is not None) > max_length:
            assert status == E_LENGTH
        else:
            expected = tokenize(tokenizer, a, b, max_length)
            assert (status, ids.tolist(), truncated) == (OK, expected.ids, expected.truncated), (a, b)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_the_ids_of_the_library(name):
    rng, tokenizer = random.Random(name), spec_named(name).tokenizer
    texts = [*NASTY, *CORPUS, *(random_text(rng) for _ in range(CASES // 20))]
    for text in texts:
        pair = rng.choice((None, None, rng.choice(texts)))
        status, ids, truncated = on_host(name)(text.encode(), None if pair is None else pair.encode())
        if status != E_WORD or max(len(text), len(pair or "")) < WINDOW:  # else nothing is certain of a long word
            assert (status, ids.tolist(), truncated) == (OK, tokenizer.encode(text, pair).ids, False), (text, pair)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_takes_any_bytes(name):
    for text in BROKEN:
        check(name, b"x " + text + b" <mask> y")


def test_a_long_word_is_followed_through_the_window():
    """Unigram's best way is told from 64 characters at a time, but where two ways never meet."""
    host, rng, refused = on_host("Unigram", 64), random.Random(1), 0
    for letters in ("abcdefghijklmnopqrstuvwxyz", "the lights" * 3 + "x", "\u4e00\u4e01a"):
        for _ in range(60):
            text = "".join(rng.choice(letters.replace(" ", "")) for _ in range(400))
            status, ids, _ = host(text.encode())
            refused += status == E_WORD
            assert status == E_WORD or ids.tolist() == library("Unigram", text), text
    assert refused < 5


def test_words_are_cut_where_no_token_reaches_over():
    """Without a pre-tokenizer the whole text is a word; the space's mark shows where it may be cut."""
    text = " ".join(["turn the lights off in the kitchen"] * 60)
    assert on_host("llama", 64)(text.encode())[1].tolist() == library("llama", text)


def test_bytes_that_are_not_all_tokens_are_refused(tmp_path):
    document = document_of("llama")
    number = document["model"]["vocab"].pop("<0x7F>")
    document["model"]["vocab"]["other"] = number
    (tmp_path / "t.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="byte_fallback without the token <0x7F>"):
        read_spec(tmp_path / "t.json")


def test_a_model_without_its_unknown_token_is_refused(tmp_path):
    words = Tokenizer(models.WordPiece({"a": 0, "b": 1}, unk_token="[UNK]"))
    words.save(str(tmp_path / "t.json"))
    with pytest.raises(InputError, match=r"WordPiece whose vocabulary has not its own unknown token '\[UNK\]'"):
        read_spec(tmp_path / "t.json")
    Tokenizer(models.Unigram([("a", -1.0)], None, False)).save(str(tmp_path / "u.json"))
    with pytest.raises(InputError, match="Unigram without an unknown token"):
        read_spec(tmp_path / "u.json")


def test_ids_and_merges_above_16_bits(tmp_path):
    """WordLevel, and BPE, whose merges are looked up by another hash."""
    names = {f"t{n}": n for n in range(69_990)} | {c: 69_990 + n for n, c in enumerate("abcdefg")}
    vocabulary = names | {"ab": 69_997, "abc": 69_998, "[UNK]": 69_999}
    wide = Tokenizer(models.BPE(vocabulary, [("a", "b"), ("ab", "c")], unk_token="[UNK]"))
    level = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    for number, tokenizer in enumerate((wide, level)):
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        (tmp_path / str(number)).mkdir()
        host = benchmark.HostTokenizer(spec_of(tokenizer, tmp_path), tmp_path / str(number), checked=True)
        for text in ("abc abcabd x t1 t69989", "ab" * 300):
            assert host(text.encode())[1].tolist() == tokenizer.encode(text).ids


def test_many_merges_are_found_by_the_wide_hash():
    pairs = [(n * 7919 % 250_000, n * 104_729 % 250_000) for n in range(20_000)]
    tables = pair_tables(sorted(set(pairs)), wide=True)
    found = tables.at[tables.at != 0xFFFFFFFF]
    assert sorted(found.tolist()) == list(range(len(set(pairs))))


def test_the_precompiled_map_is_read_as_the_library_reads_it(tmp_path):
    entries = {"a\u0301": "A", "\r\n": "|", "\uff21": "X", "\u0344": "", "\u00a9": "(c)", "q": "qq"}
    step = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(entries)).decode()}
    document = document_of("GPT-2", normalizer=step)
    (tmp_path / "t.json").write_text(json.dumps(document))
    spec = read_spec(tmp_path / "t.json")
    host = benchmark.HostTokenizer(spec, tmp_path, checked=True)
    marks, starts = ("", "\u0301", "\u0301\u0301", "\u0344", "\u200d", "\u200d\u00ae"), "aq\uff21\u00a9\u0600\r\n\x01"
    for before in ("", "\u0600", "x", "\u0344"):
        for start in (*starts, "\r\n", ""):
            for mark in marks:
                text = f"{before}{start}{mark} z"
                assert host(text.encode())[1].tolist() == spec.tokenizer.encode(text).ids, ascii(text)
    document["normalizer"]["precompiled_charsmap"] = "AAEC"
    (tmp_path / "t.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="precompiled_charsmap"):
        read_spec(tmp_path / "t.json")


def test_a_special_token_typed_to_embbert_is_text_and_to_others_is_that_token():
    assert on_host("shipped")(b"[SEP]")[1].tolist() == library("shipped", "[SEP]") != [2, 4]
    sep = spec_named("BERT").tokenizer.token_to_id("[SEP]")
    assert on_host("BERT")(b"a [SEP] b")[1].tolist().count(sep) == 2


def test_a_package_carries_only_what_its_tokenizer_needs():
    def headers(name: str) -> set[str]:
        return set(c_tokenizer.files(spec_named(name), "x", "t")) - {"x_tokenizer.c", "x_tokenizer.h"}

    always = {"embbert_text.h", "embbert_unicode.h", "embbert_template.h"}
    assert headers("shipped") == always | {"embbert_bpe.h"}
    assert headers("BERT") == always | {"embbert_wordpiece.h", "embbert_trie.h", "embbert_added.h"}
    assert headers("llama-3") == always | {
        "embbert_bpe.h", "embbert_bytes.h", "embbert_llama3.h", "embbert_pattern.h", "embbert_added.h"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["accents kept", "XLM-R", "BERT"])
def test_the_same_tokenizer_gives_the_same_c(name):
    texts = {c_tokenizer.source(spec_named(name), "x", "t") for _ in range(2)}
    assert len(texts) == 1


def test_what_the_shipped_tokenizer_costs(tmp_path):
    from embbert_tvm.target import load_cpu

    sizes = benchmark.sections(spec_named("shipped"), load_cpu("host"), tmp_path)
    assert sizes["tables"] <= 75_000
    assert sizes["static"] == 0
    assert c_tokenizer.window_bytes(spec_named("shipped")) == 1024


@pytest.mark.parametrize(("name", "most"), [("shipped", 160), ("BERT", 200)])
def test_instructions_are_counted_on_the_emulated_device(name, most, tmp_path):
    from embbert_tvm.target import load_cpu

    texts = ["turn the lights off", "play Bach's air"]
    instructions, characters = benchmark.count(spec_named(name), load_cpu("cortex-m4"), texts, tmp_path)
    assert characters == sum(map(len, texts))
    assert 50 * characters < instructions < most * characters
