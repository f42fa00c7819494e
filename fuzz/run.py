"""Build the fuzz targets for packages of every precision and run them, with the corpus that is kept.

    python fuzz/run.py [--seconds 60] [--precision int8,int4] [--target classify,frames] [--merge] [--json]

What runs is libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer; `classify` and `run` also with
MemorySanitizer. Needs clang and its run-time libraries. Status 1 where a target found something: the input then lies in
build/fuzz/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from embbert_tvm.device.build import FIRMWARE  # noqa: E402
from embbert_tvm.device.package import Package, load_package  # noqa: E402
from embbert_tvm.graph.precision import PRECISIONS  # noqa: E402

TARGETS = ("classify", "run", "init", "frames", "server")
OF_THE_MODEL = ("classify", "run")  # fuzzed for every precision; the others once
SANITIZERS = {"address": "address,undefined", "memory": "memory"}
MOST_BYTES = 512  # of an input


@dataclass(frozen=True)
class Outcome:
    """What came of a target: how many inputs it ran, and the last line of what it said where it found something."""

    target: str
    precision: str
    sanitizer: str
    inputs: int
    finding: str


def objects(package: Package, sanitizer: str, folder: Path) -> list[Path]:
    """The package's C, instrumented."""
    return [instrumented(package, source, sanitizer, folder) for source in package.sources]


def instrumented(package: Package, source: Path, sanitizer: str, folder: Path) -> Path:
    """The object of a C file of the package."""
    made = folder / f"{source.stem}.o"
    _clang(package, f"fuzzer-no-link,{SANITIZERS[sanitizer]}", "-c", source, "-o", made)
    return made


def build(target: str, package: Package, parts: list[Path], sanitizer: str, folder: Path) -> Path:
    """The fuzzer of a target."""
    program = folder / target
    sources = [HERE / "targets" / f"{target}.c", *_firmware(target)]
    _clang(package, f"fuzzer,{SANITIZERS[sanitizer]}", *sources, *parts, "-lm", "-o", program)
    return program


def build_driver(target: str, package: Package, sanitizer: str, folder: Path) -> Path:
    """A target without libFuzzer, over inputs of targets/drive.c."""
    program = folder / f"drive-{target}"
    parts = () if target == "frames" else package.sources  # the parser of frames calls nothing of a package
    sources = [f'-DTARGET="{target}.c"', HERE / "targets" / "drive.c", *_firmware(target), *parts]
    _clang(package, SANITIZERS[sanitizer], *sources, "-lm", "-o", program)
    return program


def drive(program: Path, seed: int, count: int) -> tuple[int, str]:
    """(what was checked, the finding) of a driver; the input of a finding lies beside it."""
    command = [str(program), str(seed), str(count), str(program.with_suffix(f".found-{seed}"))]
    options = os.environ | {f"{kind}_OPTIONS": "handle_abort=1" for kind in ("ASAN", "MSAN", "UBSAN")}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=options)
    if done.returncode == 0:
        return int(done.stdout), ""
    return 0, _telling(done.stderr)


def _firmware(target: str) -> list[Path]:
    return [FIRMWARE / "src" / "frames.c"] if target in ("frames", "server") else []


def _telling(said: str) -> str:
    """The line of a sanitizer, or of what a target requires."""
    lines = re.findall(r"^.*(?:ERROR: |runtime error|: not |WARNING: Mem).*$", said, re.MULTILINE)
    return (lines or said.splitlines() or ["says nothing"])[0]


def _clang(package: Package, sanitize: str, *arguments: object) -> None:
    folders = (*package.includes, FIRMWARE / "include", FIRMWARE / "src", HERE / "targets")
    includes = [f"-I{path}" for path in folders]
    flags = ["-std=c99", "-g", "-O2", "-Wall", "-Wextra", "-ffp-contract=off", "-fno-sanitize-recover=all"]
    command = ["clang", *flags, f"-fsanitize={sanitize}", *includes, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"clang: {done.stderr}")


def run(program: Path, seconds: int, found: Path) -> tuple[int, str]:
    """(how many inputs were run, the finding) of a fuzzer over the corpus, and then for so many seconds."""
    corpus = HERE / "corpus" / program.name
    found.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-max_len={MOST_BYTES}", "-timeout=20", "-rss_limit_mb=2048"]
    if seconds == 0:
        limits[0] = "-runs=0"
    command = [str(program), *limits, "-print_final_stats=1", f"-artifact_prefix={found.parent}/{program.name}-"]
    done = subprocess.run([*command, str(found), str(corpus)], capture_output=True, text=True, errors="replace")
    count = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    return int(count[1]) if count else 0, _telling(done.stderr) if done.returncode else ""


def merge(program: Path, found: Path) -> None:
    """Put what reached new code into the corpus."""
    corpus = HERE / "corpus" / program.name
    subprocess.run([str(program), "-merge=1", str(corpus), str(found)], capture_output=True, check=True)


def fuzz(
    seconds: int,
    precisions: tuple[str, ...] = tuple(PRECISIONS),
    targets: tuple[str, ...] = TARGETS,
    sanitizers: tuple[str, ...] = tuple(SANITIZERS),
    folder: Path = ROOT / "build" / "fuzz",
    merging: bool = False,
) -> list[Outcome]:
    """Build and run the targets; what came of each."""
    import small

    outcomes = []
    for number, precision in enumerate(precisions):
        package = load_package(small.package(precision))
        for sanitizer in sanitizers:
            here = folder / f"{precision}-{sanitizer}"
            here.mkdir(parents=True, exist_ok=True)
            wanted = [t for t in targets if t in OF_THE_MODEL or (number == 0 and sanitizer == "address")]
            parts = objects(package, sanitizer, here) if wanted else []
            for target in wanted:
                program = build(target, package, parts, sanitizer, here)
                inputs, finding = run(program, seconds, here / f"found-{target}")
                outcomes.append(Outcome(target, precision, sanitizer, inputs, finding))
                if merging and not finding:
                    merge(program, here / f"found-{target}")
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="that each target is run for; 0: the corpus alone")
    parser.add_argument("--precision", default=",".join(PRECISIONS))
    parser.add_argument("--target", default=",".join(TARGETS))
    parser.add_argument("--merge", action="store_true", help="put what reached new code into fuzz/corpus")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if shutil.which("clang") is None:
        raise SystemExit("clang is not installed: `apt-get install clang libclang-rt-dev`")
    named = tuple(arguments.precision.split(",")), tuple(arguments.target.split(","))
    outcomes = fuzz(arguments.seconds, *named, merging=arguments.merge)
    if arguments.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes]))
    else:
        for o in outcomes:
            print(f"{o.target:10} {o.precision:8} {o.sanitizer:8} {o.inputs:9,} inputs  {o.finding or 'nothing found'}")
        print(f"{sum(o.inputs for o in outcomes):,} inputs, {sum(bool(o.finding) for o in outcomes)} findings")
    sys.exit(any(o.finding for o in outcomes))


if __name__ == "__main__":
    main()
