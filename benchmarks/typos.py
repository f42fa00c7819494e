"""What misspelled words cost: accuracy of float models on a set in which more and more of the words have a typo.

    python benchmarks/typos.py models/mine models/mine-hash --data test.tsv [--shares 0,0.1,0.2,0.4]

Of words of four letters or more so many by chance are misspelled, the same for every model: a letter is dropped,
doubled, replaced by another of the set's, or exchanged with the next.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from embbert_tvm.data.dataset import Example, read_examples, write_examples
from embbert_tvm.errors import EmbbertError
from embbert_tvm.table import table
from embbert_tvm.training.evaluate import evaluate, read_any_folder

LEAST = 4  # letters of a word that is misspelled


def misspelled(word: str, letters: str, rng: random.Random) -> str:
    """The word with one typo, which does not show where two equal letters change places."""
    at = rng.randrange(len(word) - 1)
    first, second = word[at : at + 2]
    made = rng.choice((second, first + first + second, rng.choice(letters) + second, second + first))
    return word[:at] + made + word[at + 2 :]


def with_typos(examples: Sequence[Example], share: float, seed: int = 0) -> list[Example]:
    """The examples with `share` of their longer words misspelled."""
    rng = random.Random(seed)
    letters = "".join(sorted({c for x in examples for c in x.text if c.isalpha()}))

    def changed(text: str | None) -> str | None:
        if text is None:
            return None
        words = text.split(" ")
        return " ".join(
            misspelled(word, letters, rng) if len(word) >= LEAST and word.isalpha() and rng.random() < share else word
            for word in words
        )

    return [dataclasses.replace(x, text=changed(x.text), text_pair=changed(x.text_pair)) for x in examples]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="typos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--data", type=Path, required=True, metavar="TSV")
    parser.add_argument("--shares", default="0,0.1,0.2,0.4", help="of the words, separated by commas")
    arguments = parser.parse_args()
    shares = [float(share) for share in arguments.shares.split(",")]
    rows = [("model", *(f"{share:.0%}" for share in shares))]
    try:
        examples = read_examples(arguments.data)
        with tempfile.TemporaryDirectory(prefix="embbert-typos-") as scratch:
            sets = []
            for share in shares:
                sets.append(Path(scratch) / f"{share:g}.tsv")
                write_examples(sets[-1], with_typos(examples, share))
            for path in arguments.models:
                folder = read_any_folder(path)
                rows.append((str(path), *(f"{100 * evaluate(folder, data).value:.2f}" for data in sets)))
    except EmbbertError as error:
        print(f"typos: {error}", file=sys.stderr)
        return error.exit_status
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
