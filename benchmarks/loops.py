"""Cycles of the inner loops by llvm-mca's models of the pipelines: estimates, no measurement.

    python benchmarks/loops.py [MODEL] [--cpu cortex-m7 ...] [--all] [--json]

Compiles the model's kernels to assembly, in both variants of the DSP loops (EMBBERT_DUAL_ISSUE in kernels/micro/
embbert_dsp.h), and gives each innermost loop to llvm-mca 15 or later. Shown are the loops that multiply and accumulate,
with --all every loop. llvm-mca knows neither caches, flash nor branches: a loop cannot be faster than what it says.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from instructions import call, missing

from embbert_tvm.cycles.tool import find_mca
from embbert_tvm.device.package import Package, load_package
from embbert_tvm.device.toolchain import call as call_tool
from embbert_tvm.errors import EmbbertError, InputError
from embbert_tvm.kernels import micro
from embbert_tvm.resources import resource
from embbert_tvm.table import table
from embbert_tvm.target import Cpu, load_cpu

CPUS = ("cortex-m4", "cortex-m7", "cortex-m55")
ITERATIONS = 400
VARIANTS = {False: "LDRD", True: "single loads"}

_LABEL = re.compile(r"\s*([.\w$]+):\s*(.*)")
_FUNCTION = re.compile(r"\s*\.type\s+(\w+),\s*%function")
_BRANCH = re.compile(
    r"(?:b(?:eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?(?:\.[nw])?|cbn?z|le|letp)\s+(?:\w+,\s*)?([.\w$]+)$"
)
# Multiplications with accumulation of an instruction, the first that matches.
_MACS = ((r"v(rml|ml)[a-z]*\.[su]8", 16), (r"v(rml|ml)[a-z]*\.[su]16", 8), (r"v(rml|ml)[a-z]*\.[su]32", 4))
_MACS += ((r"sml[as]l?dx?\b", 2), (r"(ml[as]|smla[bt][bt]|smlal)\b", 1))


@dataclass(frozen=True)
class Loop:
    """An innermost loop: its instructions, and what llvm-mca says of one time around."""

    cpu: str
    function: str
    variant: str
    used: bool  # the variant that the CPU's features choose
    instructions: int
    macs: int
    cycles: float = 0.0
    text: str = ""


def assembly(package: Package, cpu: Cpu, dual_issue: bool) -> str:
    """kernels.c as the target's compiler prints it, with one variant of the DSP loops."""
    (kernels,) = (path for path in package.sources if path.name.endswith("kernels.c"))
    with tempfile.TemporaryDirectory(prefix="embbert-") as name:
        folder = Path(name)
        headers = [path for place in (kernels.parent, *package.includes) for path in place.glob("*.h")]
        # A package has the variant of its CPU: the headers that it was made of have both.
        for path in (kernels, *headers, *Path(micro.__file__).parent.glob("*.h")):
            text = re.sub(r"#define EMBBERT_DUAL_ISSUE \d\n", "", path.read_text())
            (folder / path.name).write_text(text)
        variant = f"-DEMBBERT_DUAL_ISSUE={int(dual_issue)}"
        flags = ["-std=c99", *cpu.cflags, *cpu.optimize, f"-I{folder}", variant]
        call_tool(cpu, "gcc", [*flags, "-S", folder / kernels.name, "-o", folder / "kernels.s"], kernels.name)
        return (folder / "kernels.s").read_text()


def loops(text: str) -> Iterator[tuple[str, list[str]]]:
    """(function, lines) of each innermost loop of an assembly text, in order."""
    function, lines, labels = "", [], {}
    found: list[tuple[str, int, int]] = []
    for raw in text.splitlines():
        line = re.sub(r"\s*(@|//).*", "", raw)
        if match := _FUNCTION.match(line):
            function, labels = match[1], {}
        if match := _LABEL.match(line):
            labels[match[1]] = len(lines)
            line = match[2]
        line = line.strip()
        if not line or line.startswith("."):
            continue
        lines.append(line)
        if match := _BRANCH.fullmatch(line):
            target = match[1].removesuffix("b") if match[1][0].isdigit() else match[1]
            backward = not match[1].endswith("f") or not match[1][0].isdigit()
            if backward and target in labels:
                found.append((function, labels[target], len(lines)))
    for name, start, end in found:
        inner = any((a, b) != (start, end) and start <= a and b <= end for _, a, b in found)
        if not inner:
            yield name, lines[start:end]


