"""Every kind of tokenizer in C against the `tokenizers` library: random texts, pairs, cuts, and the texts of files.

    python benchmarks/tokenizer_ids.py [PATH...] [--texts 100000] [--kinds BERT,llama] [--tokenizer FILE] [--json]

A PATH is a labelled TSV, lines of text, or a folder of such; .xz and .gz are read as they are. Of random texts every
third has a second one. All texts are compared whole, and those of each tenth batch cut to 8 and to 64 tokens too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizer import MAX_LENGTH, HostTokenizer, pairs_of
from tokenizer_kinds import KINDS, random_text

from embbert_tvm.data.hashed_words import HashedWords
from embbert_tvm.data.tokenizer import TextTokenizer, load_tokenizer
from embbert_tvm.data.tokenizer_json import spec_of
from embbert_tvm.data.tokenizer_spec import TokenizerSpec
from embbert_tvm.errors import EmbbertError

CUTS = (8, 64, MAX_LENGTH)
BATCH = 500
EACH = 10  # batches of which one is cut
SUFFIXES = (".tsv", ".txt", ".xz", ".gz")
Texts = tuple[str, str | None]


def random_pairs(count: int, seed: int = 0) -> Iterator[Texts]:
    rng = random.Random(seed)
    for number in range(count):
        yield random_text(rng), random_text(rng) if number % 3 == 0 else None


def texts_of(paths: Sequence[Path]) -> Iterator[Texts]:
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES) if path.is_dir() else [path]
        for file in inside:
            yield from pairs_of(file)


def differences(
    spec: TokenizerSpec, hosts: dict[int, HostTokenizer], texts: Iterator[Texts], each: int = EACH
) -> tuple[int, int, list[tuple[int, Texts]]]:
    """(comparisons, refused for a word's length, those that differ: the cut and the texts).

    `each`: of so many batches one is cut.
    """
    checked, refused, wrong, batches = 0, 0, [], 0
    while batch := list(islice(texts, BATCH)):
        given = [a if b is None else (a, b) for a, b in batch]
        batches += 1
        for cut, host in hosts.items():
            if cut < max(hosts) and (batches - 1) % each:
                continue
            spec.tokenizer.enable_truncation(cut)
            for (a, b), encoded in zip(batch, spec.tokenizer.encode_batch(given), strict=True):
                status, ids, _ = host(a.encode(), None if b is None else b.encode())
                checked += 1
                if status == 8:
                    refused += 1
                elif status or not np.array_equal(ids, encoded.ids):
                    wrong.append((cut, (a, b)))
        spec.tokenizer.no_truncation()
    return checked, refused, wrong


def ids_per_token(spec: TokenizerSpec) -> int:
    return spec.model.ids_per_word if isinstance(spec.model, HashedWords) else 1


def measure(name: str, tokenizer: TextTokenizer, count: int, paths: Sequence[Path], folder: Path) -> dict:
    """A row of the table."""
    start = time.monotonic()
    spec = spec_of(tokenizer, Path(name))
    hosts = {}
    for cut in (tokens * ids_per_token(spec) for tokens in CUTS):
        where = folder / f"{len(list(folder.iterdir()))}"
        where.mkdir()
        hosts[cut] = HostTokenizer(spec, where, max_length=cut)
    row = {"kind": name, "tokens": spec.vocabulary}
    for key, texts in (("random", random_pairs(count)), ("files", texts_of(paths))):
        checked, refused, wrong = differences(spec, hosts, texts)
        row |= {key: checked, f"{key}_refused": refused, f"{key}_different": len(wrong)}
        for cut, pair in wrong[:3]:
            print(f"  {name}, cut at {cut}: {pair!r}", file=sys.stderr)
    return row | {"seconds": round(time.monotonic() - start, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", nargs="*", type=Path)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--kinds", help="their names, joined by ;")
    parser.add_argument("--tokenizer", type=Path, action="append", default=[], help="a tokenizer.json to take instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    rows = []
    made = {str(path): lambda path=path: load_tokenizer(path) for path in options.tokenizer} or KINDS
    for name, make in made.items():
        if options.kinds and name not in options.kinds.split(";"):
            continue
        with tempfile.TemporaryDirectory(prefix="embbert-") as folder:
            row = measure(name, make(), options.texts, options.path, Path(folder))
        rows.append(row)
        print(
            f"{row['kind']:40} {row['tokens']:7,} tokens; random {row['random']:9,}: {row['random_different']} differ, "
            f"{row['random_refused']} refused; files {row['files']:9,}: {row['files_different']} differ, "
            f"{row['files_refused']} refused; {row['seconds']} s",
            file=sys.stderr if options.json else sys.stdout,
            flush=True,
        )
    if options.json:
        print(json.dumps({"kinds": rows}))


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"tokenizer_ids: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
