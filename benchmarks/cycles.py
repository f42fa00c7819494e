"""Cycles of a whole inference, by function: an estimate by several models of the core's pipeline, and the worst.

    python benchmarks/cycles.py [MODEL | PACKAGE] [--target CPU ...] [--length N,N] [--precision int8]
                                [--caches 16k/2,16k/4] [--functions 8] [--json]

Compiles the model for each CPU, runs it in QEMU, whose plugin counts every basic block, and weighs the blocks by
llvm-mca and by the rules that the CPU's file names (cycles/rules.py). `worst` adds up, block by block, the model that
takes most. With --caches also the lines that caches of that size and those ways fetch. docs/profiling.md says what no
model knows.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from instructions import call, missing

from embbert_tvm.cycles.account import document, notes, text
from embbert_tvm.cycles.caches import parse_caches
from embbert_tvm.cycles.inference import inference_cycles
from embbert_tvm.device.package import load_package
from embbert_tvm.errors import EmbbertError
from embbert_tvm.resources import resource

CPUS = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
LENGTHS = "12,32"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, default=resource("models", "embbert-snips"))
    parser.add_argument("--target", "--cpu", nargs="+", default=CPUS, metavar="CPU", help=f"default: {' '.join(CPUS)}")
    parser.add_argument("--length", default=LENGTHS, metavar="N,N", help=f"tokens of the texts; default: {LENGTHS}")
    parser.add_argument("--precision", default="int8", help="as `compile` takes it")
    parser.add_argument("--caches", metavar="CODE,DATA", help="count the lines fetched, as by 16k/2,16k/4: size/ways")
    parser.add_argument("--functions", type=int, default=8, metavar="N", help="to show; default: 8")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    lengths = [int(word) for word in options.length.split(",")]
    caches = parse_caches(options.caches) if options.caches else None
    ready = (options.model / "metadata.json").is_file()
    rows = []
    with tempfile.TemporaryDirectory(prefix="embbert-") as folder:
        for cpu in [load_package(options.model).target] if ready else options.target:
            if why := missing(cpu):
                print(f"{cpu}: left out: {why}", file=sys.stderr)
                continue
            package = options.model if ready else Path(folder) / cpu
            if not ready:
                call("compile", options.model, "--target", cpu, "--precision", options.precision, "-o", package)
            for found in inference_cycles(load_package(package), lengths, caches):
                rows.append(document(cpu, found))
                if not options.json:
                    print(
                        "\n".join(
                            [f"{cpu}, {found.length} tokens", "", text(found, options.functions), *notes(found), ""]
                        )
                    )
    if options.json:
        print(json.dumps({"estimate": True, "model": options.model.name, "rows": rows}))


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"cycles: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
