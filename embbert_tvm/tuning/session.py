"""From a model and a target to a log: what `embbert-tvm tune` does."""

from __future__ import annotations

import datetime
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm

from embbert_tvm.compiler import CompileOptions, ModelSource, kernel_calls
from embbert_tvm.device.toolchain import call
from embbert_tvm.errors import InputError
from embbert_tvm.progress import note
from embbert_tvm.target import Board, Cpu, known_boards, load_board, load_cpu
from embbert_tvm.tuning.logs import FORMAT, Log, Manifest, TunedSchedules, read_manifest
from embbert_tvm.tuning.measure import Place
from embbert_tvm.tuning.places import emulated
from embbert_tvm.tuning.search import Search, SearchStatus, random_ids
from embbert_tvm.tuning.task import find_tasks
from embbert_tvm.tuning.whole import Inferences, search_forms

OBJECTIVES = ("instructions", "cycles", "mca")


def find_target(name: str) -> tuple[Cpu, Board, str]:
    """The CPU, the board that is measured on, and the name of what is tuned for: a board, or a CPU on the board that
    QEMU emulates it by."""
    if name.endswith((".yaml", ".yml")) or name in known_boards():
        board = load_board(name)
        return load_cpu(board.cpu), board, board.name
    cpu = load_cpu(name)
    if cpu.emulation_board is None:
        raise InputError(f"--target {name}: QEMU emulates no board of it: give a board's .yaml file")
    return cpu, load_board(cpu.emulation_board), cpu.name


def resume(path: Path, manifest: Manifest) -> Manifest:
    """The manifest of the log at `path`, or where there is none the given one. InputError where it is of something
    else."""
    if not (path / "manifest.json").is_file():
        return manifest
    known = read_manifest(path)
    for key in ("model", "target", "precision", "objective", "runner", "length", "tvm", "format"):
        if getattr(known, key) != getattr(manifest, key):
            words = f"has {key} {getattr(known, key)}, not {getattr(manifest, key)}"
            raise InputError(f"{path}: {words}: name another log with -o, or remove it")
    return known


@dataclass(frozen=True)
class TuneOptions:
    """What is searched, and for how long.

    Args:
        trials: how many are in the log at the end.
        runner: what the log says of the places that measure.
        length: tokens of the texts that are measured.
        calibration: a TSV to take statistics from, in place of the model's own.
    """

    trials: int
    runner: str
    objective: str = "instructions"
    precision: str = "int8"
    length: int = 64
    calibration: Path | None = None
    seed: int = 0


def tune(
    source: ModelSource,
    target: tuple[Cpu, Board, str],
    places: Sequence[Place],
    path: Path,
    options: TuneOptions,
    progress: Callable[[SearchStatus], None] = lambda _: None,
) -> Manifest:
    """Search until `options.trials` are in the log at `path`; its manifest."""
    cpu, board, name = target
    precision, length = options.precision, options.length
    version = call(cpu, "gcc", ["--version"], "its version").splitlines()[0]
    today = datetime.date.today().isoformat()
    manifest = Manifest(
        source.name, name, precision, options.objective, options.runner, length, version, today, tvm.__version__, FORMAT
    )
    manifest = resume(path, manifest)
    inferences = None
    if options.objective == "mca":
        inferences = Inferences(source, (cpu, board), precision, length, options.calibration)
        _choose_forms(manifest, inferences, cpu)
    how = CompileOptions(precision, calibration=options.calibration, forms=manifest.kernel_forms)
    calls = kernel_calls(source, cpu, how)
    if not 1 <= length <= (calls.positions or length):
        raise InputError(f"--length {length}: the model takes 1 to {calls.positions} tokens")
    tasks = find_tasks(calls.intrinsic, calls.reference, random_ids(calls.vocabulary, length))
    built_for = emulated(cpu, board) if options.runner.startswith("qemu") else board
    with tempfile.TemporaryDirectory(prefix="embbert-tune-") as folder:
        new = not path.exists()
        log = Log(path, manifest)
        try:
            search = Search(tasks, (cpu, built_for), places, log, Path(folder), options.seed)
        except BaseException:
            if new:
                shutil.rmtree(path)
            raise
        try:
            search.run(options.trials, progress)
        finally:
            search.close()
            log.save()
    if inferences is not None and manifest.whole is not None:
        manifest.whole.tuned = None
        schedules = TunedSchedules.of_log(path, manifest)
        manifest.whole.tuned = round(inferences.cost(manifest.kernel_forms, schedules).all)
        log.save()
    return manifest


def _choose_forms(manifest: Manifest, inferences: Inferences, cpu: Cpu) -> None:
    """Choose the forms of the kernels that a log is of, where that is not done."""
    if manifest.whole is not None:
        return

    def say(tried: Mapping[str, float]) -> None:
        what, cycles = list(tried.items())[-1]
        note(f"{what}: {cycles / 1e6:.3f} M cycles")

    forms, manifest.whole = search_forms(inferences.cost, cpu.features, manifest.length, say)
    manifest.forms = forms.changes
