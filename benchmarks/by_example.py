"""Intents by example: how many texts the nearest of N examples a label names, by a compiled package of vectors.

    embbert-tvm export models/embbert-base --vector -o VECTORS --calibration other.tsv
    embbert-tvm compile VECTORS --target host -o PACKAGE
    python benchmarks/by_example.py PACKAGE --train train.tsv --test test.tsv

draws `--examples` sentences a label from --train by each of --seeds, keeps them as the device does (int8, one
direction a label) and asks every text of --test, by the package's C on this machine. Nothing is trained on the labels.
Printed for the whole vector, and for the sketch of n-grams and what the encoder gives alone.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embbert_tvm.data.dataset import Example, read_examples
from embbert_tvm.device.classify import classify
from embbert_tvm.device.examples import Examples
from embbert_tvm.device.package import Package, load_package
from embbert_tvm.models.ngrams import load_ngram_model
from embbert_tvm.table import table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=10)
    parser.add_argument("--seeds", default="0", help="separated by commas")
    options = parser.parse_args()
    package = load_package(options.package)
    train, asked = read_examples(options.train), read_examples(options.test)
    taught = [drawn(train, options.examples, int(seed)) for seed in options.seeds.split(",")]
    texts = list(dict.fromkeys([example.text for examples in taught for example in examples]))
    of_train = dict(zip(texts, vectors(package, texts), strict=True))
    of_test = vectors(package, [x.text for x in asked])
    rows: list[tuple[str, ...]] = [("vector", "numbers", "right")]
    for name, part in parts(package).items():
        found = [
            right([(x.label, of_train[x.text][part]) for x in examples], asked, of_test[:, part]) for examples in taught
        ]
        spread = f" +- {100 * np.std(found, ddof=1):.1f}" if len(found) > 1 else ""
        rows.append((name, str(len(range(*part.indices(package.classes)))), f"{100 * np.mean(found):.1f}{spread} %"))
    labels = len({x.label for x in train})
    print(f"{package.path.name}: {labels} labels, {options.examples} examples each, {len(asked):,} texts")
    print(table(rows, right=(1, 2)))


def parts(package: Package) -> dict[str, slice]:
    """The whole vector, and what it is made of."""
    found = {"whole": slice(0, package.classes)}
    if package.linear.is_dir():
        columns = load_ngram_model(package.linear).columns
        found |= {"sketch of n-grams": slice(0, columns), "encoder": slice(columns, package.classes)}
    return found


def drawn(train: Sequence[Example], few: int, seed: int) -> list[Example]:
    """So many of each label."""
    by_label: defaultdict[str, list[Example]] = defaultdict(list)
    for example in train:
        by_label[example.label or ""].append(example)
    rng = random.Random(seed)
    return [x for label in sorted(by_label) for x in rng.sample(by_label[label], few)]


def vectors(package: Package, texts: Sequence[str]) -> np.ndarray:
    """(N, width) float32."""
    return np.array([answer.vector for answer in classify(package, texts, "host")], np.float32)


def right(taught: Sequence[tuple[str, np.ndarray]], asked: Sequence[Example], found: np.ndarray) -> float:
    """The share of the texts whose nearest direction is their label's."""
    store = Examples(found.shape[1])
    numbers: dict[str, str] = {}  # a store's names are short
    for label, vector in taught:
        store.add(numbers.setdefault(label, str(len(numbers))), vector)
    answers = [store.nearest(vector)[0] for vector in found]
    return float(np.mean([answer == numbers.get(x.label or "") for answer, x in zip(answers, asked, strict=True)]))


if __name__ == "__main__":
    main()
