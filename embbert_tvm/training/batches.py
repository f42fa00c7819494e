"""Examples to batches of tensors, texts of like length together so that little padding is computed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from embbert_tvm.data.dataset import Example
from embbert_tvm.data.slots import words_of
from embbert_tvm.data.tokenizer import PAD, TextTokenizer, tokenize

UNLABELLED = -1
_BUCKET = 50  # batches whose texts are sorted by length together


@dataclass(frozen=True)
class WordTags:
    """The tags of the words of a set's texts. names: of a model's outputs; words: the first token of each word, None
    of one that was cut off. teacher: of each text the logits (words, names) of a teacher, NaN where it has none."""

    names: tuple[str, ...]
    expected: list[tuple[str, ...]]
    words: list[list[int | None]]
    teacher: list[np.ndarray] | None = None

    def targets(self, row: int) -> dict[int, int]:
        """Numbers of tags by token: the first of each word whose tag the model has."""
        pairs = zip(self.words[row], self.expected[row], strict=True)
        return {word: self.names.index(tag) for word, tag in pairs if word is not None and tag in self.names}

    def batch(self, rows: Sequence[int], length: int) -> tuple[Tensor, Tensor | None]:
        """Numbers of tags (B, length) of these texts, UNLABELLED elsewhere; a teacher's logits (B, length, tags)."""
        tags = torch.full((len(rows), length), UNLABELLED)
        for row, i in enumerate(rows):
            for token, tag in self.targets(i).items():
                tags[row, token] = tag
        if self.teacher is None:
            return tags, None
        soft = torch.full((*tags.shape, len(self.names)), torch.nan)
        for row, i in enumerate(rows):
            for token, said in zip(self.words[i], torch.from_numpy(self.teacher[i]), strict=True):
                if token is not None:
                    soft[row, token] = said
        return tags, soft


@dataclass(frozen=True)
class TokenizedSet:
    """Ids and targets (class numbers, or floats for regression) of a set; `truncated` texts were cut.

    `teacher` (N, classes) float32 are the logits that distillation learns from, `hidden` (N, d) the teacher's last
    state. A text without a label, which has nothing else to learn from, has the target UNLABELLED, or NaN for
    regression. `further` (N, heads) are the class numbers of the model's last heads, UNLABELLED where a text has none.
    """

    ids: list[list[int]]
    targets: list[int] | list[float]
    truncated: int
    teacher: np.ndarray | None = None
    hidden: np.ndarray | None = None
    tags: WordTags | None = None
    further: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Batch:
    """ids (B, L) int64 padded with 0 at the end, mask (B, L) bool, targets (B,); of a teacher logits and states.

    tags (B, L): the number of the tag of each token that is the first of a word, else UNLABELLED. rows: which texts of
    the set they are. further (B, heads): as those of the set. tag_teacher (B, L, tags): a teacher's logits at the first
    token of each word, else NaN.
    """

    ids: Tensor
    mask: Tensor
    targets: Tensor
    teacher: Tensor | None = None
    hidden: Tensor | None = None
    tags: Tensor | None = None
    rows: Sequence[int] = ()
    further: Tensor | None = None
    tag_teacher: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: x.to(device) for name, x in values.items() if isinstance(x, Tensor)})


def tokenize_set(
    tokenizer: TextTokenizer,
    examples: Sequence[Example],
    labels: Sequence[str] | None,
    max_length: int,
    tags: Sequence[str] | None = None,
) -> TokenizedSet:
    """Ids and targets of examples whose labels are all in `labels`, or are numbers where that is None.

    tags: of a model that tags words, where every example has tags.
    """
    encoded = [tokenize(tokenizer, x.text, x.text_pair, max_length) for x in examples]
    if labels is None:
        targets: list = [float(x.label) for x in examples]
    else:
        index = {label: i for i, label in enumerate(labels)}
        targets = [index[x.label] for x in examples]
    known = None
    if tags is not None:
        words = [words_of(x.text, one) for x, one in zip(examples, encoded, strict=True)]
        known = WordTags(tuple(tags), [x.tags or () for x in examples], words)
    return TokenizedSet([x.ids for x in encoded], targets, sum(x.truncated for x in encoded), tags=known)


def in_order(data: TokenizedSet, batch_size: int) -> Iterator[Batch]:
    """Each example once, shortest first."""
    order = sorted(range(len(data)), key=lambda i: len(data.ids[i]))
    for start in range(0, len(order), batch_size):
        yield _batch(data, order[start : start + batch_size])


def shuffled(data: TokenizedSet, batch_size: int, seed: str) -> Iterator[Batch]:
    """Each example once in an order that `seed` fixes."""
    rng = random.Random(seed)
    order = list(range(len(data)))
    rng.shuffle(order)
    batches = []
    for start in range(0, len(order), batch_size * _BUCKET):
        bucket = sorted(order[start : start + batch_size * _BUCKET], key=lambda i: len(data.ids[i]))
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    rng.shuffle(batches)
    for batch in batches:
        yield _batch(data, batch)


def _batch(data: TokenizedSet, rows: Sequence[int]) -> Batch:
    ids = torch.full((len(rows), max(len(data.ids[i]) for i in rows)), PAD, dtype=torch.int64)
    for row, i in enumerate(rows):
        ids[row, : len(data.ids[i])] = torch.tensor(data.ids[i])
    teacher, hidden = (None if x is None else torch.from_numpy(x[rows]) for x in (data.teacher, data.hidden))
    tags, tag_teacher = (None, None) if data.tags is None else data.tags.batch(rows, ids.shape[1])
    targets = torch.tensor([data.targets[i] for i in rows])
    further = None if data.further is None else torch.from_numpy(data.further[rows])
    return Batch(ids, ids != PAD, targets, teacher, hidden, tags, rows, further, tag_teacher)
