"""The library: compile a model, open the package somewhere, classify.

    import embbert_tvm

    package = embbert_tvm.compile("models/embbert-snips", "cortex-m7", "build/snips")
    with package.open("qemu") as device:
        print(device.classify("play some jazz").label)

Everything heavy, TVM above all, is imported when it is first needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from embbert_tvm.device import device as places
from embbert_tvm.device.classify import Answer, answer
from embbert_tvm.device.fit import Need, check_fit
from embbert_tvm.device.footprint import Footprint, footprint
from embbert_tvm.device.package import Package as Contents
from embbert_tvm.device.package import load_package as read_package
from embbert_tvm.device.places import open_place
from embbert_tvm.device.toolchain import MissingTool
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.options import BLOB, DEFAULT_PRECISION, DEFAULTS, MIXED, CompileOptions
from embbert_tvm.reasons import IN_FLOAT_BY_RIGHT
from embbert_tvm.target import Board, Cpu, known_boards, load_board, load_cpu

if TYPE_CHECKING:
    from embbert_tvm.codegen.steps import Program
    from embbert_tvm.data.tokenizer import TextTokenizer
    from embbert_tvm.graph.precision import PrecisionPlan
    from embbert_tvm.graph.quantize import KernelSelection
    from embbert_tvm.ngram_compiler import NgramSource
    from embbert_tvm.pruning import Pruned
    from embbert_tvm.source import ModelSource
    from embbert_tvm.tuning.logs import TunedSchedules

T = TypeVar("T")

__all__ = [
    "DEFAULT_PRECISION",
    "Answer",
    "CompileOptions",
    "CompileReport",
    "Device",
    "Flash",
    "Package",
    "Ram",
    "Target",
    "compile",
    "find_target",
    "load_model",
    "load_package",
]

# How often a plan is chosen anew because its package is larger than the budget.
_ATTEMPTS = 6


@dataclass(frozen=True)
class Flash:
    """Bytes of flash by part; None where the target's toolchain is missing."""

    code: int | None
    weights: int
    tokenizer: int | None  # its code and tables, 0 without

    @property
    def total(self) -> int | None:
        return None if self.code is None or self.tokenizer is None else self.code + self.weights + self.tokenizer


@dataclass(frozen=True)
class Ram:
    """Bytes of RAM by part; None where the target's toolchain is missing."""

    arena: int
    stack: int | None  # at the deepest
    static: int | None

    @property
    def total(self) -> int | None:
        return None if self.stack is None or self.static is None else self.arena + self.stack + self.static


@dataclass(frozen=True)
class CompileReport:
    """The result of a compilation, with every byte of memory."""

    target: str  # the CPU
    board: str | None
    precision: str
    max_length: int
    flash: Flash
    ram: Ram
    operators: tuple[KernelSelection, ...]  # which kernel computes each, in what precision, and why
    warnings: tuple[str, ...]
    seconds: float = 0.0
    tuned: tuple[str, ...] = ()  # kernels that run by a tuned schedule
    blob: tuple[int, int] | None = None  # bytes of weights.bin and its layout hash; None where weights are linked
    longest_slice: float = 1.0  # of an inference of max_length tokens, by multiplications
    plan: PrecisionPlan | None = None  # that was chosen within a budget, None where the plan was given
    pruned: Pruned | None = None  # what became of the vocabulary, None where it was not pruned


Finish = Callable[[Path, CompileReport], None]


@dataclass(frozen=True)
class Target:
    """What a model is compiled for: a CPU, or a board with it, which the package must fit."""

    cpu: Cpu
    board: Board | None = None


class Device:
    """A package that runs in some place. Use it as a context manager, which closes what was opened."""

    def __init__(self, device: places.Device, contents: Contents) -> None:
        self._device, self._contents = device, contents
        self._tokenizer: TextTokenizer | None = None

    def classify(self, text: str) -> Answer:
        """The label and scores of a text, or the value of a regression."""
        from embbert_tvm.data.tokenizer import load_tokenizer

        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._contents.tokenizer, self._contents.vocabulary)
        return answer(self._device, self._tokenizer, text)

    def run(self, ids: list[int]) -> places.RunResult:
        """The logits of token ids."""
        return self._device.run(ids)

    def close(self) -> None:
        self._device.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass(frozen=True)
class Package:
    """A compiled package: a folder of C, and what its metadata says."""

    contents: Contents
    report: CompileReport | None = None  # of the compilation that made it; None of a package that was loaded

    @property
    def path(self) -> Path:
        return self.contents.path

    def open(self, place: str = "host", timeout: float | None = None) -> Device:
        """A device that holds the package: in "host", "qemu", "qemu:BOARD" or "serial:PORT[@BAUD]".

        Raises InputError for an unknown place or one that lacks its tools, WorkError for a device that does not answer.
        """
        return Device(open_place(place, self.contents, timeout), self.contents)


