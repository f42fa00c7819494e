"""The figures of TinyNLP and GLUE over models of several seeds, float and compiled: no torch.

A model is found by its training.json, and refused where that shows that it has seen what it is evaluated on.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embbert_tvm.data.dataset import Example, examples_sha256
from embbert_tvm.data.splits import Splits, read_split, read_splits
from embbert_tvm.data.tasks import Task
from embbert_tvm.device.package import Package, load_package, load_vectors
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.models.folder import ModelFolder
from embbert_tvm.models.ngrams import NgramFolder
from embbert_tvm.progress import note
from embbert_tvm.training.evaluate import Runner, Texts, check_metric, float_runner, read_any_folder, run_all
from embbert_tvm.training.record import FILE, TrainingRecord, read_record

FLOAT, COMPILED = "float", "int8"
# The package's integers give the same bits whatever the compiler does; this is several times as fast as -O2.
_FAST = ("-O3", "-march=native")


@dataclass(frozen=True)
class Run:
    """A trained model of a task."""

    folder: ModelFolder | NgramFolder
    record: TrainingRecord
    task: Task


@dataclass(frozen=True)
class Figure:
    """`value` of `metric` of one model on all `examples` of a test split, in `precision` (float or int8)."""

    task: str
    metric: str
    value: float
    examples: int
    seed: int
    precision: str
    model: str


@dataclass(frozen=True)
class Summary:
    """A metric over seeds. `deviation` is the sample's standard deviation, None of one seed."""

    task: str
    metric: str
    precision: str
    mean: float
    deviation: float | None
    seeds: tuple[int, ...]
    examples: int


def find_runs(folder: Path, tasks: Sequence[Task]) -> list[Run]:
    """The trained models in `folder`, one a subfolder, that are of these tasks; in the tasks' order, then the seeds'.

    Raises InputError where there is none, or two of one task and seed.
    """
    by_name = {task.name: task for task in tasks}
    runs: dict[tuple[str, int], Run] = {}
    for path in sorted(Path(folder).glob(f"*/{FILE}")):
        record = read_record(path.parent)
        if record.task not in by_name:
            continue
        key = (record.task, record.seed)
        if key in runs:
            raise InputError(f"{path.parent}: {record.task} with seed {record.seed} is in {runs[key].folder.path} too")
        runs[key] = Run(read_any_folder(path.parent), record, by_name[record.task])
    if not runs:
        raise InputError(f"{folder}: holds no trained model of {', '.join(by_name)}: train with benchmarks/suite.py")
    order = list(by_name)
    return [runs[key] for key in sorted(runs, key=lambda key: (order.index(key[0]), key[1]))]


def measure(runs: Sequence[Run], data: Path, compiled: bool = False, processes: int = 1) -> list[Figure]:
    """Every run's metrics on every test split of its task, in `data`, a folder of tasks.

    compiled: also of its int8 package on this machine, whose bits are checked against TVM's. All runs are checked
    first. Raises InputError for a run that must not be evaluated on this test (see `check`), WorkError where a package
    computes other bits.
    """
    splits = {run.task.name: read_splits(data, run.task) for run in runs}
    for run in runs:
        published = read_split(data, run.task, "train")
        if said := check(run, splits[run.task.name], published):
            note(said)
    figures = []
    for run in runs:
        figures += _measure(run, splits[run.task.name].tests, compiled, processes)
    return figures


def check(run: Run, splits: Splits, published: Sequence[Example]) -> str | None:
    """InputError where a run was chosen on or has learned from what it is to be evaluated on.

    Gives a note where it learned from other sets than these, of which nothing is known.
    """
    path, record = run.folder.path, run.record
    for name, test in splits.tests.items():
        digest = examples_sha256(test)
        if record.dev.sha256 == digest:
            raise InputError(f"{path}: its weights were chosen on {run.task.name}'s {name} set: choose on dev")
        if record.train.sha256 == digest:
            raise InputError(f"{path}: was trained on {run.task.name}'s {name} set: train on train")
    if splits.removed["train"] and record.train.sha256 == examples_sha256(published):
        raise InputError(
            f"{path}: was trained on {run.task.name}'s train set as published, of which {splits.removed['train']} "
            "texts are in dev or test too: train with benchmarks/suite.py, which leaves them out"
        )
    expected = (examples_sha256(splits.train), examples_sha256(splits.dev))
    if (record.train.sha256, record.dev.sha256) != expected:
        return (
            f"{path}: learned from other sets than {run.task.name}'s train and dev here: its figure is not comparable"
        )
    return None


