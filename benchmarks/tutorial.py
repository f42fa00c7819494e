"""The commands of a page, run one after another as they stand there, on a small set of its own.

    python benchmarks/tutorial.py [--each 20] [--keep FOLDER]       # docs/tutorial.md
    make demo && .venv/bin/python benchmarks/tutorial.py --page README.md --keep .

mine.tsv and test.tsv are the first texts of each label of data/snips. As the tutorial says of a machine without a
board, `--on serial:...` becomes `--on qemu`, and nothing is flashed. Blocks of Python run too. A line for each command:
its seconds and its exit status, with what it said last. The exit status is 1 where a command fails. It needs torch, an
Arm compiler and QEMU.
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
    """The arguments of Python of each call of embbert-tvm and each block of Python, for a machine without a board."""
    found = []
    pattern = r"^    (?:\.venv/bin/)?embbert-tvm (?P<call>[^\n]*)$|^```python\n(?P<block>.*?)^```$"
    for match in re.finditer(pattern, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        if match["block"]:
            found.append(["-c", match["block"]])
        else:
            line = re.sub(r"--on serial:\S+", "--on qemu", match["call"]).replace(" --flash", "")
            found.append(["-m", "embbert_tvm", *shlex.split(line, comments=True)])
    return found


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
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--each", type=int, default=20, metavar="N", help="texts of each label; default: 20")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where to work; default: a folder that goes again")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    wrong = 0
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory(prefix="embbert-") as folder:
        for name, origin in SETS.items():
            write_set(Path(folder) / name, resource("data", "snips") / origin, options.each)
        for arguments in commands(options.page):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
            said = (done.stderr if done.returncode else done.stdout).strip().splitlines() or [""]
            shown = "a block of Python" if arguments[0] == "-c" else f"embbert-tvm {shlex.join(arguments[2:])}"
            print(f"{time.perf_counter() - start:6.0f} s  {done.returncode}  {shown}")
            print(f"             {said[-1].strip()}", flush=True)
            wrong += done.returncode != 0
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
