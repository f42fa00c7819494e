"""Put a trained run among the models: its folder, and a card with its figures on the test set, float and compiled.

    python benchmarks/ship.py RUNS/emotion-0 --data DATA -o models/embbert-emotion

DATA is the folder of tasks that the run is evaluated on; a run that has seen its test set is refused. A task that
embbert_tvm/data/tasks.yaml does not have needs --licence, that of its data.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from embbert_tvm.data.files import folder_in_place, write_atomically
from embbert_tvm.data.tasks import Task, all_tasks
from embbert_tvm.errors import EmbbertError, InputError
from embbert_tvm.models.folder import WIDE
from embbert_tvm.training.evaluate import read_any_folder
from embbert_tvm.training.record import FILE, read_record
from embbert_tvm.training.suite import COMPILED, Figure, Run, measure

SHIPPED = ("config.json", "model.safetensors", "model.onnx", "tokenizer.json", "calibration.json", FILE)


def card(name: str, written: str, task: Task, figures: Sequence[Figure]) -> str:
    """The run's own card under the model's name, with its figures and the licence of its data.

    written: the card that training wrote."""
    command = {"float": f"`embbert-tvm evaluate models/{name} --data DATA/{task.name}/test.tsv.xz`"}
    command[COMPILED] = f"`embbert-tvm validate PACKAGE --data DATA/{task.name}/test.tsv.xz --on host`"
    lines = [f"# {name}", *written.rstrip().splitlines()[1:], "", "## Figures", ""]
    lines += ["| what | value | command |", "|---|---|---|"]
    for x in figures:
        what = f"{x.metric}, {x.task} test ({x.examples:,}), {'compiled ' * (x.precision == COMPILED)}{x.precision}"
        lines.append(f"| {what} | {100 * x.value:.2f} | {command[x.precision]} |")
    lines += [
        "",
        "All examples, after dev had chosen the epoch. PACKAGE is what `embbert-tvm compile` writes.",
    ]
    if task.note:
        lines.append(f"{task.name}: {task.note}.")
    lines += ["", "## Data and licence", "", f"{task.name}: {task.licence}. The data is not part of the project"]
    lines[-1] += " (Snips is, in data/snips). The weights are under the project's licence, Apache-2.0."
    return "\n".join(lines) + "\n"


def of_labels(name: str, labels: tuple[str, ...] | None, licence: str | None) -> Task:
    """A task of one label a text that tasks.yaml does not have."""
    if licence is None:
        raise InputError(f"{name}: embbert_tvm/data/tasks.yaml has no such task: give --licence")
    return Task(name, "", columns={}, splits={}, metrics=("accuracy",), licence=licence, labels=labels)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="ship", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of tasks")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL")
    parser.add_argument("--licence", help="of the data of a task that tasks.yaml does not have")
    arguments = parser.parse_args()
    record, run = read_record(arguments.run), read_any_folder(arguments.run)
    task = all_tasks().get(record.task) or of_labels(record.task, run.labels, arguments.licence)
    figures = measure([Run(run, record, task)], arguments.data, compiled=True)
    written = (arguments.run / "README.md").read_text(encoding="utf-8")
    with folder_in_place(arguments.output) as folder:
        for file in SHIPPED:
            if (arguments.run / file).is_file():  # n-grams have neither ONNX nor tokenizer
                shutil.copyfile(arguments.run / file, folder / file)
        if (arguments.run / WIDE).is_dir():
            shutil.copytree(arguments.run / WIDE, folder / WIDE)
        for path in folder.rglob("config.json"):
            config = json.loads(path.read_text(encoding="utf-8")) | {"name": arguments.output.name}
            write_atomically(path, (json.dumps(config, indent=2) + "\n").encode())
        write_atomically(folder / "README.md", card(arguments.output.name, written, task, figures).encode())
    print((arguments.output / "README.md").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"ship: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
