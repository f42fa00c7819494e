"""Where the tokenizer in C says that tokens stand is where the `tokenizers` library says so, in bytes."""

from __future__ import annotations

import ctypes
import functools
import random
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import processors

from embbert_tvm.codegen import c_tokenizer
from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.tokenizer_json import spec_of
from embbert_tvm.resources import resource

sys.path.insert(0, str(resource("benchmarks")))

import tokenizer as benchmark
from tokenizer_kinds import KINDS, random_text

OK, E_LENGTH, E_WORD = 0, 2, 8
MOST = 64
# Byte-level BPE with a prefix, BPE of words, WordPiece, Unigram behind SentencePiece's map, BPE and Unigram of bytes.
NAMES = ("EmbBERT", "BERT", "RoBERTa", "XLM-R", "Unigram, byte fallback, unsplit")
TEXTS = (
    "", " ", "  lead", "turn\u00a0off the LIGHTS", "e\u0301te\u0301", "Straße ﬁn ½ ①", "CAFÉ's naïve", "한국어 中文字",
    "\u0130stanbul x\ufe0f", "a  b   c\t\td\n\n", "<mask> in  <mask>", "👩‍👩‍👧 🇩🇪",
)  # fmt: skip


@functools.cache
def folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="embbert-offsets-")


@functools.cache
def spec_named(name: str):
    tokenizer = KINDS[name]()
    if name == "XLM-R":  # as `transformers` makes it: nothing is trimmed
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    return replace(spec_of(tokenizer, Path(name)), offsets=True)


class Offsets:
    """The C of a tokenizer with offsets, cut at MOST tokens, under the undefined-behaviour sanitizer."""

    def __init__(self, name: str) -> None:
        spec = spec_named(name)
        where = Path(tempfile.mkdtemp(dir=folder().name))
        (source,) = benchmark.write_sources(spec, where, MOST)
        flags = [*benchmark.FLAGS, "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-shared", "-fPIC"]
        subprocess.run(["gcc", *flags, str(source), "-o", str(where / "t.so")], check=True)
        library = ctypes.CDLL(str(where / "t.so"))
        self.calls = (library.embbert_tokenizer, library.embbert_tokenizer_offsets)
        self.window = np.zeros(c_tokenizer.window_bytes(spec) // 8 + 1)
        self.ids, self.begin, self.end = np.zeros(MOST, np.int32), np.zeros(MOST, np.uint16), np.zeros(MOST, np.uint16)

    def __call__(self, text: str, pair: str | None, *, offsets: bool = True) -> tuple:
        """Status, ids, (begin, end) of each."""
        count, cut = ctypes.c_size_t(), ctypes.c_bool()
        a, b = text.encode(), None if pair is None else pair.encode()
        out = [self.ids, self.begin, self.end] if offsets else [self.ids]
        status = self.calls[offsets](
            ctypes.c_void_p(self.window.ctypes.data),
            *(a, ctypes.c_size_t(len(a)), b, ctypes.c_size_t(len(b or b""))),
            *(ctypes.c_void_p(array.ctypes.data) for array in out),
            *(ctypes.byref(count), ctypes.byref(cut)),
        )
        found = slice(count.value)
        return status, self.ids[found].tolist(), list(zip(self.begin[found], self.end[found], strict=True))


@functools.cache
def offsets_of(name: str) -> Offsets:
    return Offsets(name)


def by_library(name: str, text: str, pair: str | None) -> tuple[list[int], list[tuple[int, int]]]:
    tokenizer = spec_named(name).tokenizer
    tokenizer.enable_truncation(MOST)
    encoded = tokenizer.encode(text, pair)
    tokenizer.no_truncation()
    at = [np.cumsum([0, *(len(c.encode()) for c in part)]) for part in (text, pair or "")]
    places = zip(encoded.sequence_ids, encoded.offsets, strict=True)
    return encoded.ids, [(0, 0) if of is None else (at[of][i], at[of][j]) for of, (i, j) in places]


def check(name: str, text: str, pair: str | None = None) -> None:
    status, ids, places = offsets_of(name)(text, pair)
    if status != E_WORD:
        assert (status, (ids, places)) == (OK, by_library(name, text, pair)), (text, pair)


@pytest.mark.parametrize("name", NAMES)
def test_places_are_the_librarys(name):
    for text in TEXTS:
        check(name, text)
    examples = [example.text for example in read_examples(resource("data") / "snips" / "dev.tsv.xz")][:150]
    for text, pair in zip(examples, reversed(examples), strict=True):
        check(name, text)
        check(name, text, pair)


@pytest.mark.parametrize("name", ["EmbBERT", "BERT", "Unigram, byte fallback, unsplit"])
def test_of_random_texts(name):
    rng = random.Random(5)
    for number in range(300):
        check(name, random_text(rng), random_text(rng) if number % 3 == 0 else None)


def test_ids_alone_of_the_same_package():
    with_places, alone = offsets_of("BERT")("Turn OFF", None), offsets_of("BERT")("Turn OFF", None, offsets=False)
    assert with_places[:2] == alone[:2]


def test_costs_nothing_where_it_is_not_asked_for():
    spec = spec_named("BERT")
    without = replace(spec, offsets=False)
    assert b"tokenizer_offsets" not in c_tokenizer.files(without, "embbert", "t")["embbert_tokenizer.c"]
    assert c_tokenizer.window_bytes(spec) == c_tokenizer.window_bytes(without) + 4 * spec.model.most_characters
