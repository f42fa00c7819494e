"""The commands of docs/tutorial.md, run one after another as they stand there, on a small set of its own.

    python benchmarks/tutorial.py [--each 20] [--keep FOLDER]

mine.tsv and test.tsv are the first texts of each label of data/snips. As the page says of a machine without a board,
`--on serial:...` becomes `--on qemu`, and nothing is flashed. A line for each command: its seconds and its exit status,
with what it said last. The exit status is 1 where a command fails. It needs torch, an Arm compiler and QEMU.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.resources import resource

PAGE = resource("docs", "tutorial.md")
SETS = {"mine.tsv": "train.tsv.xz", "test.tsv": "test.tsv.xz"}


def commands(page: Path) -> list[list[str]]:
    """The arguments of each call of embbert-tvm on a page, for a machine without a board."""
    lines = re.findall(r"^    embbert-tvm (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    without_board = (re.sub(r"--on serial:\S+", "--on qemu", line).replace(" --flash", "") for line in lines)
    return [shlex.split(line, comments=True) for line in without_board]


def write_set(to: Path, origin: Path, each: int) -> None:
    """The first `each` texts of each label, as the page's TSV."""
    seen: Counter[str] = Counter()
    rows = ["label\ttext"]
    for example in read_examples(origin):
        seen[example.label] += 1
        if seen[example.label] <= each:
            rows.append(f"{example.label}\t{example.text}")
    to.write_text("\n".join(rows) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=20, metavar="N", help="texts of each label; default: 20")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where to work; default: a folder that goes again")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    wrong = 0
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory(prefix="embbert-") as folder:
        for name, origin in SETS.items():
            write_set(Path(folder) / name, resource("data", "snips") / origin, options.each)
        for arguments in commands(PAGE):
            start = time.perf_counter()
            command = [sys.executable, "-m", "embbert_tvm", *arguments]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            said = (done.stderr if done.returncode else done.stdout).strip().splitlines() or [""]
            print(f"{time.perf_counter() - start:6.0f} s  {done.returncode}  embbert-tvm {shlex.join(arguments)}")
            print(f"             {said[-1].strip()}", flush=True)
            wrong += done.returncode != 0
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
