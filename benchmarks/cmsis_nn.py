"""Instructions of EmbBERT's layers by CMSIS-NN's kernels in QEMU, beside those of our whole inference.

    git clone https://github.com/ARM-software/CMSIS-NN
    python benchmarks/cmsis_nn.py CMSIS-NN [MODEL] [--cpu cortex-m7 ...] [--length 32,64,128,256] [--json]

Builds the kernels from that folder with the flags of a package of ours and counts each (benchmarks/cmsis_nn/chain.c):
`arm_nn_mat_mult_nt_t_s8` for every product, those of attention too (`arm_batch_matmul_s8` takes more),
`arm_softmax_s8`, `arm_transpose_s8`, `arm_depthwise_conv_wrapper_s8`. Three layers are of all rows, the last of the one
row that the head reads: what nothing reads is left out. Norms, embedding and head are not in it; ours are of
embbert_run() as it is. `ratio`: CMSIS-NN's over ours; `without softmax`: ours still has its own. QEMU counts
instructions, not cycles.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from instructions import measure, millions, missing
from kernels import MODEL_HEADER, write_metadata

from embbert_tvm.device.package import load_package
from embbert_tvm.device.profile import profile
from embbert_tvm.errors import EmbbertError, InputError
from embbert_tvm.resources import resource
from embbert_tvm.table import table

CHAIN = Path(__file__).parent / "cmsis_nn" / "chain.c"
CPUS = ("cortex-m4", "cortex-m7", "cortex-m55")
# Of each of two layers, of all rows and of one; how often a layer runs the step.
STEPS = {"product": 3, "scores": 1, "softmax": 1, "transposition": 1, "values": 1, "filter": 1}
FULL_LAYERS = 3
SOURCES = (
    "NNSupportFunctions/arm_nn*s8*.c",
    "NNSupportFunctions/arm_q7*.c",
    "NNSupportFunctions/arm_s8*.c",
    "ConvolutionFunctions/arm_*s8*.c",
    "SoftmaxFunctions/arm_softmax_s8.c",
    "SoftmaxFunctions/arm_nn_softmax_common_s8.c",
    "TransposeFunctions/arm_transpose_s8.c",
)


def package(cpu: str, checkout: Path, folder: Path) -> Path:
    """A package whose steps are the kernels, of a layer of all rows and of one row."""
    found = sorted({path for pattern in SOURCES for path in (checkout / "Source").glob(pattern)})
    if not found:
        raise InputError(f"{checkout}: is no checkout of CMSIS-NN: it has no Source/NNSupportFunctions")
    source = folder / "src"
    source.mkdir(parents=True)
    (source / "embbert.h").write_text(MODEL_HEADER)
    for path in (CHAIN, *found):
        shutil.copy(path, source)
    shutil.copytree(checkout / "Include", folder / "include")
    steps = ["start", *STEPS, *(f"{name} of one row" for name in STEPS)]
    sources = [path.name for path in (CHAIN, *found)]
    return write_metadata(folder, cpu, "cmsis-nn", steps, sources, ["src", "include"])


def chain(cpu: str, checkout: Path, lengths: list[int], folder: Path) -> dict[int, dict[str, int]]:
    """Instructions of the layers' steps, by length and name; rows that nothing reads left out."""
    found = {}
    for one in profile(load_package(package(cpu, checkout, folder)), "qemu", lengths).lengths:
        counts = [layer.instructions or 0 for layer in one.layers[1:]]
        every, last = counts[: len(STEPS)], counts[len(STEPS) :]
        found[one.length] = {
            name: times * (FULL_LAYERS * whole + row)
            for (name, times), whole, row in zip(STEPS.items(), every, last, strict=True)
        }
    return found


def revision(checkout: Path) -> str:
    """The commit of a checkout, where git knows it."""
    done = subprocess.run(["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "of no known revision"


def rows(cpu: str, ours: dict[int, int], theirs: dict[int, dict[str, int]]) -> list[dict[str, Any]]:
    """One row a length, in instructions."""
    found = []
    for length, counts in theirs.items():
        total = sum(counts.values())
        rest = total - counts["softmax"]
        found.append(
            {
                "cpu": cpu,
                "length": length,
                "instructions": ours[length],
                "cmsis_nn": total,
                "ratio": round(total / ours[length], 2),
                "ratio_without_softmax": round(rest / ours[length], 2),
                "steps": counts,
            }
        )
    return found


def text(found: list[dict[str, Any]]) -> str:
    lines = [("CPU", "tokens", "ours", "CMSIS-NN's layers", "ratio", "without softmax", *STEPS)]
    for row in found:
        figures = (millions(row["instructions"]), millions(row["cmsis_nn"]))
        ratios = (f"{row['ratio']:.2f}", f"{row['ratio_without_softmax']:.2f}")
        steps = (millions(count) for count in row["steps"].values())
        lines.append((row["cpu"], str(row["length"]), *figures, *ratios, *steps))
    return table(lines, right=tuple(range(1, len(lines[0]))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a checkout of CMSIS-NN")
    parser.add_argument("model", nargs="?", type=Path, default=resource("models", "embbert-snips"))
    parser.add_argument("--cpu", nargs="+", default=CPUS, metavar="CPU", help=f"default: {' '.join(CPUS)}")
    parser.add_argument("--length", default="32,64,128,256", metavar="N,N", help="tokens of the texts")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    lengths = [int(word) for word in options.length.split(",")]
    found = []
    with tempfile.TemporaryDirectory(prefix="embbert-") as name:
        folder = Path(name)
        for cpu in options.cpu:
            if why := missing(cpu):
                print(f"{cpu}: left out: {why}", file=sys.stderr)
                continue
            theirs = chain(cpu, options.checkout, lengths, folder / f"{cpu}-cmsis-nn")
            found += rows(cpu, measure(options.model, cpu, folder, lengths=lengths), theirs)
    if options.json:
        print(json.dumps({"model": options.model.name, "cmsis_nn": revision(options.checkout), "rows": found}))
        return
    print(f"{options.model.name} beside CMSIS-NN {revision(options.checkout)}: instructions in QEMU\n\n{text(found)}")


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"cmsis_nn: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
