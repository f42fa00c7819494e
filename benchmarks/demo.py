"""make demo: compile a model, compare it with its float self, boot it in QEMU and classify five sentences.

Every figure comes from the command that is printed above it.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from embbert_tvm.cli.run import shortened
from embbert_tvm.data.dataset import Example, read_examples
from embbert_tvm.errors import EmbbertError
from embbert_tvm.table import table

SENTENCES = 5


def call(*arguments: str) -> dict[str, Any]:
    """Print a command, run it with --json, and return what it says; exit with it where it fails."""
    shown = " ".join(shlex.quote(a) if len(a) < 80 else f"{shlex.quote(a)[:77]}..." for a in arguments)
    print(f"$ embbert-tvm {shown}", flush=True)
    program = Path(sys.executable).with_name("embbert-tvm")
    done = subprocess.run([program, arguments[0], "--json", *arguments[1:]], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def spread(examples: list[Example], count: int) -> list[Example]:
    """`count` examples at even distances."""
    return [examples[i * len(examples) // count] for i in range(count)]


def size(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def main(model: str, package: str, data: str) -> None:
    compiled = call("compile", model, "--target", "cortex-m7", "-o", package)
    flash, ram = compiled["flash_bytes"], compiled["ram_bytes"]
    parts = ", ".join(f"{name} {size(flash[name])}" for name in ("code", "weights", "tokenizer"))
    print(f"  flash  {size(flash['total'])} bytes: {parts}")
    print(
        f"  RAM    {size(ram['total'])} bytes at {compiled['max_length']} tokens: arena {size(ram['arena'])},"
        f" stack {size(ram['stack'])}"
    )
    print()

    figures = call("validate", package, "--data", data, "--on", "host")
    bits = figures["bit_exact"]
    print(f"  agreement with the float model {figures['agreement']:.2%} of {figures['examples']} sentences")
    print(
        f"  {figures['metric']}: float {figures['accuracy_float']:.2%}, compiled {figures['accuracy_compiled']:.2%};"
        f" bit-exact with TVM {bits['equal']} of {bits['checked']} runs"
    )
    print()

    examples = spread(read_examples(Path(data)), SENTENCES)
    answers = call("run", package, "--on", "qemu", *(example.text for example in examples))["results"]
    rows = [("text", "label", "score", "instructions")]
    for example, answer in zip(examples, answers, strict=True):
        label, right = answer["label"], answer["label"] == example.label
        shown = label if right else f"{label} (labelled {example.label})"
        rows.append((shortened(answer["text"]), shown, f"{answer['scores'][label]:.3f}", size(answer["instructions"])))
    print("  " + table(rows, right=(2, 3)).replace("\n", "\n  "))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except EmbbertError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
