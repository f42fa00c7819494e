"""Further heads of a label on one encoder: each has a labelled set of its own, and all are trained together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from embbert_tvm.data.dataset import Example, label_list, read_examples
from embbert_tvm.data.leaks import HeldOut
from embbert_tvm.data.metrics import accuracy
from embbert_tvm.data.splits import cut
from embbert_tvm.data.tokenizer import TextTokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.heads import ONE_LABEL, FurtherHead, read_heads
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.training.batches import UNLABELLED, TokenizedSet, WordTags, in_order, tokenize_set


@dataclass(frozen=True)
class FurtherSet:
    """The labelled texts of a further head; dev is a tenth of its file, by chance."""

    head: FurtherHead
    train: list[Example]
    dev: list[Example]
    left_out: int  # texts of its file that the job's dev or a held-out set has


def read_further(files: Mapping[str, Path], held_out: HeldOut, seed: int) -> tuple[FurtherSet, ...]:
    """The sets of heads by their names. Raises InputError for a name or a file that is none."""
    found = []
    for name, path in files.items():
        examples = read_examples(path)
        if any(x.tags is not None for x in examples):
            raise InputError(f"{path}: has tags, which only the first set may have")
        kept, left_out = held_out.filter_examples(examples)
        if len(kept) < 2:
            raise InputError(f"{path}: dev or test hold every text of it")
        train, dev = cut(kept, str(seed), least=1)
        head = {"name": name, "head": ONE_LABEL, "labels": label_list(examples)}
        found.append(FurtherSet(read_heads([head])[0], train, dev, left_out))
    return tuple(found)


def with_further(
    data: TokenizedSet, sets: Sequence[FurtherSet], tokenizer: TextTokenizer, max_length: int
) -> TokenizedSet:
    """The set with the texts of further heads behind it, each of which has a label of its head alone."""
    if not sets:
        return data
    more = [tokenize_set(tokenizer, one.train, one.head.labels, max_length) for one in sets]
    ends = np.cumsum([len(data), *map(len, more)])
    further = np.full((ends[-1], len(sets)), UNLABELLED, np.int64)
    for number, one in enumerate(more):
        further[ends[number] : ends[number + 1], number] = one.targets
    added, tags = int(ends[-1]) - len(data), data.tags
    if tags is not None:
        tags = WordTags(tags.names, [*tags.expected, *[()] * added], [*tags.words, *([] for _ in range(added))])
    return replace(
        data,
        ids=[*data.ids, *(row for one in more for row in one.ids)],
        targets=[*data.targets, *[UNLABELLED] * added],
        truncated=data.truncated + sum(one.truncated for one in more),
        tags=tags,
        further=further,
    )


def further_accuracies(model: TextClassifier, sets: Sequence[FurtherSet], tokenizer: TextTokenizer) -> dict[str, float]:
    """The share of each head's dev that it names rightly."""
    model.eval()
    found = {}
    for number, one in enumerate(sets, 1 + len(model.more) - len(sets)):
        data = tokenize_set(tokenizer, one.dev, one.head.labels, model.config.max_length)
        named = np.zeros(len(data), np.int64)
        with torch.no_grad():
            for batch in in_order(data, 64):
                answers = model.answers(model.read_by_heads(batch.ids, batch.mask))
                named[list(batch.rows)] = answers[number].argmax(1).numpy()
        found[one.head.name] = accuracy(np.array(data.targets), named)
    return found