def summarize(figures: Sequence[Figure]) -> list[Summary]:
    """Each task's metrics over its seeds, in the figures' order."""
    groups: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.task, figure.metric, figure.precision), []).append(figure)
    return [
        Summary(
            *key,
            mean=statistics.fmean(x.value for x in group),
            deviation=statistics.stdev(x.value for x in group) if len(group) > 1 else None,
            seeds=tuple(x.seed for x in group),
            examples=group[0].examples,
        )
        for key, group in groups.items()
    ]


def suite_means(summaries: Sequence[Summary], tasks: Sequence[Task]) -> dict[str, tuple[float, list[str]]]:
    """Mean of the tasks' first metrics by precision, with those tasks; tasks with `mean: false` are left out."""
    headline = {task.figure_name(test): task.metrics[0] for task in tasks if task.mean for test in task.tests}
    means = {}
    for precision in (FLOAT, COMPILED):
        chosen = [x for x in summaries if x.precision == precision and headline.get(x.task) == x.metric]
        if chosen:
            means[precision] = (statistics.fmean(x.mean for x in chosen), [x.task for x in chosen])
    return means


def _measure(run: Run, tests: Mapping[str, Sequence[Example]], compiled: bool, processes: int) -> Iterator[Figure]:
    for metric in run.task.metrics:
        check_metric(run.folder, metric)
    sets = {name: Texts.of(run.folder, examples) for name, examples in tests.items()}
    with tempfile.TemporaryDirectory(prefix="embbert-") as scratch:
        for precision in (FLOAT, COMPILED) if compiled else (FLOAT,):
            logits_of = _runner(run.folder, precision, Path(scratch), processes)
            for name, texts in sets.items():
                logits = logits_of(texts)
                for metric in run.task.metrics:
                    value = texts.score(metric, logits)
                    title = run.task.figure_name(name)
                    seed, model = run.record.seed, run.folder.name
                    yield Figure(title, metric, value, len(texts.expected), seed, precision, model)


def _runner(
    folder: ModelFolder | NgramFolder, precision: str, scratch: Path, processes: int
) -> Callable[[Texts], np.ndarray]:
    """What gives a model's logits (N, classes) of texts. Of n-grams Python's integers are those of the C."""
    if isinstance(folder, NgramFolder):
        return lambda texts: texts.linear
    opened = float_runner(folder) if precision == FLOAT else compiled_runner(folder, scratch)
    return lambda texts: texts.together(run_all(opened, texts.ids, processes, f"{folder.name} {precision}"))


def compiled_runner(folder: ModelFolder, scratch: Path, precision: str = "int8") -> Callable[[], contextmanager]:
    """Compile the model for this machine in a precision; what `run_all` opens to run it."""
    from embbert_tvm.compiler import CompileOptions, compile_model, find_source
    from embbert_tvm.target import load_cpu

    out = scratch / "package"
    compile_model(find_source(folder.path), load_cpu("host"), out, CompileOptions(precision, experimental=True))
    package = load_package(out)
    with _compiled(package) as run:
        for vector in load_vectors(package):
            if not package.floating and not np.array_equal(run(list(vector.ids)), vector.logits):
                raise WorkError(f"{folder.path}: compiled for this machine it gives other bits than TVM's LLVM build")
    return lambda: _compiled(package)


@contextmanager
def _compiled(package: Package) -> Iterator[Runner]:
    with open_place("host", package, flags=() if package.floating else _FAST) as device:
        yield lambda ids: device.run(ids).logits
