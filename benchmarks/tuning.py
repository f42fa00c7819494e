"""What the logs of tuning are worth: each model and target compiled with and without them, and counted in QEMU.

python benchmarks/tuning.py MODEL [--target CPU ...] [--precision int8] [--length 64] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from instructions import call

from embbert_tvm.errors import EmbbertError
from embbert_tvm.report.table import table

CPUS = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")


def measure(model: Path, target: str, precision: str, length: int, folder: Path) -> dict:
    """Instructions of an inference untuned and tuned, and how many kernels are as tuned."""
    counts, tuned = [], 0
    for options in (["--no-tuning"], []):
        package = folder / f"{target}{'-untuned' if options else ''}"
        built = call("compile", model, "--target", target, "--precision", precision, *options, "-o", package)
        tuned = len(built["tuned"])
        profile = call("profile", package, "--on", "qemu", "--length", length)
        counts.append(profile["lengths"][0]["total_instructions"])
    return {"target": target, "untuned": counts[0], "tuned": counts[1], "kernels": tuned}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--target", nargs="+", default=CPUS, metavar="CPU", help=f"default: {' '.join(CPUS)}")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embbert-") as name:
        rows = [measure(options.model, t, options.precision, options.length, Path(name)) for t in options.target]
    if options.json:
        print(json.dumps({"model": str(options.model), "precision": options.precision, "rows": rows}))
        return
    lines = [("target", "untuned", "tuned", "", "kernels as tuned")]
    for row in rows:
        times = f"{row['untuned'] / row['tuned']:.2f} x"
        lines.append((row["target"], f"{row['untuned']:,}", f"{row['tuned']:,}", times, str(row["kernels"])))
    print(f"Instructions of {options.model.name} in {options.precision} at {options.length} tokens\n")
    print(table(lines, right=(1, 2, 3, 4)))


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"tuning: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
