"""What a linear model on hashed n-grams gives on labelled sets: the baseline that every larger model has to beat.

    python benchmarks/linear.py DATA/snips DATA/imdb --kilobytes 64,400
    python benchmarks/linear.py DATA/clinc150 --few 10 [--seed 0] [--write few.tsv]

DATA/<set> holds {train,dev,test}.tsv[.xz|.gz]. Training texts that dev or test hold are left out; dev chooses how
strongly the weights are held down, and, where --words and --characters do not say it, which n-grams; test is read once.
Accuracy in percent, of the int8 model. --write keeps the few texts for `embbert-tvm train few.tsv --few`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

import numpy as np

from embbert_tvm.data.dataset import Example, label_list, read_examples, write_examples
from embbert_tvm.data.ngrams import NgramFeatures
from embbert_tvm.data.splits import without_leaks
from embbert_tvm.errors import EmbbertError, InputError
from embbert_tvm.table import table
from embbert_tvm.training.linear import fit_ngrams


def read(folder: Path, split: str) -> list[Example]:
    for suffix in (".tsv.xz", ".tsv.gz", ".tsv"):
        if (folder / f"{split}{suffix}").is_file():
            return read_examples(folder / f"{split}{suffix}")
    raise InputError(f"{folder}: has no {split}.tsv, .tsv.gz or .tsv.xz")


def measure(
    folder: Path, kilobytes: float, features: NgramFeatures | None, asked: argparse.Namespace
) -> tuple[str, ...]:
    """One row of the table."""
    splits = without_leaks(read(folder, "train"), read(folder, "dev"), {"test": read(folder, "test")})
    train, test = splits.train, splits.tests["test"]
    if asked.few is not None:
        if asked.seed is not None:
            random.Random(asked.seed).shuffle(train)
        train = first_of_each(train, asked.few)
        if asked.write is not None:
            write_examples(asked.write, train)
    labels = label_list(train)
    started = time.perf_counter()
    fit = fit_ngrams(train, splits.dev, labels, features, round(1000 * kilobytes))
    seconds = time.perf_counter() - started
    found = fit.model.logits([x.text for x in test], [x.text_pair for x in test] if test[0].text_pair else None)
    expected = np.array([labels.index(x.label) if x.label in labels else -1 for x in test])
    accuracy = 100 * float((found.argmax(1) == expected).mean())
    return (
        folder.name, f"{len(labels)}", f"{len(train):,}", f"{fit.model.bytes / 1000:.0f}", f"{fit.strength:g}",
        f"{100 * fit.dev_accuracy:.2f}", f"{accuracy:.2f}", f"{seconds:.0f}",
    )  # fmt: skip


def first_of_each(examples: list[Example], few: int) -> list[Example]:
    counts: dict[str, int] = {}
    kept = []
    for example in examples:
        counts[example.label] = counts.get(example.label, 0) + 1
        if counts[example.label] <= few:
            kept.append(example)
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="linear", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA/SET")
    parser.add_argument("--kilobytes", default="64,400", help="sizes of the table, separated by commas")
    parser.add_argument("--words", type=int, help="words in a row, at most; of given --characters 2")
    parser.add_argument("--characters", help="characters in a row, 0 for none; of given --words 3-5")
    parser.add_argument("--few", type=int, help="only the first so many training texts of each label")
    parser.add_argument("--seed", type=int, help="of --few: not the first, but so many drawn by it")
    parser.add_argument("--write", type=Path, metavar="TSV", help="of --few: keep these texts")
    arguments = parser.parse_args()
    if arguments.few is None and (arguments.seed is not None or arguments.write is not None):
        parser.error("--seed and --write go with --few")
    try:
        features = None
        if arguments.words is not None or arguments.characters is not None:
            shortest, _, longest = (arguments.characters or "3-5").partition("-")
            words = 2 if arguments.words is None else arguments.words
            features = NgramFeatures(1, words, int(shortest), int(longest or 0))
        sizes = [float(size) for size in arguments.kilobytes.split(",")]
    except ValueError:
        parser.error("--kilobytes is numbers, --characters two numbers such as 3-5, or 0")
    rows = []
    try:
        for folder in arguments.data:
            for size in sizes:
                rows.append(measure(folder, size, features, arguments))
                print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    except EmbbertError as error:
        print(f"linear: {error}", file=sys.stderr)
        return error.exit_status
    print(table([("set", "labels", "train", "kB", "strength", "dev", "test", "s"), *rows], right=(1, 2, 3, 4, 5, 6, 7)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
