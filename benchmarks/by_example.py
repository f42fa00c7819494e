"""Intents by example: how many texts the nearest of N examples a label names, by a base model's vectors and n-grams.

    python benchmarks/by_example.py models/embbert-base --train train.tsv --test test.tsv --background other.tsv

draws `--examples` sentences a label from --train by --seed, keeps them as the device does (int8, one direction a label)
and asks every text of --test. Nothing is trained on the labels: --background gives the vectors' mean and scale alone.
The float model; of a text the mean of its states ("mean") or the first of them ("first").
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.ngrams import NgramFeatures, hash_texts
from embbert_tvm.data.tokenizer import tokenize
from embbert_tvm.device.examples import Examples
from embbert_tvm.models.folder import ModelFolder, find_model, read_folder
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.table import table

BUCKETS = 2**20
BACKGROUND = 6000  # texts, drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--background", type=Path, action="append", required=True)
    parser.add_argument("--examples", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    by_label = defaultdict(list)
    for example in read_examples(options.train):
        by_label[example.label].append(example.text)
    taught = [(label, text) for label in sorted(by_label) for text in rng.sample(by_label[label], options.examples)]
    asked = read_examples(options.test)
    others = [x.text for path in options.background for x in read_examples(path)]
    others = rng.sample(others, min(BACKGROUND, len(others)))

    folder = read_folder(find_model(options.model))
    texts = [text for _, text in taught] + [x.text for x in asked] + others
    first, mean = states(folder, texts)
    shown = len(taught) + len(asked)
    white = directions(whitened(mean, mean[shown:]))
    found = {
        "first": first - first[shown:].mean(0),
        "mean": mean - mean[shown:].mean(0),
        "n-grams, 128": sketch(texts[:shown], 128),
        "mean, 64, and n-grams, 64": np.hstack([white[:shown, :64], sketch(texts[:shown], 64)]),
        "mean, 128, and n-grams, 128": np.hstack([white[:shown], sketch(texts[:shown], 128)]),
    }
    rows: list[tuple[str, ...]] = [("vectors", "bytes", "right")]
    for name, vectors in found.items():
        store = Examples(vectors.shape[1])
        short = {label: f"{n}" for n, label in enumerate(by_label)}
        for (label, _), vector in zip(taught, vectors, strict=False):
            store.add(short[label], vector)
        answers = [store.nearest(vector)[0] for vector in vectors[len(taught) : shown]]
        right = np.mean([answer == short.get(x.label) for answer, x in zip(answers, asked, strict=True)])
        rows.append((name, str(vectors.shape[1]), f"{100 * right:.1f} %"))
    print(f"{folder.name}: {len(by_label)} labels, {options.examples} examples each, {len(asked):,} texts")
    print(table(rows, right=(1, 2)))


def states(folder: ModelFolder, texts: list[str], batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """The first state of each text, and the mean of its states, (N, d)."""
    model = load_classifier(folder)
    ids = [tokenize(folder.tokenizer, text, max_length=folder.config.max_length).ids for text in texts]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    first, mean = (np.zeros((len(ids), folder.config.hidden_size), np.float32) for _ in range(2))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        longest = max(len(ids[i]) for i in part)
        packed = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in part])
        mask = torch.arange(longest)[None] < torch.tensor([len(ids[i]) for i in part])[:, None]
        with torch.no_grad():
            found = model.states(packed, mask)
        first[part] = found[:, 0].numpy()
        mean[part] = ((found * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy()
    return first, mean


def whitened(vectors: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Principal components of the background, the largest first, weak ones made about as strong as strong ones."""
    centre = background.mean(0)
    strengths, axes = np.linalg.eigh(np.cov((background - centre).T))
    found: np.ndarray = (vectors - centre) @ (axes[:, ::-1] / np.sqrt(strengths[::-1] + strengths.mean()))
    return found


def sketch(texts: list[str], width: int) -> np.ndarray:
    """Hashed n-grams, each added with two signs at two places of a vector of that width; unit vectors."""
    bags = hash_texts(NgramFeatures(BUCKETS), texts)
    hashed = bags.buckets.astype(np.uint32) * np.uint32(0x9E3779B1)
    hashed ^= hashed >> 15
    hashed *= np.uint32(0x2C1B3C6D)
    hashed ^= hashed >> 12
    rows = np.repeat(np.arange(len(texts)), np.diff(bags.starts))
    found = np.zeros((len(texts), width))
    for shift in (0, 12):
        signs = 1.0 - 2.0 * (hashed >> (shift + 10) & 1)
        np.add.at(found, (rows, (hashed >> shift) % width), signs)
    return directions(found)


def directions(vectors: np.ndarray) -> np.ndarray:
    found: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return found


if __name__ == "__main__":
    main()
