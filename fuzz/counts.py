"""How much was tried in all: runs every check in parts, keeps a line of each part in a log, and goes on where it ended.

    python fuzz/counts.py LOG [--goal frames=100000000,inferences=1000000] [--report]

A part has a seed of its own, its number. What is counted:
inputs      changed inputs that a command read (readers.py)
inferences  of packages of every precision, and of other architectures, under AddressSanitizer and
            UndefinedBehaviorSanitizer or MemorySanitizer (targets/classify.c and run.c by targets/drive.c)
tokenizer   texts whose ids were compared with those of the `tokenizers` library, over all kinds of tokenizers
frames      frames on a wire with noise, compared with a reference parser (targets/frames.c)
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE), str(HERE.parent / "benchmarks")]

import run  # noqa: E402

GOALS = {"inputs": 20_000, "inferences": 1_000_000, "tokenizer": 10_000_000, "frames": 100_000_000}
# Beside the small EmbBERT at every precision: architecture and precision.
OTHERS = [
    (preset, precision)
    for preset in ("bert-2mb", "mamba-2mb", "embedder-conv")
    for precision in ("int8", "int4", "fp16", "fp32")
]
_FRAME_INPUTS, _MODEL_INPUTS, _TEXTS, _FILES = 500_000, 5_000, 30_000, 500
Part = tuple[int, list[str]]  # how many, and what was found


@functools.cache
def _work() -> Path:
    return Path(tempfile.mkdtemp(prefix="embbert-counts-"))


def frames(number: int) -> Part:
    import small

    return _driven("frames", small.package(), "address", number, _FRAME_INPUTS)


def inferences(number: int) -> Part:
    models = [("", precision) for precision in run.PRECISIONS] + OTHERS
    number, which = divmod(number, len(models))
    number, sanitizer = divmod(number, len(run.SANITIZERS))
    number, target = divmod(number, len(run.OF_THE_MODEL))
    package = _package(*models[which])
    return _driven(run.OF_THE_MODEL[target], package, list(run.SANITIZERS)[sanitizer], number, _MODEL_INPUTS)


def _driven(target: str, package: Path, sanitizer: str, seed: int, count: int) -> Part:
    checked, finding = run.drive(_driver(target, package, sanitizer), seed, count)
    return checked, [f"{target}, {package.name}, {sanitizer}, seed {seed}: {finding}"] if finding else []


@functools.cache
def _driver(target: str, package: Path, sanitizer: str) -> Path:
    folder = _work() / f"{package.name}-{sanitizer}"
    folder.mkdir(exist_ok=True)
    return run.build_driver(target, run.load_package(package), sanitizer, folder)


@functools.cache
def _package(preset: str, precision: str) -> Path:
    """A small model of a preset's architecture with random weights, compiled; the small EmbBERT where none is named."""
    import small

    if not preset:
        return small.package(precision)
    from embbert_tvm.compiler import CompileOptions, compile_model, find_source
    from embbert_tvm.target import load_cpu

    out = _work() / f"{preset}-{precision}"
    compile_model(find_source(_model(preset)), load_cpu("host"), out, CompileOptions(precision=precision))
    return out


@functools.cache
def _model(preset: str) -> Path:
    import small
    import torch

    from embbert_tvm.data.tokenizer import train_tokenizer
    from embbert_tvm.graph.float_tensors import calibrate_folder
    from embbert_tvm.graph.onnx_export import export_folder
    from embbert_tvm.models.config import PRESETS
    from embbert_tvm.models.registry import build

    tokenizer = train_tokenizer([*small.TEXTS] * 3, 200)
    config = PRESETS[preset]
    sizes = {"vocabulary_size": tokenizer.get_vocab_size(), "max_length": 40, "hidden_size": 16, "layers": 2}
    sizes |= {"expansion": 2, "feed_forward_size": 24, "reduced_size": 8 if getattr(config, "reduced_size", 0) else 0}
    sizes |= {"kernel_size": 4 if getattr(config, "kernel_size", 0) else 0}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build(dataclasses.replace(config, **{k: v for k, v in sizes.items() if hasattr(config, k)}), 3, 0.0)
    folder = _work() / preset
    export_folder(model.save_pretrained(folder, name=preset, labels=small.LABELS, tokenizer=tokenizer))
    calibrate_folder(folder, [small.some_ids(n, tokenizer.get_vocab_size(), n) for n in range(1, 41)])
    return folder