def cycles(mca: str, cpu: Cpu, lines: Sequence[str]) -> float:
    """Cycles of one iteration of a loop."""
    # The branch back is to a label that llvm-mca needs not know: it goes around by itself. It knows no LE, which takes
    # no cycle on a core that remembers the loop.
    counted = (line for line in lines if not re.match(r"le(tp)?\s", line))
    body = "\n".join(re.sub(r"\b\d+[bf]$", "elsewhere", line) for line in counted)
    command = [mca, f"-mtriple={cpu.llvm.mtriple}", f"-mcpu={cpu.llvm.mcpu}", f"-iterations={ITERATIONS}"]
    done = subprocess.run(command, input=f".syntax unified\n.thumb\n{body}\n", capture_output=True, text=True)
    total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if done.returncode or not total:
        raise InputError(f"{mca} does not take a loop: {(done.stderr.strip().splitlines() or ['no cycles'])[0]}")
    return int(total[1]) / ITERATIONS


def macs(lines: Sequence[str]) -> int:
    return sum(next((count for pattern, count in _MACS if re.match(pattern, line)), 0) for line in lines)


def measure(mca: str, package: Package, cpu: Cpu, every: bool) -> list[Loop]:
    """The loops in both variants where they differ, else once."""
    found: list[Loop] = []
    used = "dual_issue" in cpu.features
    variants = {dual: list(loops(assembly(package, cpu, dual))) for dual in (False, True)}
    seen = set()
    for dual, pieces in variants.items():
        other = {(name, tuple(lines)) for name, lines in variants[not dual]}
        for name, lines in pieces:
            key = (name, tuple(lines))
            if key in seen or not (every or macs(lines)):
                continue
            seen.add(key)
            short = name.removeprefix("embbert_")
            variant = "" if key in other else VARIANTS[dual]
            loop = Loop(
                cpu.name, short, variant, not variant or dual == used, len(lines), macs(lines), text="\n".join(lines)
            )
            found.append(replace(loop, cycles=cycles(mca, cpu, lines)))
    return sorted(found, key=lambda loop: loop.function)


def text(found: Sequence[Loop]) -> str:
    lines = [("CPU", "kernel", "variant", "", "instructions", "cycles", "MAC", "MAC/instruction", "MAC/cycle")]
    for loop in found:
        rates = (f"{loop.macs / loop.instructions:.2f}", f"{loop.macs / loop.cycles:.2f}") if loop.macs else ("", "")
        used = "used" if loop.used and loop.variant else ""
        counts = (str(loop.instructions), f"{loop.cycles:.1f}", str(loop.macs or ""))
        lines.append((loop.cpu, loop.function, loop.variant, used, *counts, *rates))
    return table(lines, right=(4, 5, 6, 7, 8))


def verdict(cpu: str, found: Sequence[Loop]) -> str | None:
    """Which variant a CPU uses, and what that costs and gives over its loops; None where the variants are one."""
    used = [loop for loop in found if loop.cpu == cpu and loop.variant and loop.used]
    other = [loop for loop in found if loop.cpu == cpu and loop.variant and not loop.used]
    if not used or len(used) != len(other):
        return None

    def change(key: str) -> str:
        ratios = sorted(getattr(a, key) / getattr(b, key) - 1 for a, b in zip(used, other, strict=True))
        return f"{ratios[0]:+.0%}" if ratios[0] == ratios[-1] else f"{ratios[0]:+.0%} to {ratios[-1]:+.0%}"

    words = f"instructions {change('instructions')}, cycles {change('cycles')}"
    right = sum(loop.cycles for loop in used) <= sum(loop.cycles for loop in other)
    why = "fewer cycles decide" if right else "THE OTHER VARIANT TAKES FEWER CYCLES: see dual_issue in targets/cpus"
    return f"{cpu}: {used[0].variant} used; over {other[0].variant}: {words}: {why}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, default=resource("models", "embbert-snips"))
    parser.add_argument("--cpu", nargs="+", default=CPUS, metavar="CPU", help=f"default: {' '.join(CPUS)}")
    parser.add_argument("--all", action="store_true", help="loops without multiplications too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    mca, found = find_mca(), []
    with tempfile.TemporaryDirectory(prefix="embbert-") as folder:
        for name in options.cpu:
            if why := missing(name):
                print(f"{name}: left out: {why}", file=sys.stderr)
                continue
            call("compile", options.model, "--target", name, "-o", Path(folder) / name)
            found += measure(mca, load_package(Path(folder) / name), load_cpu(name), options.all)
    if options.json:
        verdicts = {name: verdict(name, found) for name in options.cpu}
        print(json.dumps({"estimate": True, "loops": [asdict(loop) for loop in found], "verdicts": verdicts}))
        return
    print("Estimates by llvm-mca, an iteration of each innermost loop:\n")
    print(text(found))
    print()
    for name in options.cpu:
        if said := verdict(name, found):
            print(said)


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"loops: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
