"""What rounding costs a model and what training gets back: post-training, LoRA of rank 8, quantization-aware training.

    python benchmarks/recovery.py models/embbert-snips --task snips --data data -o RECOVERED

trains from MODEL on the task's train set, freed of texts that its dev or test hold, keeps the epoch that is best on dev
in the same integers, and prints accuracies on dev and test, those of training/quantized.py and of the compiled package.
What is trained is kept in RECOVERED, and a finished training is not repeated.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import suite as runs
import torch

from embbert_tvm.data.dataset import Example, read_examples, write_examples
from embbert_tvm.data.splits import read_splits
from embbert_tvm.data.tasks import Task, find_tasks
from embbert_tvm.errors import EmbbertError, InputError
from embbert_tvm.models.folder import ModelFolder, read_folder
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.table import table
from embbert_tvm.training.batches import in_order, tokenize_set
from embbert_tvm.training.evaluate import Texts, float_runner, run_all
from embbert_tvm.training.finetune import TrainingCallbacks
from embbert_tvm.training.job import Job, calibration_ids, run_job
from embbert_tvm.training.quantized import QuantizedClassifier
from embbert_tvm.training.recipe import Recipe
from embbert_tvm.training.record import FILE
from embbert_tvm.training.suite import compiled_runner

RANK = 8
LR = {"LoRA": 1e-3, "QAT": 3e-4}


def rounded(folder: ModelFolder, precision: str, dev: Sequence[Example], examples: Sequence[Example]) -> np.ndarray:
    """Logits (N, classes) of the model in integers of a precision, the examples shortest first."""
    model = load_classifier(folder)
    texts = calibration_ids(dev, folder.tokenizer, folder.config.max_length)
    quantized = QuantizedClassifier(model, texts, precision)
    data = tokenize_set(folder.tokenizer, examples, folder.labels, folder.config.max_length)
    with torch.no_grad():
        return np.concatenate([quantized(batch.ids, batch.mask).numpy() for batch in in_order(data, 64)])


def score(task: Task, folder: ModelFolder, examples: Sequence[Example], logits: np.ndarray, by_length: bool) -> float:
    """The task's metric."""
    if by_length:
        texts = Texts.of(folder, examples)
        order = sorted(range(len(examples)), key=lambda i: len(texts.ids[i]))
        examples = [examples[i] for i in order]
    return Texts.of(folder, examples).score(task.metrics[0], logits)


def recover(arguments: argparse.Namespace, task: Task, method: str, precision: str) -> ModelFolder:
    """Train from the model with one method; what is already there is taken."""
    output = arguments.output / f"{task.name}-{method.lower()}-{precision}"
    if not (output / FILE).is_file():
        train, dev = runs.prepare(task, arguments.data, arguments.output)
        if arguments.train_limit:
            examples = read_examples(train)
            train = train.with_name(f"train-{arguments.train_limit}.tsv.xz")
            write_examples(train, random.Random(0).sample(examples, min(arguments.train_limit, len(examples))))
        recipe = Recipe(epochs=arguments.epochs, lr=LR[method], token_dropout=0.1, weight_decay=0.05)
        model = {"base": arguments.model, "regression": task.regression, "wide": False}
        job = Job(train, output, recipe, dev=dev, precision=precision, **model)
        if method == "LoRA":
            job = Job(**{**vars(job), "lora": RANK})
        shown = TrainingCallbacks(on_epoch=lambda epoch: print(f"{output.name}: {epoch}", file=sys.stderr, flush=True))
        run_job(job, shown)
    return read_folder(output)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="recovery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="EmbBERT's folder, trained on the task")
    parser.add_argument("--task", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of tasks")
    parser.add_argument("--precisions", default="int8,int4", help="as `compile` takes them, separated by commas")
    parser.add_argument("--methods", default="LoRA,QAT")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train-limit", type=int, help="only so many training texts, drawn by the seed 0")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where the recovered models are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    (task,) = find_tasks(arguments.task)
    folder = read_folder(arguments.model)
    methods = [name for name in arguments.methods.split(",") if name]
    if unknown := set(methods) - set(LR):
        raise InputError(f"method {min(unknown)!r} is not known: choose from {', '.join(LR)}")
    splits = read_splits(arguments.data, task)
    sets = (splits.dev, splits.tests[task.tests[0]])
    found: list[tuple[str, list[float]]] = []

    def add(name: str, values: Sequence[float]) -> None:
        found.append((name, list(values)))
        print(f"{name}: dev {values[0]:.4f}, test {values[1]:.4f}", file=sys.stderr, flush=True)

    def compiled(name: str, model: ModelFolder, precision: str) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            opened = compiled_runner(model, Path(scratch), precision)
            logits = [run_all(opened, Texts.of(model, examples).ids) for examples in sets]
        add(f"{name}, compiled", [score(task, model, x, y, False) for x, y in zip(sets, logits, strict=True)])

    opened = float_runner(folder)
    add("float", [score(task, folder, x, run_all(opened, Texts.of(folder, x).ids), False) for x in sets])
    for precision in arguments.precisions.split(","):
        for method in ("PTQ", *methods):
            model = folder if method == "PTQ" else recover(arguments, task, method, precision)
            name = f"{precision} {method}"
            logits = [rounded(model, precision, splits.dev, x) for x in sets]
            add(name, [score(task, model, x, y, True) for x, y in zip(sets, logits, strict=True)])
            compiled(name, model, precision)
    if arguments.json:
        rows = [{"model": name, "dev": dev, "test": test} for name, (dev, test) in found]
        print(json.dumps({"task": task.name, "metric": task.metrics[0], "rows": rows}))
    else:
        shown = [(name, f"{100 * dev:.2f}", f"{100 * test:.2f}") for name, (dev, test) in found]
        print(table([(f"{task.name}, {task.metrics[0]}", "dev", "test"), *shown], right=(1, 2)))


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"recovery: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
