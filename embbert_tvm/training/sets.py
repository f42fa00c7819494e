"""What a job trains on and is chosen by, and what of it was left out since dev or test hold it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embbert_tvm.data.corpus import add_noise, exchange_values, mix_sentences, read_texts, replace_spans
from embbert_tvm.data.dataset import Example, label_list, read_examples
from embbert_tvm.data.leaks import HeldOut, example_key
from embbert_tvm.data.slots import tag_list
from embbert_tvm.data.splits import cut
from embbert_tvm.errors import InputError
from embbert_tvm.training.further import FurtherSet, read_further
from embbert_tvm.training.record import RecordedSet, recorded_set

if TYPE_CHECKING:
    from embbert_tvm.training.job import Job


@dataclass(frozen=True)
class JobSets:
    """The labels, None for regression, and the sets of a job.

    `left_out` counts by source the texts that `held_out`, dev and the job's held-out files, holds.
    """

    labels: list[str] | None
    train: list[Example]
    dev: list[Example]
    held_out: HeldOut
    files: list[RecordedSet]  # the held-out files
    left_out: dict[str, int]
    further: tuple[FurtherSet, ...] = ()

    @property
    def tags(self) -> tuple[str, ...] | None:
        """The tags of words, None where the set has none."""
        found = [x.tags for x in self.train if x.tags is not None]
        return tag_list(found) if found else None

    @property
    def expected(self) -> np.ndarray:
        """Class numbers (N,) of dev."""
        assert self.labels is not None
        return np.array([self.labels.index(x.label) for x in self.dev])

    def notes(self, train: Path) -> list[str]:
        """What a user should know of texts that train shares with dev or test."""
        if self.left_out["train"] == 0 and any(example_key(x) in self.held_out.examples for x in self.train):
            return [f"{train}: dev or test hold every text of it, dev's figures mean nothing: give another --dev"]
        return [
            f"{count} texts ({source}) are left out of training: dev or test hold them"
            for source, count in self.left_out.items()
            if count
        ]


def read_sets(job: Job) -> JobSets:
    """The sets of a job; of train what dev or a held-out file holds is left out, unless that were all of it.

    Texts are compared without case, punctuation and white space. Raises InputError.
    """
    examples = read_examples(job.train, regression=job.regression)
    labels = None if job.regression else label_list(examples)
    if labels is not None and len(labels) < 2:
        raise InputError(f"{job.train}: every example is labelled {labels[0]!r}, two labels are the least")
    if job.crossed:
        train, dev = examples, examples
    elif job.dev is not None:
        train, dev = examples, read_examples(job.dev, labels, job.regression)
    else:
        train, dev = _cut(job.train, examples, job.recipe.seed)
    _check_tags(job, examples, dev)
    held = {path: read_examples(path) for path in job.held_out}
    held_out = HeldOut.of(*([] if dev is train else [dev]), *held.values())
    kept, left_out = held_out.filter_examples(train)
    if not kept:
        kept, left_out = train, 0
    dev = kept if dev is train else dev
    files = [recorded_set(path, found) for path, found in held.items()]
    further = read_further(job.also, held_out, job.recipe.seed)
    counts = {"train": left_out} | {one.head.name: one.left_out for one in further}
    return JobSets(labels, kept, dev, held_out, files, counts, further)


def made_texts(job: Job, sets: JobSets) -> tuple[list[Example], dict[str, int]]:
    """Texts that train does not have, made of its texts or read from files, and by source how many dev or test hold.

    Of a set with tags there are first the texts whose slots are filled by values of others. Where there are teachers,
    texts without labels follow, for them to give. They do not depend on the run's seed, as a teacher takes longer to
    label them than a model to learn them: it does so once.
    """
    texts: list[Example] = []
    left_out: dict[str, int] = {}
    if sets.tags is not None and job.exchanged:
        texts, left_out = _fresh({"exchanged": exchange_values(sets.train, job.exchanged)}, example_key, sets)
    if job.teachers:
        unlabelled, more_left_out = _fresh(_unlabelled_texts(job, [x.text for x in sets.train]), _text, sets)
        texts, left_out = texts + unlabelled, left_out | more_left_out
    return texts, left_out


def _fresh(
    sources: Mapping[str, list[Example]], key: Callable[[Example], Hashable], sets: JobSets
) -> tuple[list[Example], dict[str, int]]:
    """The texts of each source whose key neither train nor another has, without those that dev or test hold, which are
    counted."""
    known: set[Hashable] = {key(x) for x in sets.train}
    texts: list[Example] = []
    left_out = {}
    for source, found in sources.items():
        fresh = {at: x for at, x in {key(x): x for x in found}.items() if at not in known}
        allowed = set(sets.held_out.filter([x.text for x in fresh.values()])[0])
        kept = {at: x for at, x in fresh.items() if x.text in allowed}
        texts += kept.values()
        known.update(kept)
        if found:
            left_out[source] = len(fresh) - len(kept)
    return texts, left_out


def _unlabelled_texts(job: Job, own: list[str]) -> dict[str, list[Example]]:
    """What teachers may label, by source. own: the texts of train."""
    sources = {
        "unlabelled": read_texts(job.unlabelled, job.most) if job.unlabelled else [],
        "mixed": mix_sentences(own, job.mixed),
        "noised": add_noise(own, job.noised),
        "replaced": replace_spans(own, read_texts(job.auxiliary), job.replaced) if job.replaced else [],
    }
    return {source: [Example("", text) for text in texts] for source, texts in sources.items()}


def _text(example: Example) -> str:
    return example.text


def _cut(path: Path, examples: list[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Train and dev of a set that comes without a dev set: equal texts stay together; the seed decides."""
    if len({example_key(x) for x in examples}) < 2:
        raise InputError(f"{path}: one text cannot be cut in train and dev: give --dev")
    return cut(examples, str(seed), least=1)


def _check_tags(job: Job, examples: list[Example], dev: list[Example]) -> None:
    """InputError for tags where they cannot be learned, or dev cannot score them."""
    tagged = [x.tags is not None for x in (examples[0], dev[0])]
    if tagged[0] != tagged[1]:
        having, lacking = (job.train, job.dev) if tagged[0] else (job.dev, job.train)
        raise InputError(f"{having}: has tags, {lacking} has none: give both or neither")
    if tagged[0] and not any(tag != "O" for x in examples for tag in x.tags or ()):
        raise InputError(f"{job.train}: every tag is O: there is no slot to learn")
    others = job.given("--regression", "--precision", "--lora", *["teachers"] * bool(job.also))
    if others and (tagged[0] or job.also):
        several = f"{job.train}: has tags, which" if tagged[0] else "--also makes a model of several heads, which"
        raise InputError(f"{several} {others[0]} does not go with: leave one out")
