"""Unlabelled text for pre-training: files of plain text, and the texts of labelled sets."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from embbert_tvm.data.dataset import Example, read_columns
from embbert_tvm.data.files import read_lines
from embbert_tvm.data.slots import spans_of
from embbert_tvm.errors import InputError

_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+")
_MARKER = "<|"  # starts a line that is no text but stands between documents
_SHORTEST, _LONGEST = 4, 40  # words of a sentence that a sentence encoder is asked about


def read_documents(paths: Sequence[Path]) -> list[list[str]]:
    """The documents of plain text files, each a list of sentences, in order.

    Lines that start with `<|` part documents; in a file without any each line is a document.
    Raises InputError for a file that cannot be read, or where there is no text.
    """
    documents: list[list[str]] = []
    for path in paths:
        lines = [line.strip() for line in read_lines(path)]
        marked = any(line.startswith(_MARKER) for line in lines)
        current: list[str] = []
        for line in lines:
            if line.startswith(_MARKER) or not marked:
                documents.append(current)
                current = []
            if line and not line.startswith(_MARKER):
                current += split_sentences(line)
        documents.append(current)
    documents = [document for document in documents if document]
    if not documents:
        raise InputError(f"{', '.join(map(str, paths))}: no text to pre-train on")
    return documents


def read_texts(paths: Sequence[Path], most: int | None = None, seed: int = 0) -> list[str]:
    """The different texts of the files, in an order that `seed` fixes, at most `most` of each file.

    Of a TSV with the header of a labelled set, its texts as they are, whatever their labels; of any other file
    its sentences of 4 to 40 words. Raises InputError for a file that cannot be read, or where there is no text.
    """
    chosen: dict[str, None] = {}
    for path in paths:
        found = list(dict.fromkeys(_texts(path)))
        if most is not None and len(found) > most:
            found = random.Random(f"{seed} {Path(path).name}").sample(found, most)
        chosen.update(dict.fromkeys(found))
    if not chosen:
        raise InputError(f"{', '.join(map(str, paths))}: no text to pre-train on")
    texts = list(chosen)
    random.Random(seed).shuffle(texts)
    return texts


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, cut after a full stop, an exclamation mark or a question mark before white space."""
    return [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence]


def _texts(path: Path) -> Iterator[str]:
    columns = read_columns(path)
    if columns is not None:
        yield from columns
        return
    for line in read_lines(path):
        if not line.startswith(_MARKER):
            for sentence in split_sentences(line):
                if _SHORTEST <= len(sentence.split()) <= _LONGEST:
                    yield sentence


def mix_sentences(texts: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """`count` new texts for each: its first words, and the last words of another, each of one to all of them.

    A text for a teacher need not be a sentence: it must only lie near the texts of the task.
    """
    # The seeds spell what recorded runs drew from.
    rng = random.Random(f"{seed} splice")
    mixed = []
    for text in texts:
        for _ in range(count):
            first, second = text.split() or [""], rng.choice(texts).split() or [""]
            mixed.append(" ".join(first[: rng.randint(1, len(first))] + second[-rng.randint(1, len(second)) :]))
    return mixed


def replace_spans(texts: Sequence[str], auxiliary: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """`count` new texts for each: one to four words in a row give way to one to four in a row of an auxiliary text.

    So a model meets words that the task's own texts lack, and a teacher says what it makes of them.
    """
    rng = random.Random(f"{seed} graft")
    replaced = []
    for text in texts:
        for _ in range(count):
            words, other = text.split() or [""], rng.choice(auxiliary).split() or [""]
            (start, end), (first, last) = (_few_words(len(x), rng) for x in (words, other))
            given = [word.strip(string.punctuation) for word in other[first:last]]
            replaced.append(" ".join([*words[:start], *filter(None, given), *words[end:]]))
    return replaced


def exchange_values(examples: Sequence[Example], count: int, seed: int = 0) -> list[Example]:
    """`count` new examples for each tagged one: each of its slots is filled by what fills that slot in any example,
    every value as often as another.

    So a model learns a slot by what stands around it, not by the values that it has seen there.
    """
    values: dict[str, dict[tuple[str, ...], None]] = {}
    for example in examples:
        for span in spans_of(example.tags or ()):
            values.setdefault(span.slot, {})[tuple(example.text.split()[span.begin : span.end])] = None
    known = {slot: list(found) for slot, found in values.items()}
    rng = random.Random(f"{seed} exchange")
    return [_refilled(example, known, rng) for example in examples for _ in range(count)]


def _refilled(example: Example, known: Mapping[str, Sequence[tuple[str, ...]]], rng: random.Random) -> Example:
    old, old_tags = example.text.split(), example.tags or ()
    words: list[str] = []
    tags: list[str] = []
    at = 0
    for span in spans_of(old_tags):
        value = rng.choice(known[span.slot])
        words += [*old[at : span.begin], *value]
        tags += [*old_tags[at : span.begin], f"B-{span.slot}", *[f"I-{span.slot}"] * (len(value) - 1)]
        at = span.end
    return replace(example, text=" ".join([*words, *old[at:]]), tags=(*tags, *old_tags[at:]))


def _few_words(count: int, rng: random.Random) -> tuple[int, int]:
    """One to four words in a row of `count`: the first, and the one after the last."""
    taken = rng.randint(1, min(4, count))
    start = rng.randint(0, count - taken)
    return start, start + taken


def add_noise(texts: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """`count` new texts for each: one to three of its words dropped, repeated, moved, or replaced by another text's.

    For tasks of the form of a sentence: a teacher tells which change it bears and which it does not.
    """
    rng = random.Random(f"{seed} corrupt")
    noised = []
    for text in texts:
        for _ in range(count):
            words = text.split()
            for _ in range(rng.choice((1, 1, 2, 3))):
                if words:
                    _EDITS[rng.randrange(len(_EDITS))](words, rng, texts)
            noised.append(" ".join(words))
    return noised


def _drop(words: list[str], rng: random.Random, texts: Sequence[str]) -> None:
    del words[rng.randrange(len(words))]


def _repeat(words: list[str], rng: random.Random, texts: Sequence[str]) -> None:
    words.insert(rng.randint(0, len(words)), rng.choice(words))


def _move(words: list[str], rng: random.Random, texts: Sequence[str]) -> None:
    words.insert(rng.randint(0, len(words) - 1), words.pop(rng.randrange(len(words))))


def _swap(words: list[str], rng: random.Random, texts: Sequence[str]) -> None:
    i = rng.randrange(len(words))
    words[i - 1], words[i] = words[i], words[i - 1]


def _replace(words: list[str], rng: random.Random, texts: Sequence[str]) -> None:
    words[rng.randrange(len(words))] = rng.choice(rng.choice(texts).split() or [""])


_EDITS = (_drop, _repeat, _move, _swap, _replace)
