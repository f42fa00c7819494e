"""Instructions of a whole inference in QEMU, by CPU and length.

    python benchmarks/instructions.py [MODEL] [--cpu cortex-m7 ...] [--precision int4] [--json]

Compiles the model for each CPU whose toolchain and emulator are here, and counts embbert_run() as it is: all of it, the
last layer's one row. benchmarks/cmsis_nn.py counts CMSIS-NN's kernels beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embbert_tvm.device.toolchain import find_tool
from embbert_tvm.errors import EmbbertError, InputError
from embbert_tvm.resources import resource
from embbert_tvm.table import table
from embbert_tvm.target import load_cpu

LENGTHS = (32, 64, 128, 256)
CPUS = ("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
# In millions, at LENGTHS: what was asked of int8.
GOALS = {"cortex-m7": (7.2, 15.5, 39.0, 112.0), "cortex-m55": (1.5, 3.4, 8.5, 24.0)}
LIKE = {"cortex-m4": "cortex-m7", "cortex-m33": "cortex-m7"}


def call(*arguments: object) -> dict[str, Any]:
    """What `embbert-tvm ... --json` prints; exit with it where it fails."""
    program = Path(sys.executable).with_name("embbert-tvm")
    command = [str(program), *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def measure(
    model: Path, cpu: str, folder: Path, precision: str = "int8", lengths: Sequence[int] = LENGTHS
) -> dict[int, int]:
    """Instructions by length, of the lengths that the model takes."""
    package = folder / cpu
    max_length = call("compile", model, "--target", cpu, "--precision", precision, "-o", package)["max_length"]
    lengths = [n for n in lengths if n <= max_length] or [max_length]
    found = call("profile", package, "--on", "qemu", "--length", ",".join(map(str, lengths)))
    return {one["length"]: one["total_instructions"] for one in found["lengths"]}


def rows(cpu: str, counted: dict[int, int], precision: str = "int8") -> list[dict[str, Any]]:
    """What one CPU counted, beside what was asked of int8, in instructions."""
    found = []
    for length, count in counted.items():
        row: dict[str, Any] = {"cpu": cpu, "length": length, "instructions": count}
        goals = GOALS.get(LIKE.get(cpu, cpu)) if precision == "int8" else None
        if goals is not None and length in LENGTHS:
            row["asked"] = round(goals[LENGTHS.index(length)] * 1e6)
        found.append(row)
    return found


def millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.2f} M"


def text(found: list[dict[str, Any]]) -> str:
    lines = [("CPU", "tokens", "instructions", "asked", "")]
    for row in found:
        ours, asked = row["instructions"], row.get("asked")
        met = "" if asked is None else "met" if ours <= asked else f"{ours / asked - 1:.0%} over"
        lines.append((row["cpu"], str(row["length"]), millions(ours), millions(asked), met))
    return table(lines, right=(1, 2, 3))


def missing(cpu: str) -> str | None:
    """Why a CPU cannot be measured here; InputError for one that is not known."""
    known = load_cpu(cpu)
    try:
        find_tool(known, "gcc")
    except InputError as error:
        return str(error)
    return None if known.emulation_board else f"QEMU emulates no {cpu}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, default=resource("models", "embbert-snips"))
    parser.add_argument("--cpu", nargs="+", default=CPUS, metavar="CPU", help=f"default: {' '.join(CPUS)}")
    parser.add_argument("--precision", default="int8", help="as `compile` takes it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="embbert-") as folder:
        for cpu in options.cpu:
            if why := missing(cpu):
                print(f"{cpu}: left out: {why}", file=sys.stderr)
                continue
            found += rows(cpu, measure(options.model, cpu, Path(folder), options.precision), options.precision)
    if options.json:
        print(json.dumps({"model": options.model.name, "unit": "instructions", "rows": found}))
        return
    print(f"{options.model.name}: instructions of a whole inference in QEMU\n\n{text(found)}\n")
    print("QEMU counts instructions, not cycles.")


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"instructions: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
