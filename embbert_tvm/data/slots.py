"""Slots: BIO tags of white-space words, from a TSV `label<TAB>text<TAB>tags`; spans, entity F1, the best valid tags."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embbert_tvm.data.files import open_binary
from embbert_tvm.errors import InputError

HEADER = ["label", "text", "tags"]
OUTSIDE = "O"
_TAG = re.compile(r"O|[BI]-\S+")


@dataclass(frozen=True)
class Tagged:
    """A text with its label and a tag for each of its white-space words."""

    label: str
    text: str
    tags: tuple[str, ...]


@dataclass(frozen=True, order=True)
class Span:
    """Words begin to end - 1, which fill a slot."""

    begin: int
    end: int
    slot: str


def read_tagged(path: Path) -> list[Tagged]:
    """The examples of a TSV, in order; blank lines are skipped. Raises InputError, which names the line."""
    found: list[Tagged] = []
    with open_binary(Path(path)) as lines:
        for number, raw in enumerate(lines, 1):
            where = f"{path}, line {number}"
            try:
                fields = raw.decode("utf-8").removeprefix("\ufeff").rstrip("\r\n").split("\t")
            except UnicodeDecodeError as error:
                raise InputError(f"{where}: is not UTF-8") from error
            if number == 1:
                if fields != HEADER:
                    raise InputError(f"{where}: must be the header label<TAB>text<TAB>tags")
            elif fields != [""]:
                found.append(_tagged(fields, where))
    if not found:
        raise InputError(f"{path}: holds no examples")
    return found


def _tagged(fields: Sequence[str], where: str) -> Tagged:
    if len(fields) != len(HEADER):
        raise InputError(f"{where}: has {len(fields)} columns, not {len(HEADER)}")
    label, text, tags = fields[0], fields[1], tuple(fields[2].split(" "))
    words = text.split()
    if not label or not words:
        raise InputError(f"{where}: the label or the text is empty")
    if len(words) != len(tags):
        raise InputError(f"{where}: {len(words)} words have {len(tags)} tags: give one a white-space word")
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise InputError(f"{where}: the tag {tag!r} is none of O, B-slot and I-slot")
    return Tagged(label, text, tags)


def spans_of(tags: Sequence[str]) -> list[Span]:
    """What the tags mark, as conlleval reads them: an I- that no tag of its slot stands before begins a span too."""
    found: list[Span] = []
    begin, slot = 0, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        kind, _, name = tag.partition("-")
        if slot and not (kind == "I" and name == slot):
            found.append(Span(begin, place, slot))
            slot = ""
        if kind != OUTSIDE and not slot:
            begin, slot = place, name
    return found


def entity_f1(expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """F1 over the spans of all texts: one is right where slot and both ends are; 0 where there are none at all."""
    right, total = 0, 0
    for wanted, found in zip(expected, predicted, strict=True):
        a, b = set(spans_of(wanted)), set(spans_of(found))
        right += len(a & b)
        total += len(a) + len(b)
    return 2 * right / total if total else 0.0


def follows(tag: str, before: str) -> bool:
    """Whether a tag may stand behind another: I- only behind B- or I- of its slot."""
    return not tag.startswith("I-") or (before[:1] in "BI" and before[1:] == tag[1:])


def best_tags(scores: np.ndarray, tags: Sequence[str]) -> list[str]:
    """The valid tags of the largest sum of scores (words, tags), by Viterbi's rule; the first of equals."""
    allowed = np.array([[follows(tag, before) for tag in tags] for before in tags])
    total = np.where([follows(tag, OUTSIDE) for tag in tags], scores[0], -np.inf)
    back = []
    for row in scores[1:]:
        reached = np.where(allowed, total[:, None], -np.inf)
        back.append(reached.argmax(0))
        total = reached.max(0) + row
    at = int(total.argmax())
    path = [at]
    for choice in reversed(back):
        at = int(choice[at])
        path.append(at)
    return [tags[i] for i in reversed(path)]


def word_places(text: str) -> list[tuple[int, int]]:
    """Where the white-space words of a text begin and end, in characters."""
    found, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        found.append((at, at + len(word)))
        at += len(word)
    return found


def first_tokens(text: str, places: Sequence[tuple[int, int] | None]) -> list[int | None]:
    """The first token of each white-space word; None of a word without one, as behind the most tokens.

    places: where each token lies in the text, in characters; None of one that stands around it.
    """
    found: list[int | None] = []
    for begin, end in word_places(text):
        inside = (n for n, place in enumerate(places) if place is not None and place[0] < end and place[1] > begin)
        found.append(next(inside, None))
    return found
