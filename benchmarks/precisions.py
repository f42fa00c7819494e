"""Accuracy, agreement, flash, RAM and instructions of every precision, in one table, and a plot of accuracy over bytes.

    python benchmarks/precisions.py MODEL[+TRAINED]=TEST.tsv ... [--precisions int8,fp32] [--target cortex-m55]
        [--methods percentile,minmax,mse,kl] [--called NAME] [--length 64] [--limit N] [--rows FILE] [--plot FILE.png]
        [--json]

Compiles each model in each precision, runs the C on this machine on every example beside the float model, and counts
the instructions of one text in QEMU. With +TRAINED that model is compiled, and compared with MODEL in float; --called
names such rows where their precision does not say what they are. --methods: int8 by each calibration method instead.
--rows: a file of rows, a JSON object a line, as they go to stderr: what it has is not measured anew, and new ones are
added; no MODEL is needed to print or plot it. --plot needs matplotlib (`embbert-tvm[plot]`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embbert_tvm.graph.precision import OFFERED, PRECISIONS
from embbert_tvm.table import table

MARKERS = "osD^vP*Xh<>"


def call(*arguments: object) -> dict[str, Any]:
    """What `embbert-tvm ... --json` prints; exit with it where it fails."""
    command = [sys.executable, "-m", "embbert_tvm", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def instructions(package: Path, length: int) -> int | None:
    """Instructions of one text of `length` tokens in QEMU; None where its board cannot hold the package."""
    command = [sys.executable, "-m", "embbert_tvm", "profile", str(package), "--on", "qemu", "--length", str(length)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    if done.returncode:
        print(f"{package.name}: {done.stderr.strip()}", file=sys.stderr)
        return None
    return json.loads(done.stdout)["lengths"][0]["total_instructions"]


def measure(
    models: Sequence[Path],
    data: Path,
    label: str,
    how: Sequence[str],
    asked: argparse.Namespace,
    folder: Path,
) -> dict[str, Any]:
    """One model in one precision: its row of the table. models: it, or what is compared with and it."""
    package = folder / "package"
    shutil.rmtree(package, ignore_errors=True)
    compiled = call("compile", models[-1], "--target", asked.target, *how, "-o", package)
    limited = ["--limit", asked.limit] if asked.limit else []
    checked = call("validate", package, "--data", data, "--on", "host", *limited)
    # `validate` compares with what was compiled.
    unlike = len(models) > 1
    in_float = call("evaluate", models[0], "--data", data, *limited)["value"] if unlike else checked["accuracy_float"]
    row = {
        "model": models[0].name,
        "precision": label,
        "examples": checked["examples"],
        "float": in_float,
        "accuracy": checked["accuracy_compiled"],
        "loss": 100 * (in_float - checked["accuracy_compiled"]),
        "agreement": None if unlike else checked["agreement"],
        "weights": compiled["flash_bytes"]["weights"],
        "flash": compiled["flash_bytes"]["total"],
        "arena": compiled["ram_bytes"]["arena"],
        "ram": compiled["ram_bytes"]["total"],
    }
    if asked.length:
        row["instructions"] = instructions(package, asked.length)
    return row


def text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of all models, and a mean for each precision of several."""
    head = ("model", "precision", "float", "compiled", "loss", "agreement", "weights", "flash", "arena", "M instr")
    lines = [head]
    for row in rows:
        count = row.get("instructions")
        figures = (f"{100 * row[key]:.2f}" for key in ("float", "accuracy"))
        sizes = (f"{row[key]:,}" for key in ("weights", "flash", "arena"))
        agreement = "" if row["agreement"] is None else f"{100 * row['agreement']:.2f}"
        shown = (*figures, f"{row['loss']:.2f}", agreement, *sizes)
        lines.append((row["model"], row["precision"], *shown, "" if count is None else f"{count / 1e6:.2f}"))
    return table(lines) + "\n" + "\n".join(means(rows))


def means(rows: Sequence[dict[str, Any]]) -> list[str]:
    found = []
    for precision in dict.fromkeys(row["precision"] for row in rows):
        own = [row for row in rows if row["precision"] == precision]
        if len(own) > 1:
            losses = [row["loss"] for row in own]
            figures = f"mean loss {sum(losses) / len(losses):.2f}, worst {max(losses):.2f}"
            if None not in (agreements := [row["agreement"] for row in own]):
                figures += f", agreement {100 * sum(agreements) / len(own):.2f}"
            found.append(f"{precision} over {len(own)} models: {figures}")
    return found


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy over the bytes of flash, code and tokenizer too: a colour a model, a marker a precision.

    The line of a model goes through what nothing smaller equals.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import ScalarFormatter
    except ImportError:
        sys.exit("--plot needs matplotlib: pip install 'embbert-tvm[plot]'")
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    models, precisions = (list(dict.fromkeys(row[key] for row in rows)) for key in ("model", "precision"))
    markers = {precision: MARKERS[n % len(MARKERS)] for n, precision in enumerate(precisions)}
    for n, model in enumerate(models):
        own = sorted((row for row in rows if row["model"] == model), key=lambda row: row["flash"])
        points = [(row["flash"] / 1000, 100 * row["accuracy"]) for row in own]
        front = [point for at, point in enumerate(points) if all(point[1] > smaller[1] for smaller in points[:at])]
        axes.plot(*zip(*front, strict=True), color=f"C{n}", linewidth=0.8, label=model)
        for point, row in zip(points, own, strict=True):
            axes.plot(*point, color=f"C{n}", marker=markers[row["precision"]], linestyle="")
    for precision, marker in markers.items():
        axes.plot([], [], color="black", marker=marker, linestyle="", label=precision)
    axes.set(xlabel="flash, kB", ylabel="accuracy on test, %", xscale="log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(ScalarFormatter())
    axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right center")
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL=TSV")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--methods", default="")
    parser.add_argument("--called", metavar="NAME", help="of rows of +TRAINED, in place of the precision")
    parser.add_argument("--target", default="cortex-m55")
    parser.add_argument("--length", type=int, default=64, help="tokens to count instructions at; 0 counts none")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    hows: dict[str, tuple[str, ...]] = {
        precision: ("--precision", precision, *(() if precision in OFFERED else ("--experimental",)))
        for precision in options.precisions.split(",")
    }
    if options.methods:
        hows = {f"int8 {method}": ("--calibration-method", method) for method in options.methods.split(",")}
    rows = []
    if options.rows is not None and options.rows.is_file():
        rows = [json.loads(line) for line in options.rows.read_text().splitlines() if line.startswith("{")]
    known = {(row["model"], row["precision"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        for pair in options.models:
            names, _, data = pair.partition("=")
            models = [Path(name) for name in names.split("+")]
            for precision, how in hows.items():
                label = precision if len(models) == 1 else options.called or f"{precision}, trained"
                if (models[0].name, label) in known:
                    continue
                rows.append(measure(models, Path(data), label, how, options, Path(folder)))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                if options.rows is not None:
                    with options.rows.open("a") as file:
                        print(json.dumps(rows[-1]), file=file)
    print(json.dumps({"rows": rows}) if options.json else text(rows))
    if options.plot is not None:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
