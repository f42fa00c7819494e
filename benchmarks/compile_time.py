"""Processor seconds of `embbert-tvm compile`: the part that it prints, and the whole command with its children.

    python benchmarks/compile_time.py                     the shipped model for a Cortex-M7, five times
    python benchmarks/compile_time.py models/bert --runs 9 --target cortex-m4

User and system time, so that other processes' share of the machine does not count; the least run is the figure, as
caches and a clock that other processes slow make a run longer, never shorter. A first run, not counted, leaves the
bytecode of Python's modules where later ones find it.

"empty cache": the first compilation on a machine, with nothing in the user's cache folder (embbert_tvm/cache.py).
"again": every other, which finds the tables of the tokenizers library there, and objects of C files that are as they
were.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from embbert_tvm.cache import VARIABLE

ROOT = Path(__file__).resolve().parents[1]


def compile_once(model: str, target: str, output: Path, cache: Path) -> tuple[float, float]:
    """Seconds that the command prints, and processor seconds of the whole of it. cache: the user's cache folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(ROOT), VARIABLE: str(cache)}
    command = [sys.executable, "-m", "embbert_tvm", "compile", model, "--target", target, "-o", str(output)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = re.search(r" in ([\d.]+) s", ran.stdout)
    if printed is None:
        raise SystemExit(f"compile printed no time:\n{ran.stdout}")
    return float(printed[1]), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="models/embbert-snips")
    parser.add_argument("--target", default="cortex-m7")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embbert-compile-") as folder:
        output, cache = Path(folder) / "package", Path(folder) / "cache"
        compile_once(args.model, args.target, output, cache)
        empty = [compile_once(args.model, args.target, output, Path(folder) / f"{n}") for n in range(args.runs)]
        again = [compile_once(args.model, args.target, output, cache) for _ in range(args.runs)]
    for which, runs in (("empty cache", empty), ("again", again)):
        for what, seconds in zip(("printed", "whole command, processor"), zip(*runs, strict=True), strict=True):
            print(f"{which:12} {what:24}  least {min(seconds):.2f} s  median {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
