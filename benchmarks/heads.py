"""What further heads on one encoder take: flash, arena and instructions of a model beside one of a label alone.

    python benchmarks/heads.py models/label models/label-and-slots models/three-heads
                               [--cpu cortex-m7] [--length 12] [--precision int8] [--data mood=test.tsv ...]

Compiles each model for the CPU, all of them for texts as long as the one of fewest tokens takes, and counts a text of
--length tokens in QEMU. With --data, the share of the texts whose label the head of that name tells, of the last model,
by its C on this machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from instructions import call

from embbert_tvm.compiler import find_source
from embbert_tvm.data.dataset import read_examples
from embbert_tvm.device.classify import classify
from embbert_tvm.device.package import load_package
from embbert_tvm.errors import EmbbertError
from embbert_tvm.models.folder import find_model
from embbert_tvm.table import table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--cpu", default="cortex-m7")
    parser.add_argument("--length", type=int, default=12)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=TSV")
    options = parser.parse_args()
    sources = [find_source(find_model(path)) for path in options.models]
    rows: list[tuple[str, ...]] = [("model", "heads", "flash", "arena", "instructions", "of the first's")]
    first = 0
    with tempfile.TemporaryDirectory(prefix="embbert-heads-") as scratch:
        longest = min(
            call("compile", path, "--target", "host", "-o", Path(scratch) / f"host-{number}")["max_length"]
            for number, path in enumerate(options.models)
        )
        for number, (path, source) in enumerate(zip(options.models, sources, strict=True)):
            package = Path(scratch) / str(number)
            more = ("--precision", options.precision, "--max-length", longest)
            made = call("compile", path, "--target", options.cpu, *more, "-o", package)
            counted = call("profile", package, "--on", "qemu", "--length", options.length)["lengths"][0]
            count = counted["total_instructions"]
            first = first or count
            heads = ", ".join(["label", *(head.name for head in source.more)])
            flash, arena = made["flash_bytes"]["total"], made["ram_bytes"]["arena"]
            share = f"{100 * count / first:.1f} %"
            rows.append((source.name, heads, f"{flash:,}", f"{arena:,}", f"{count:,}", share))
        print(f"{options.cpu}, {options.precision}, {options.length} tokens of at most {longest}")
        print(table(rows, right=(2, 3, 4, 5)))
        last = Path(scratch) / f"host-{len(options.models) - 1}"
        for name, _, data in (one.partition("=") for one in options.data):
            print(f"{name}: {accuracy(last, name, Path(data)):.2f} % of {data}")


def accuracy(place: Path, name: str, data: Path) -> float:
    """The share of a labelled set, in percent, whose label the head of that name tells."""
    examples = read_examples(data)
    answers = classify(load_package(place), [x.text for x in examples], "host")
    right = sum(answer.heads[name].label == x.label for answer, x in zip(answers, examples, strict=True))
    return 100 * right / len(examples)


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"heads: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