def load_package(path: str | Path) -> Package:
    """The package in a folder that `compile` wrote."""
    return Package(read_package(Path(path)))


def load_model(path: str | Path, labels: str | None = None) -> ModelSource | NgramSource:
    """A model folder, the name of one that ships, a hub's folder, or an ONNX file with tokenizer.json and
    calibration.json beside it.

    labels: names of the classes in place of the model's own: a file with one a line, or "a,b,c". InputError for none.
    """
    _import_compiler()
    from embbert_tvm.compiler import find_source
    from embbert_tvm.models.folder import find_model
    from embbert_tvm.models.ngrams import is_ngram_folder
    from embbert_tvm.ngram_compiler import find_ngram_source

    found = find_model(Path(path))
    return (find_ngram_source if is_ngram_folder(found) else find_source)(found, labels)


def find_target(cpu: str | None = None, board: str | None = None) -> Target:
    """The CPU of that name, or the board of that name or .yaml file. InputError where neither is given, or both."""
    if board is not None:
        found = load_board(board)
        if cpu is not None:
            raise InputError(f"--target {cpu} and --board {found.name}: give one of them; a board says its CPU")
        return Target(load_cpu(found.cpu), found)
    if cpu is None:
        raise InputError("neither a CPU nor a board is given")
    if cpu in known_boards():
        raise InputError(f"--target {cpu}: is a board: give it as --board {cpu}")
    return Target(load_cpu(cpu))


def compile(
    model: ModelSource | NgramSource | str | Path,
    target: Target | str,
    out: str | Path,
    options: CompileOptions = DEFAULTS,
    finish: Finish = lambda folder, report: None,
) -> Package:
    """Compile a model to C for a CPU or a board. The package is written whole or not at all.

    Args:
        model: what `load_model` gives, or its path.
        target: what `find_target` gives, or the name of a CPU or board, or a board's .yaml file. A board refuses what
            does not fit it.
        out: the folder of the package.
        options: how it is compiled.
        finish: called to add files to the package's folder before that is put in place.

    Raises:
        InputError: for what cannot be compiled as asked.
        WorkError: for what has no C, or does not fit the board or the budget.
    """
    source = load_model(model) if isinstance(model, (str, Path)) else model
    if isinstance(target, str):
        is_board = target.endswith((".yaml", ".yml")) or target in known_boards()
        target = find_target(board=target) if is_board else find_target(target)
    from embbert_tvm.ngram_compiler import NgramSource

    if isinstance(source, NgramSource):
        return _compile_ngrams(source, target, Path(out), options, finish)
    with _dumped(options.dump_ir):
        return _compile(source, target, Path(out), options, finish)


def _compile(source: ModelSource, target: Target, out: Path, options: CompileOptions, finish: Finish) -> Package:
    from embbert_tvm.codegen import package
    from embbert_tvm.compiler import back_end, check_output, contents, front_end, plan_chooser, plan_of
    from embbert_tvm.data.files import folder_in_place

    start = time.monotonic()
    precision = options.precision if options.plan is None else MIXED
    source, pruned = _pruned(source, options)
    chooser = plan_chooser(source, target.cpu, options)
    check_output(out)
    tuned = _tuned(source.name, target, precision) if options.tuning else None
    options = replace(options, forms=options.forms or (None if tuned is None else tuned.forms))
    front = front_end(source, options)
    for _ in range(_ATTEMPTS):
        plan = plan_of(options) if chooser is None else chooser(front.mod, front.statistics, front.max_length)
        compiled = back_end(front, target.cpu, plan, options, tuned)
        made = contents(compiled, target.cpu, precision, options.prefix, target.board)
        files = package.files(replace(made, in_blob=options.weights == BLOB))
        measured, vectors = _measure(files, compiled.vectors, target.cpu)
        notes = (*compiled.front.door.notes, *_in_float(compiled.choices))
        report = _report(compiled.program, compiled.choices, notes, measured, target, precision)
        if chooser is None or not chooser.tighten(report.flash.total, report.ram.total):
            break
    else:
        raise WorkError(f"no plan was found that comes within --budget {options.budget}: allow more")
    if target.board is not None:
        _check_fit(target.board, report, compiled.at_length)
    found = None if chooser is None else compiled.plan
    report = replace(report, seconds=time.monotonic() - start, plan=found, pruned=pruned, blob=package.blob_file(files))
    if tuned is not None:
        used, warnings = tuple(dict.fromkeys(tuned.used)), tuple(dict.fromkeys(tuned.warnings))
        report = replace(report, tuned=used, warnings=report.warnings + warnings)
    with folder_in_place(out) as folder:
        package.write_files(files, folder)
        package.write_reference(vectors, folder, compiled.texts())
        finish(folder, report)
    return Package(read_package(out), report)


