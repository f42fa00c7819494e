"""How many texts of labelled sets a base model has read, by the hashes in its texts-read.xz.

    python benchmarks/leaks.py models/embbert-base DATA/snips/test.tsv.xz DATA/sst2/dev.tsv.xz

Texts are the same whose letters and digits are: case, punctuation and white space are not compared. Exits with 1
where a set is not untouched.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.leaks import TEXTS_READ, already_read, read_text_hashes
from embbert_tvm.errors import EmbbertError

SHOWN = 5


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="leaks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="folder of a base model")
    parser.add_argument("data", type=Path, nargs="+", metavar="TSV")
    arguments = parser.parse_args()
    try:
        hashes = read_text_hashes(arguments.model / TEXTS_READ)
        found = {path: already_read(hashes, read_examples(path)) for path in arguments.data}
    except EmbbertError as error:
        print(f"leaks: {error}", file=sys.stderr)
        return error.exit_status
    print(f"{arguments.model}: has read {len(hashes):,} different texts")
    for path, texts in found.items():
        print(f"{path}: {len(texts)} of its texts" + "".join(f"\n    {text}" for text in texts[:SHOWN]))
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
