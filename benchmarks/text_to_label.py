"""From the first byte of a text to its label in QEMU: how much of it is the tokenizer.

    python benchmarks/text_to_label.py PACKAGE --data TSV [--limit 60] [--json]

Each text is sent as it is, and again as the token ids that the device made of it: the difference is the tokenizer's.
Texts longer than the device takes at once are left out, and counted.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import EmbbertError


def measure(package: Path, data: Path, limit: int) -> dict[str, float]:
    """Sums over at most `limit` texts, drawn by a fixed seed."""
    texts = [x.text for x in read_examples(data)]
    texts = random.Random(0).sample(texts, min(limit, len(texts)))
    sums = {"texts": 0, "left_out": 0, "characters": 0, "tokens": 0, "instructions": 0, "of_the_tokenizer": 0}
    with open_place("qemu", load_package(package)) as device:
        for text in texts:
            if not device.takes(text):
                sums["left_out"] += 1
                continue
            whole = device.classify(text).run.instructions
            ids = device.tokenize(text)
            sums["texts"] += 1
            sums["characters"] += len(text)
            sums["tokens"] += len(ids)
            sums["instructions"] += whole
            sums["of_the_tokenizer"] += whole - device.run(ids).instructions
    return {**sums, "share": sums["of_the_tokenizer"] / max(1, sums["instructions"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        found = measure(given.package, given.data, given.limit)
    except EmbbertError as error:
        print(f"text_to_label: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    if given.json:
        print(json.dumps(found))
        return
    print(
        f"{found['texts']} texts, {found['characters']:,} characters, {found['tokens']:,} tokens: "
        f"{found['instructions']:,} instructions, of which the tokenizer {found['of_the_tokenizer']:,} "
        f"({found['share']:.2%}), {found['of_the_tokenizer'] / max(1, found['characters']):.0f} a character"
    )


if __name__ == "__main__":
    main()
