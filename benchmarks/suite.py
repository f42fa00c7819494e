"""Train the models that `embbert-tvm evaluate --suite` measures, one process a task and seed, as recipes.yaml says.

    python benchmarks/suite.py emotion,limit --data DATA --seeds 0,1,2 --base models/embbert-base -o RUNS
    embbert-tvm evaluate --suite emotion,limit --data DATA --runs RUNS --compiled

With --teacher ENCODER (a sentence-transformers folder) the tasks whose recipe has `with_teacher` learn from it; it is
fine-tuned on each once, and kept in RUNS/teachers.

DATA holds a folder of TSVs a task; --download fetches what it lacks. Texts that a task's dev or test set holds are left
out of its train set: what is trained on lies in RUNS/data. Give the same command again to go on: a finished run is
skipped, an interrupted one resumes after its last whole epoch. Started twice, two processes share the runs.
"""

from __future__ import annotations

import argparse
import fcntl
import random
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from embbert_tvm.data.dataset import examples_sha256, read_examples, write_examples
from embbert_tvm.data.hub import fetch_missing
from embbert_tvm.data.splits import read_splits, split_path
from embbert_tvm.data.tasks import Task, find_tasks
from embbert_tvm.errors import EmbbertError, InputError
from embbert_tvm.training.record import FILE, read_record

RECIPES = Path(__file__).with_name("recipes.yaml")
SPECIAL = {"verb"}
WITH_TEACHER = "with_teacher"


def prepare(task: Task, data: Path, out: Path, share: float = 1.0) -> tuple[Path, Path]:
    """Write the task's train and dev sets without leaks; their paths. What is already there and right stays.

    share: the part of train that is written, examples by chance, the same in every larger part.
    """
    splits = read_splits(data, task)
    train = splits.train
    if share < 1:
        train = random.Random(0).sample(train, len(train))[: max(1, round(share * len(train)))]
    paths = []
    for name, examples in (("train", train), ("dev", splits.dev)):
        path = out / "data" / task.name / f"{name}.tsv.xz"
        if not path.is_file() or examples_sha256(read_examples(path)) != examples_sha256(examples):
            write_examples(path, examples)
        paths.append(path)
    removed = ", ".join(f"{count} of {split}" for split, count in splits.removed.items() if count)
    say(f"{task.name}: {len(train):,} to train on; {removed or 'none'} left out as dev or test hold their text")
    return paths[0], paths[1]


def recipe(
    recipes: Mapping[str, Any],
    task: Task,
    seed: int,
    data: Path,
    teacher: Path | None = None,
    kept: Path = Path("teachers"),
) -> dict[str, Any]:
    """The options of one run; data: the folder of tasks; its fine-tuned teacher, if it has one, lies in `kept`."""
    merged = {**(recipes.get("default") or {}), **(recipes.get(task.name) or {})}
    with_teacher = merged.pop(WITH_TEACHER, None)
    if teacher is not None and with_teacher is not None:
        merged |= {"verb": "distill", "teacher": str(teacher), "teacher-output": str(kept / task.name), **with_teacher}
    fill = {"task": task.name, "seed": seed, "data": data}

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(one) for one in value]
        return value.format(**fill) if isinstance(value, str) else value

    return {key: filled(value) for key, value in merged.items() if value is not None and value is not False}


def command(
    task: Task,
    seed: int,
    sets: tuple[Path, Path],
    output: Path,
    options: Mapping[str, Any],
    held_out: Sequence[Path] = (),
) -> list[str]:
    """The arguments of `embbert-tvm` that make one run on train and dev; nothing is trained on that `held_out`, the
    tests, holds."""
    (train, dev), given = sets, options
    words = [str(given.get("verb", "train")), str(train), "--dev", str(dev)]
    if task.regression:
        words.append("--regression")
    for key, value in given.items():
        if key not in SPECIAL:
            for one in value if isinstance(value, list) else [value]:
                words += [f"--{key}"] if one is True else [f"--{key}", str(one)]
    for path in held_out:
        words += ["--held-out", str(path)]
    return [*words, "--seed", str(seed), "-o", str(output)]


@contextmanager
def exclusively(path: Path) -> Iterator[bool]:
    """Whether no other process is at work on `path`, which lasts until the block ends."""
    lock = path.parent / f".{path.name}.lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        lock.unlink(missing_ok=True)


def finished(output: Path, words: list[str]) -> bool:
    """Whether a run is done; says so where it was trained with other options than now."""
    if not (output / FILE).is_file():
        return False
    if read_record(output).command != shlex.join(["embbert-tvm", *words]):
        say(f"{output.name}: done, though with other options; remove it to train it anew")
    return True


def say(text: str) -> None:
    print(f"suite: {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="suite", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", help="tinynlp, glue or names, separated by commas")
    parser.add_argument("--data", type=Path, required=True, help="folder of tasks")
    parser.add_argument("--seeds", default="0", help="numbers, separated by commas")
    parser.add_argument("--base", type=Path, help="model folder to start from")
    parser.add_argument("--teacher", type=Path, help="sentence encoder that recipes with `with_teacher` learn from")
    parser.add_argument("--recipes", type=Path, default=RECIPES, help="another recipes.yaml")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of `train`, for every run, as pool-tokens=2",
    )
    parser.add_argument("--download", action="store_true", help="fetch what DATA lacks through the datasets library")
    parser.add_argument("--share", type=float, default=1.0, help="part of train to train on, in RUNS of its own")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUNS", help="folder of the models")
    arguments = parser.parse_args()
    tasks = find_tasks(arguments.tasks)
    if not 0 < arguments.share <= 1:
        raise InputError(f"--share must be in (0, 1], not {arguments.share}")
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    try:
        recipes = yaml.safe_load(arguments.recipes.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{arguments.recipes}: cannot be read ({error})") from error
    failed = []
    for task in tasks:
        if arguments.download:
            fetch_missing(task, arguments.data)
        train, dev = prepare(task, arguments.data, arguments.output, arguments.share)
        for seed in seeds:
            output = arguments.output / f"{task.name}-{seed}"
            options = recipe(recipes, task, seed, arguments.data, arguments.teacher, arguments.output / "teachers")
            options = {"base": arguments.base, **options} if arguments.base else options
            options |= dict(given.split("=", 1) for given in arguments.option)
            tests = [split_path(arguments.data, task, test) for test in task.tests]
            words = command(task, seed, (train, dev), output, options, tests)
            with exclusively(output) as free:
                if not free:
                    say(f"{output.name}: another process is at work on it")
                elif not finished(output, words):
                    say(shlex.join(["embbert-tvm", *words]))
                    code = "from embbert_tvm.cli import main; main()"
                    if subprocess.run([sys.executable, "-c", code, *words]).returncode:
                        failed.append(output.name)
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EmbbertError as error:
        print(f"suite: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
