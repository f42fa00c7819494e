"""An assistant on an emulated board: lines from the terminal to an intent, its slots, or none of these.

    python benchmarks/assistant.py MODEL [--target cortex-m7] [--on qemu]

compiles a model folder, boots it, and answers each line. Where the model has a vector (`export --vector`, or the head
that `reject` adds), the board learns: `/learn NAME TEXT` teaches it an example, `/forget NAME` takes a name away, and a
line that is nearer to what was taught than --threshold is answered by that name.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from embbert_tvm.compiler import CompileOptions, compile_model, find_source
from embbert_tvm.data.tokenizer import load_tokenizer
from embbert_tvm.device import store
from embbert_tvm.device.classify import answer
from embbert_tvm.device.device import Device
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import EmbbertError, InputError
from embbert_tvm.heads import VECTOR
from embbert_tvm.models.folder import find_model
from embbert_tvm.rejection import NONE_TEXT
from embbert_tvm.target import load_cpu

ROOM = 32  # intents that the board can learn
MAX_LENGTH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--target", default="cortex-m7")
    parser.add_argument("--on", default="qemu")
    parser.add_argument("--threshold", type=float, default=0.5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embbert-assistant-") as scratch:
        out = Path(scratch) / "package"
        length = CompileOptions(max_length=MAX_LENGTH)
        compile_model(find_source(find_model(options.model)), load_cpu(options.target), out, length)
        package = load_package(out)
        flags: tuple[str, ...] = ()
        try:
            flags = store.store_flags(package, ROOM)
        except InputError:
            print("this model has no vector: it cannot learn")
        with open_place(options.on, package, flags=flags) as device:
            print(f"{package.model_name} on {device.place}; an empty line ends", flush=True)
            talk(device, (line.rstrip("\n") for line in sys.stdin), options.threshold, bool(flags))


def talk(
    device: Device, lines: Iterable[str], threshold: float, learns: bool, say: Callable[[str], None] = print
) -> None:
    """Answer lines until an empty one."""
    tokenizer = load_tokenizer(device.package.tokenizer, device.package.vocabulary)
    for line in lines:
        if not line.strip():
            return
        command, _, rest = line.partition(" ")
        name, _, text = rest.partition(" ")
        try:
            if command == "/learn":
                say(f"  {name}: learned, {store.add(device, name, text)} names" if text else "  /learn NAME TEXT")
            elif command == "/forget":
                say(f"  {name}: forgotten, {store.forget(device, name)} left")
            else:
                near = store.nearest(device, line, threshold) if learns else None
                if near is not None and near.name is not None:
                    say(f"  {near.name} (taught, cosine {near.cosine:.2f})")
                else:
                    say(told(device, tokenizer, line))
        except EmbbertError as error:
            say(f"  {error}")


def told(device: Device, tokenizer, line: str) -> str:
    """What the model itself says of a line."""
    if device.package.head == VECTOR:
        return f"  {NONE_TEXT}"
    found = answer(device, tokenizer, line)
    scores = found.scores or {}
    best = max(scores, key=lambda label: scores[label], default="")
    count = found.instructions or found.cycles
    parts = [f"  {NONE_TEXT} (nearest: {best} {scores[best]:.2f})" if found.none else f"  {best} {scores[best]:.2f}"]
    parts += [f"{slot.slot}: {slot.text}" for slot in (found.slots or () if not found.none else ())]
    return " | ".join(parts) + (f"   [{count:,} instructions]" if count else "")


if __name__ == "__main__":
    main()
