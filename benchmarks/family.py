"""The paper's models, each trained briefly, compiled in int8 and run: memory, instructions, agreement with float.

    python benchmarks/family.py [PRESET ...] [--target CPU] [--examples N] [--texts N] [--work DIR] [--json]

A model sees `--examples` sentences of Snips once, enough that its labels are no toss-up; with `--work` it is kept there
and found again. Then it classifies `--texts` of Snips' test in QEMU, or on the host where QEMU's board cannot hold it,
and the instructions of a text of 64 tokens are counted in QEMU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from instructions import call, millions

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.tokenizer import save_tokenizer, train_tokenizer
from embbert_tvm.errors import EmbbertError, InputError
from embbert_tvm.models.config import PRESETS
from embbert_tvm.resources import resource
from embbert_tvm.table import table

LENGTH = 64
BOARD_BYTES = 4 << 20  # flash of QEMU's MPS2, and its RAM
DEV_EXAMPLES = 128
# A step of these takes seconds; of all others, a tenth of one or less.
FEWER = {"med": 2, "big": 8}
DATA = resource("data", "snips")


def tokenizer(size: int, work: Path) -> Path:
    """A tokenizer.json of exactly `size` entries, of Snips' training texts, filled up where those have fewer."""
    path = work / f"tokenizer-{size}.json"
    if not path.is_file():
        made = train_tokenizer([x.text for x in read_examples(DATA / "train.tsv.xz")], size)
        made.add_tokens([f"<filler {i}>" for i in range(size - made.get_vocab_size())])
        save_tokenizer(made, path)
    return path


def some(name: str, count: int, work: Path) -> Path:
    """A TSV of the first `count` examples of a split; the splits are shuffled."""
    path = work / f"{name}-{count}.tsv"
    lines = [f"{x.label}\t{x.text}" for x in read_examples(DATA / f"{name}.tsv.xz")[:count]]
    path.write_text("\n".join(["label\ttext", *lines]) + "\n", encoding="utf-8")
    return path


def trained(preset: str, examples: int, work: Path) -> Path:
    """The model folder of a preset, trained on `examples` sentences."""
    folder = work / preset
    if (folder / "config.json").is_file():
        return folder
    train = some("train", examples // FEWER.get(preset, 1), work)
    options = ["--preset", preset, "--tokenizer", tokenizer(PRESETS[preset].vocabulary_size, work)]
    recipe = ["--epochs", 1, "--average", 0, "--token-dropout", 0]
    call("train", train, "--dev", some("dev", DEV_EXAMPLES, work), *options, *recipe, "-o", folder)
    return folder


def measure(preset: str, target: str, examples: int, texts: int, work: Path) -> dict[str, Any]:
    model, package = trained(preset, examples, work), work / f"{preset}-{target}"
    built = call("compile", model, "--target", target, "-o", package)
    flash, ram = built["flash_bytes"], built["ram_bytes"]
    fits = max(flash["weights"], ram["arena"]) < BOARD_BYTES * 9 // 10
    if not fits:
        package = work / f"{preset}-host"
        call("compile", model, "--target", "host", "-o", package)
    place = "qemu" if fits else "host"
    profile = call("profile", package, "--on", "qemu", "--length", LENGTH)["lengths"][0] if fits else None
    checked = call("validate", package, "--data", DATA / "test.tsv.xz", "--on", place, "--limit", texts)
    in_float = {x["kernel"] for x in built["operators"] if x["precision"] == "float32"}
    return {
        "model": preset,
        "parameters": PRESETS[preset].parameters,
        "weights": flash["weights"],
        "code": flash["code"],
        "flash": flash["total"],
        "arena": ram["arena"],
        "instructions": profile and profile["total_instructions"],
        "on": place,
        "texts": checked["examples"],
        "agreement": checked["agreement"],
        "accuracy_float": checked["accuracy_float"],
        "in_float": sorted(in_float),
    }


def text(rows: list[dict[str, Any]]) -> str:
    lines = [("model", "parameters", "weights", "flash", "arena", f"at {LENGTH} tokens", "agree", "on", "in float")]
    for row in rows:
        sizes = [f"{row[key]:,}" if row[key] is not None else "" for key in ("parameters", "weights", "flash", "arena")]
        agree = f"{round(row['agreement'] * row['texts'])} of {row['texts']}"
        lines.append(
            (row["model"], *sizes, millions(row["instructions"]), agree, row["on"], ", ".join(row["in_float"]))
        )
    return table(lines, right=(1, 2, 3, 4, 5, 6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", metavar="PRESET", help=f"default: {' '.join(PRESETS)}")
    parser.add_argument("--target", default="cortex-m7", metavar="CPU")
    parser.add_argument("--examples", type=int, default=1920, help="sentences that a model is trained on")
    parser.add_argument("--texts", type=int, default=32, help="sentences that are classified")
    parser.add_argument("--work", type=Path, help="folder to keep models and packages in")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    for name in options.presets:
        if name not in PRESETS:
            raise InputError(f"preset {name!r} is not known: choose from {', '.join(PRESETS)}")
    rows = []
    with tempfile.TemporaryDirectory(prefix="embbert-") as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for name in options.presets or PRESETS:
            rows.append(measure(name, options.target, options.examples, options.texts, work))
            print(f"{name}: measured", file=sys.stderr)
    if options.json:
        print(json.dumps({"target": options.target, "rows": rows}))
        return
    print(f"The paper's models on {options.target}, int8, sizes in bytes\n\n{text(rows)}\n")
    print("QEMU counts instructions, not cycles.")


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"family: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
