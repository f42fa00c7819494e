"""Intents by example: how many texts the nearest of N examples a label names, by a compiled package of vectors.

    embbert-tvm export models/embbert-base --vector -o VECTORS --calibration other.tsv
    embbert-tvm compile VECTORS --target host -o PACKAGE
    python benchmarks/by_example.py PACKAGE --train train.tsv --test test.tsv

draws `--examples` sentences a label from --train by each of --seeds, keeps them as the device does (four bits a number,
one direction a label) and asks every text of --test, by the package's C on this machine. Nothing is trained on the
labels. Printed for the whole vector, and for the sketch of n-grams and what the encoder gives alone.

--look-up PLACE fills a store of 200 intents there (of a package compiled for that place) and prints what one takes of
memory, and what finding the nearest takes beside the inference of a text of `--tokens` tokens.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embbert_tvm.data.dataset import Example, read_examples
from embbert_tvm.data.tokenizer import encode, load_tokenizer
from embbert_tvm.device import store
from embbert_tvm.device.classify import classify
from embbert_tvm.device.examples import Examples
from embbert_tvm.device.package import Package, load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.models.ngrams import load_ngram_model
from embbert_tvm.table import table

INTENTS = 200
STRUCT_BYTES = 4  # of a store's entry beside what its blob has: the inverse of its length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=10)
    parser.add_argument("--seeds", default="0", help="separated by commas")
    parser.add_argument("--look-up", metavar="PLACE", help="measure a look-up there instead: qemu")
    parser.add_argument("--tokens", type=int, default=12)
    options = parser.parse_args()
    package = load_package(options.package)
    train, asked = read_examples(options.train), read_examples(options.test)
    if options.look_up:
        look_up(package, options.look_up, [x.text for x in asked], options.tokens)
        return
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


def look_up(package: Package, place: str, texts: Sequence[str], tokens: int) -> None:
    """Print the memory of a store of `INTENTS`, and the time of a look-up against that of an inference."""
    kept = Examples(store.vector_width(package))
    rng = np.random.default_rng(0)
    for number in range(INTENTS):
        kept.add(f"intent {number}", rng.normal(0, 1, kept.width).astype(np.float32))
    blob = kept.save()
    tokenizer = load_tokenizer(package.tokenizer)
    text = next(x for x in texts if len(encode(tokenizer, x, None, package.max_length)) == tokens)
    with open_place(place, package, flags=store.store_flags(package, INTENTS)) as device:
        assert store.load(device, blob) == INTENTS
        found = store.nearest(device, text, -1.0)
    share = 100 * found.look_up_ticks / found.model_ticks
    memory = len(blob) - len(Examples(kept.width).save()) + STRUCT_BYTES * INTENTS
    print(f"{INTENTS} intents of {kept.width} numbers: {memory:,} bytes")
    print(f"a look-up: {found.look_up_ticks:,} of {found.model_ticks:,} at {tokens} tokens, {share:.1f} %, on {place}")


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
    kept = Examples(found.shape[1])
    numbers: dict[str, str] = {}  # a store's names are short
    for label, vector in taught:
        kept.add(numbers.setdefault(label, str(len(numbers))), vector)
    answers = [kept.nearest(vector)[0] for vector in found]
    return float(np.mean([answer == numbers.get(x.label or "") for answer, x in zip(answers, asked, strict=True)]))


if __name__ == "__main__":
    main()
