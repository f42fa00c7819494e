"""The bits of a model on every CPU that can be run here: this machine, Cortex-M, RISC-V and Xtensa in QEMU.

    python benchmarks/bits.py [MODEL] [--cpu cortex-m3 ...] [--precision int4] [--json]

Compiles the model for each CPU and runs its reference vectors, token ids from the least to the most, whose logits are
those of TVM's LLVM build. A CPU without a toolchain or an emulator here is named and left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from embbert_tvm import api
from embbert_tvm.device.package import load_vectors
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import EmbbertError
from embbert_tvm.options import CompileOptions
from embbert_tvm.resources import resource
from embbert_tvm.table import table
from embbert_tvm.target import known_cpus, load_cpu


@dataclass(frozen=True)
class Found:
    """How many vectors of a CPU gave the reference's bits."""

    cpu: str
    place: str
    equal: int
    vectors: int
    longest: int  # of them, in tokens


def cpus() -> list[str]:
    """This machine, and what QEMU emulates."""
    return [name for name in known_cpus() if name == "host" or load_cpu(name).emulation_board is not None]


def compare(model: Path, cpu: str, precision: str, out: Path) -> Found:
    """Compile a model for a CPU and run its vectors there."""
    package = api.compile(model, cpu, out, CompileOptions(precision=precision)).contents
    place = "host" if cpu == "host" else f"qemu:{load_cpu(cpu).emulation_board}"
    vectors = load_vectors(package)
    with open_place(place, package, timeout=600) as device:
        equal = [np.array_equal(device.run(v.ids).logits.view("u4"), v.logits.view("u4")) for v in vectors]
    return Found(cpu, place, sum(equal), len(vectors), max(len(v.ids) for v in vectors))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=resource("models") / "embbert-snips")
    parser.add_argument("--cpu", nargs="+", default=cpus())
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: list[Found] = []
    with tempfile.TemporaryDirectory(prefix="embbert-") as scratch:
        for cpu in options.cpu:
            try:
                found.append(compare(options.model, cpu, options.precision, Path(scratch) / cpu))
            except EmbbertError as error:
                print(f"{cpu}: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps([asdict(one) for one in found]))
    else:
        rows = [(one.cpu, one.place, f"{one.equal} of {one.vectors}", str(one.longest)) for one in found]
        print(table([("CPU", "place", "vectors with the reference's bits", "longest"), *rows]))
    return 0 if found and all(one.equal == one.vectors for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