def tokenizer(number: int) -> Part:
    import tokenizer_ids
    import tokenizer_kinds

    names = list(tokenizer_kinds.KINDS)
    name = names[number % len(names)]
    spec, hosts = _hosts(name)
    texts = tokenizer_ids.random_pairs(_TEXTS, number // len(names))
    compared, refused, wrong = tokenizer_ids.differences(spec, hosts, texts, each=1)
    return compared - refused, [f"{name}, cut at {cut}: {pair!r}" for cut, pair in wrong]


@functools.cache
def _hosts(name: str) -> tuple:
    import tokenizer as benchmark
    import tokenizer_ids
    import tokenizer_kinds

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    spec = tokenizer_ids.spec_of(tokenizer_kinds.KINDS[name](), Path(name))
    hosts = {}
    for cut in tokenizer_ids.CUTS:
        folder = Path(tempfile.mkdtemp(dir=_work()))
        hosts[cut] = benchmark.HostTokenizer(spec, folder, max_length=cut, checked=True)
    return spec, hosts


def inputs(number: int) -> Part:
    """Runs in a process of its own: its children are checked by what they leave of their streams."""
    command = [sys.executable, str(HERE / "readers.py"), "--count", str(_FILES), "--seed", str(1000 + number), "--json"]
    done = subprocess.run([*command, "--keep", str(HERE.parent / "build/fuzz/readers")], stdout=subprocess.PIPE)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["inputs"], found["findings"]


PARTS: dict[str, Callable[[int], Part]] = {
    "inputs": inputs, "inferences": inferences, "tokenizer": tokenizer, "frames": frames,
}  # fmt: skip


def read(log: Path) -> dict[str, list[dict]]:
    """The parts of each kind that a log holds; a line that was cut off is none."""
    found: dict[str, list[dict]] = {kind: [] for kind in PARTS}
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            part = json.loads(line)
        except ValueError:
            continue
        found[part["kind"]].append(part)
    return found


def table(parts: dict[str, list[dict]]) -> str:
    rows = []
    for kind, found in parts.items():
        findings = [finding for part in found for finding in part["findings"]]
        seconds = sum(part["seconds"] for part in found)
        rows.append(f"{kind:11} {sum(p['count'] for p in found):12,} in {seconds:7.0f} s, {len(findings)} findings")
        rows += [f"  {finding}" for finding in findings[:20]]
    return "\n".join(rows)


def count(log: Path, goals: dict[str, int]) -> None:
    """Run parts of each kind until the log holds what is requested."""
    log.parent.mkdir(parents=True, exist_ok=True)
    for kind, goal in goals.items():
        done = read(log)[kind]
        total, number = sum(part["count"] for part in done), len(done)
        while total < goal:
            start = time.monotonic()
            size, findings = PARTS[kind](number)
            seconds = round(time.monotonic() - start, 1)
            line = {"kind": kind, "number": number, "count": size, "seconds": seconds, "findings": findings}
            with log.open("a") as file:  # after a line that was cut off, on one of its own
                file.write(f"\n{json.dumps(line)}\n")
            total, number = total + size, number + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path, help="file of a line a part; it is appended to")
    parser.add_argument("--goal", default=",".join(f"{kind}={count}" for kind, count in GOALS.items()))
    parser.add_argument("--report", action="store_true", help="print what the log holds, and run nothing")
    arguments = parser.parse_args()
    goals = {} if arguments.report else {k: int(v) for k, v in (x.split("=") for x in arguments.goal.split(","))}
    count(arguments.log, goals)
    found = read(arguments.log)
    print(table(found))
    sys.exit(any(part["findings"] for parts in found.values() for part in parts))


if __name__ == "__main__":
    main()