def _compile_ngrams(source: NgramSource, target: Target, out: Path, options: CompileOptions, finish: Finish) -> Package:
    from embbert_tvm import ngram_compiler
    from embbert_tvm.codegen import package
    from embbert_tvm.compiler import check_output
    from embbert_tvm.data.files import folder_in_place

    start = time.monotonic()
    ngram_compiler.check_options(options)
    check_output(out)
    made = ngram_compiler.contents(source, target.cpu, options, target.board)
    program, files = made.program, package.files(made)
    measured, vectors = _measure(files, lambda: ngram_compiler.vectors(source.model, program.max_length), target.cpu)
    report = _report(program, made.choices, (), measured, target, DEFAULT_PRECISION)
    if target.board is not None:
        _check_fit(target.board, report, lambda length: program)
    with folder_in_place(out) as folder:
        package.write_files(files, folder)
        package.write_reference(vectors, folder, ngram_compiler.text_vectors(source.model))
        finish(folder, report)
    return Package(read_package(out), replace(report, seconds=time.monotonic() - start, blob=package.blob_file(files)))


def _pruned(source: ModelSource, options: CompileOptions) -> tuple[ModelSource, Pruned | None]:
    """The model with the vocabulary that is requested, and what became of it."""
    if options.prune_vocabulary is None:
        if options.vocabulary_size is not None:
            raise InputError("--vocabulary-size goes with --prune-vocabulary")
        return source, None
    from embbert_tvm.source import pruned_source

    most, dev = options.vocabulary_size, options.dev
    return pruned_source(source, options.prune_vocabulary, most, dev, options.max_length)


def _import_compiler() -> None:
    from embbert_tvm.graph.tvm_workarounds import import_tvm_without_extras

    import_tvm_without_extras()


@contextmanager
def _dumped(folder: Path | None) -> Iterator[None]:
    from embbert_tvm.graph import pipeline

    with nullcontext() if folder is None else pipeline.dumped(folder):
        yield


def _tuned(model: str, target: Target, precision: str) -> TunedSchedules:
    """The schedules of the target's logs, those of the folder `schedules` where the program runs first."""
    from embbert_tvm.tuning.logs import TunedSchedules

    names = [*([] if target.board is None else [target.board.name]), target.cpu.name]
    return TunedSchedules(model, names, precision, [Path("schedules")])


def _measure(files: Mapping[str, bytes], reference: Callable[[], T], cpu: Cpu) -> tuple[Footprint | MissingTool, T]:
    """What the package takes on the CPU, or why that is not known, and what `reference` gives: the target's compiler
    works on the one while LLVM does on the other."""
    from embbert_tvm.codegen import package

    def measure(folder: Path) -> Footprint | MissingTool:
        try:
            return footprint(read_package(folder), cpu)
        except MissingTool as error:
            return error

    with ThreadPoolExecutor(1) as beside, TemporaryDirectory(prefix="embbert-") as scratch:
        package.write_files(files, Path(scratch))
        measured = beside.submit(measure, Path(scratch))
        found = reference()
        return measured.result(), found


def _in_float(choices: Sequence[KernelSelection]) -> list[str]:
    """Warnings of the operators that were left in float32 without being requested."""
    left = (c for c in choices if c.precision == "float32" and c.reason not in IN_FLOAT_BY_RIGHT)
    return [f"{c.name} runs in float32: {c.reason}" for c in left]


def _report(
    program: Program,
    choices: Sequence[KernelSelection],
    notes: Sequence[str],
    measured: Footprint | MissingTool,
    target: Target,
    precision: str,
) -> CompileReport:
    warnings = list(notes)
    if isinstance(measured, MissingTool):
        warnings.append(f"code size and stack are not known: {measured}")
        flash, ram = Flash(None, program.weights_bytes, None), Ram(program.arena_bytes, None, None)
    else:
        flash = Flash(measured.code, program.weights_bytes, measured.tokenizer)
        ram = Ram(program.arena_bytes, measured.stack, measured.static)
    return CompileReport(
        target=target.cpu.name,
        board=None if target.board is None else target.board.name,
        precision=precision,
        max_length=program.max_length,
        flash=flash,
        ram=ram,
        operators=tuple(choices),
        warnings=tuple(warnings),
        longest_slice=program.longest_slice,
    )


def _check_fit(board: Board, report: CompileReport, at_length: Callable[[int], Program]) -> None:
    code = (report.flash.code or 0) + (report.flash.tokenizer or 0)
    data = max(board.stack_bytes, report.ram.stack or 0) + (report.ram.static or 0)

    def need(length: int) -> Need:
        program = at_length(length)
        return Need(code + program.weights_bytes, program.arena_bytes, data, program.weights_bytes)

    check_fit(board, need(report.max_length), report.max_length, need)
