"""A board in QEMU behind a serial line with faults: is every question answered rightly, or said to have failed?

    python benchmarks/faults.py [MODEL] [--cpu cortex-m4] [--frames 10000] [--rate 0.003] [--json]

Compiles the model, boots it with its UART on a pseudo-terminal, and asks it for the logits of short texts through a
line that drops, repeats and changes bytes in both directions, adds noise, cuts frames off and pauses inside of them.
What the package's C gives on this machine is right. A hang is a question that takes longer than all its time-outs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from noisy_line import FAULTS, BoardOnTerminal, NoisyLine

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.tokenizer import encode, load_tokenizer
from embbert_tvm.device.device import Device, PlaceTraits
from embbert_tvm.device.package import Package, load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.device.serial_port import SerialLink
from embbert_tvm.errors import EmbbertError, WorkError
from embbert_tvm.resources import resource
from embbert_tvm.table import table

TIMEOUT, ATTEMPTS = 0.5, 4
TEXTS = 200


def ask(package: Package, line: NoisyLine, texts: list[list[int]], frames: int, rate: float) -> dict[str, Any]:
    """Ask for `frames` runs over the line; what became of them."""
    with open_place("host", package) as host:
        expected = [host.run(ids).logits.tobytes() for ids in texts]
    found: Counter[str] = Counter()
    longest, start = 0.0, time.monotonic()
    with Device(SerialLink(line.port), package, "the board", TIMEOUT, PlaceTraits(attempts=ATTEMPTS)) as device:
        device.check()
        device.retries, line.rate = 0, rate
        for number in range(frames):
            begin = time.monotonic()
            try:
                right = device.run(texts[number % len(texts)]).logits.tobytes() == expected[number % len(texts)]
                found["right" if right else "wrong"] += 1
            except WorkError:
                found["failed"] += 1
            longest = max(longest, time.monotonic() - begin)
            found["hangs"] += time.monotonic() - begin > ATTEMPTS * TIMEOUT * 2
        retries = device.retries
        line.rate = 0.0
        device.check()  # it has survived
    return {
        "frames": frames,
        "faults": {f"{way} the device, {kind}": line.faults[way, kind] for way in ("to", "from") for kind in FAULTS},
        "retries": retries,
        "right": found["right"],
        "reported_failures": found["failed"],
        "wrong_labels": found["wrong"],
        "hangs": found["hangs"],
        "longest_seconds": round(longest, 2),
        "seconds": round(time.monotonic() - start, 1),
    }


def measure(model: Path, cpu: str, frames: int, rate: float, seed: int) -> dict[str, Any]:
    from embbert_tvm.compiler import compile_model, find_source
    from embbert_tvm.target import load_cpu

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="embbert-")))
        compile_model(find_source(model), load_cpu(cpu), folder / "package")
        package = load_package(folder / "package")
        tokenizer = load_tokenizer(package.tokenizer, package.vocabulary)
        sentences = sorted((e.text for e in read_examples(resource("data", "snips", "test.tsv.xz"))), key=len)
        texts = [encode(tokenizer, text, max_length=package.max_length) for text in sentences[:TEXTS]]
        board = stack.enter_context(closing(BoardOnTerminal(package)))
        line = stack.enter_context(closing(NoisyLine(board.reads, board.writes, seed=seed)))
        return {"model": model.name, "cpu": cpu, "rate": rate, "seed": seed} | ask(package, line, texts, frames, rate)


def text(found: dict[str, Any]) -> str:
    rows = [(kind, f"{count:,}") for kind, count in found["faults"].items()]
    rows.append(("faults", f"{sum(found['faults'].values()):,}"))
    rows += [(key.replace("_", " "), f"{found[key]:,}") for key in list(found)[list(found).index("retries") :]]
    return table([("", "count"), ("frames", f"{found['frames']:,}"), *rows], right=(1,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, default=resource("models", "embbert-snips"))
    parser.add_argument("--cpu", default="cortex-m4")
    parser.add_argument("--frames", type=int, default=10_000, help="questions; each is a frame to the device and back")
    parser.add_argument("--rate", type=float, default=0.003, help="the share of bytes that meet a fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found = measure(options.model, options.cpu, options.frames, options.rate, options.seed)
    print(json.dumps(found) if options.json else f"{found['model']} on {found['cpu']} in QEMU\n\n{text(found)}")
    if found["wrong_labels"] or found["hangs"]:
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"faults: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
