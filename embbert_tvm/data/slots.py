"""Slots: BIO tags of the white-space words of a text; spans, entity F1, the best valid tags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.data.tokenizer import Encoded
from embbert_tvm.errors import InputError
from embbert_tvm.heads import VITERBI

OUTSIDE = "O"
_TAG = re.compile(r"O|[BI]-\S+")


@dataclass(frozen=True, order=True)
class Span:
    """Words begin to end - 1, which fill a slot."""

    begin: int
    end: int
    slot: str


def read_tags(text: str, field: str, where: str) -> tuple[str, ...]:
    """The tags of a column: one for each white-space word of the text. Raises InputError."""
    tags, words = tuple(field.split(" ")), text.split()
    if not words:
        raise InputError(f"{where}: the text is empty")
    if len(words) != len(tags):
        raise InputError(f"{where}: {len(words)} words have {len(tags)} tags: give one a white-space word")
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise InputError(f"{where}: the tag {tag!r} is none of O, B-slot and I-slot")
    return tags


def tag_list(texts: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """O, then of every slot that occurs its B-, and its I- where that occurs: the order of a model's outputs."""
    known = {tag for tags in texts for tag in tags}
    slots = sorted({tag[2:] for tag in known if tag != OUTSIDE})
    return (OUTSIDE, *(tag for slot in slots for tag in (f"B-{slot}", f"I-{slot}") if tag[0] == "B" or tag in known))


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


@dataclass(frozen=True)
class TagFigures:
    """The share of labels that are right, the F1 of entities, and the share of texts with label and all tags right."""

    label_accuracy: float
    entity_f1: float
    both: float


def tag_figures(right: np.ndarray, expected: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> TagFigures:
    """Figures of texts by whether each label is right (N,), and their tags."""
    exact = np.array([list(a) == list(b) for a, b in zip(expected, found, strict=True)])
    return TagFigures(float(np.mean(right)), entity_f1(expected, found), float(np.mean(exact & right)))


def follows(tag: str, before: str) -> bool:
    """Whether a tag may stand behind another: I- only behind B- or I- of its slot."""
    return not tag.startswith("I-") or (before[:1] in "BI" and before[1:] == tag[1:])


def decode(scores: np.ndarray, tags: Sequence[str], rule: str = VITERBI) -> list[str]:
    """The tags of words by their scores (words, tags), by one of heads.RULES; no I- stands without its B- or I-."""
    if not len(scores):
        return []
    allowed = np.array([[follows(tag, before) for tag in tags] for before in tags])
    start = np.array([follows(tag, OUTSIDE) for tag in tags])
    path = _viterbi(scores, allowed, start) if rule == VITERBI else _greedy(scores, allowed, start)
    return [tags[i] for i in path]


def word_tags(scores: np.ndarray, words: Sequence[int | None], tags: Sequence[str], rule: str = VITERBI) -> list[str]:
    """The tag of each word by the scores (tokens, tags) of its first token; O of a word without one."""
    found: list[str] = []
    run: list[int] = []
    for word in (*words, None):  # words that stand one behind the other are tagged together
        if word is not None and word < len(scores):
            run.append(word)
            continue
        found += [*decode(scores[run], tags, rule), OUTSIDE]
        run = []
    return found[:-1]


def _viterbi(scores: np.ndarray, allowed: np.ndarray, start: np.ndarray) -> list[int]:
    """The valid path of the largest sum, the first of equals."""
    total = np.where(start, scores[0], -np.inf)
    back = []
    for row in scores[1:]:
        reached = np.where(allowed, total[:, None], -np.inf)
        back.append(reached.argmax(0))
        total = reached.max(0) + row
    path = [int(total.argmax())]
    for choice in reversed(back):
        path.append(int(choice[path[-1]]))
    return path[::-1]


def _greedy(scores: np.ndarray, allowed: np.ndarray, start: np.ndarray) -> list[int]:
    path: list[int] = []
    for row in scores:
        may = allowed[path[-1]] if path else start
        path.append(int(np.where(may, row, -np.inf).argmax()))
    return path


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


def words_of(text: str, encoded: Encoded) -> list[int | None]:
    """`first_tokens` of a text by what the tokenizer made of it alone."""
    return first_tokens(text, [None if part is None else (begin, end) for part, begin, end in encoded.places])


def spans_in_bytes(text: str, tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """(begin, end, slot) of what the tags of a text's words mark, in bytes of its UTF-8."""
    places = word_places(text)
    at = np.cumsum([0, *(len(character.encode()) for character in text)]).tolist()
    return [(at[places[x.begin][0]], at[places[x.end - 1][1]], x.slot) for x in spans_of(tags)]
