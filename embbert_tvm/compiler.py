"""From a model to a package: the phases of the compiler, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm
from tvm import IRModule, relax

from embbert_tvm.c_names import DEFAULT_PREFIX, check_prefix
from embbert_tvm.codegen import package
from embbert_tvm.codegen.c_tokenizer import WINDOW_BYTES
from embbert_tvm.codegen.lower import to_calls
from embbert_tvm.codegen.program import Program, Schedules, build_programs, limits
from embbert_tvm.codegen.tokenizer_scheme import read_scheme
from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.files import folder_in_place
from embbert_tvm.data.tokenizer import encode, load_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.graph import calibrate, qdq
from embbert_tvm.graph.fuse_row_blocks import fuse_row_blocks
from embbert_tvm.graph.half_panels import half_panels
from embbert_tvm.graph.import_onnx import import_onnx, load_onnx
from embbert_tvm.graph.precision import Plan, named_plan, plan_text
from embbert_tvm.graph.quantize import Choice, quantize
from embbert_tvm.graph.simplify import simplify
from embbert_tvm.kernels.isa import computes_in_half, isa_of
from embbert_tvm.models.folder import read_folder, trained_precision
from embbert_tvm.target import Board, Cpu

DEFAULT_MAX_LENGTH = 256
REFERENCE_VECTORS = 10  # lengths from 1 to the most, beside these:
REFERENCE_LENGTHS = (1, 2, 31, 64)
CALIBRATION_TEXTS = 256


@dataclass(frozen=True)
class Source:
    """What is compiled: an ONNX file with what a model folder knows beside it."""

    name: str
    onnx: Path
    labels: tuple[str, ...] | None
    tokenizer: Path | None
    calibration: Path | None
    trained_precision: str | None = None  # the one through whose rounding it was trained


@dataclass(frozen=True)
class Compiled:
    program: Program
    choices: tuple[Choice, ...]
    plan: Plan


def find_source(path: Path) -> Source:
    """A model folder, or an ONNX file (with tokenizer.json and calibration.json beside it, if they are).

    A folder whose model.onnx is older than its weights is exported anew where torch is installed.
    Raises InputError for what is neither.
    """
    if path.is_dir():
        from embbert_tvm.graph.onnx_export import fresh_onnx

        folder = read_folder(path)
        files = (folder.tokenizer_path, folder.calibration)
        return Source(folder.name, fresh_onnx(folder), folder.labels, *files, folder.trained_precision)
    if not path.exists():
        raise InputError(f"{path}: no such model folder or ONNX file")

    def beside(name: str) -> Path | None:
        return path.with_name(name) if path.with_name(name).is_file() else None

    files = (beside("tokenizer.json"), beside("calibration.json"))
    return Source(path.stem, path, None, *files, trained_precision(path.parent))


def compile_model(
    source: Source,
    cpu: Cpu,
    out: Path,
    *,
    precision: str = "int8",
    plan: Plan | Callable[[IRModule, calibrate.Calibration, int], Plan] | None = None,
    max_length: int | None = None,
    calibration: Path | None = None,
    prefix: str = DEFAULT_PREFIX,
    text: bool = True,
    board: Board | None = None,
    inspect: Callable[[Path, Compiled, Callable[[int], Program]], None] | None = None,
    dump: Callable[[str, IRModule], None] = lambda phase, mod: None,
    tuned: Schedules | None = None,
) -> Compiled:
    """Compile `source` for a CPU and write the package to `out`, whole or not at all.

    precision: the name of a uniform plan, and of the package's; plan: one to follow instead, or what chooses one for
    the simplified module, its statistics and the longest text. calibration: a labelled TSV to take statistics from
    instead of the source's own. prefix: what every name of the package's C begins with. text: whether the source's
    tokenizer, if it has one, goes with it. board: what the package says that it was made for. inspect: is given the
    package's folder before it takes its place, with what was compiled and a function that does it for another length;
    where it raises, nothing is left. dump: is given the module after each phase. tuned: schedules of kernels to use
    (tuning/logs.py). Raises InputError for what cannot be compiled as asked, WorkError for what has no C.
    """
    check_prefix(prefix)
    asked, plan = plan, named_plan(precision) if plan is None else plan
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "metadata.json").is_file())):
        raise InputError(f"{out}: holds something that is no package: name another output")
    model = load_onnx(source.onnx)

    mod = import_onnx(model)
    dump("1-imported", mod)
    as_it_is = qdq.written(mod)
    if as_it_is is not None:
        qdq.check_asked(str(source.onnx), precision, asked)
    mod = simplify(mod)
    dump("2-simplified", mod)
    vocabulary, positions = limits(mod)
    max_length = _max_length(max_length, positions)
    scheme = read_scheme(source.tokenizer) if text and source.tokenizer is not None else None
    if scheme is not None and scheme.vocabulary > vocabulary:
        raise InputError(
            f"{source.tokenizer}: holds {scheme.vocabulary} tokens, the model has {vocabulary}: "
            "use the tokenizer it was trained with"
        )

    statistics, isa = None, isa_of(cpu.features)
    if as_it_is is None and (callable(plan) or not all(scheme.is_float for scheme in plan.schemes)):
        statistics = _calibration(source, mod, calibration, max_length)
    if callable(plan):
        plan = plan(mod, statistics, max_length)
    quantized = quantize(mod, statistics, plan) if as_it_is is None else qdq.as_written(mod, as_it_is)
    dump("3-quantized", quantized.mod)
    if as_it_is is not None:
        chosen = qdq.as_written(mod, as_it_is, isa)
    else:
        chosen = quantized if statistics is None else fuse_row_blocks(quantized, isa)
    if chosen.plan.half and computes_in_half(cpu.features):
        chosen = half_panels(chosen)
    dump("4-chosen", chosen.mod)
    mod = to_calls(chosen.mod)
    dump("5-calls", mod)

    window = scheme and WINDOW_BYTES
    at_length = build_programs(mod, chosen.constants, prefix, vocabulary, window, tuned, chosen.plan.half)
    program = at_length(max_length)
    if source.labels is not None and program.classes != len(source.labels):
        raise InputError(
            f"the model gives {program.classes} logits but its config.json names {len(source.labels)} labels"
        )
    contents = package.Contents(
        program=program,
        model_name=source.name,
        cpu=cpu,
        precision=precision,
        labels=source.labels,
        choices=chosen.choices,
        plan=plan_text(chosen.plan),
        relax_text=chosen.mod.script() + "\n",
        onnx=source.onnx.read_bytes(),
        tokenizer=source.tokenizer.read_bytes() if source.tokenizer else None,
        scheme=scheme,
        vectors=reference_vectors(quantized.mod, vocabulary, max_length),
        prefix=prefix,
        board=board,
        origins=chosen.origins,
    )
    compiled = Compiled(program, chosen.choices, chosen.plan)
    with folder_in_place(out) as folder:
        package.write(contents, folder)
        if inspect is not None:
            inspect(folder, compiled, at_length)
    return compiled


def kernel_calls(
    source: Source, cpu: Cpu, precision: str = "int8", calibration: Path | None = None
) -> tuple[IRModule, IRModule]:
    """What `compile_model` has after its phase 5, and the same calls of kernels that TVM's LLVM build can run."""
    plan = named_plan(precision)
    mod = import_onnx(load_onnx(source.onnx))
    if qdq.written(mod) is not None:
        raise InputError(f"{source.onnx}: is quantized already (it has QuantizeLinear), and compiled as it is")
    mod = simplify(mod)
    integers = _has_integers(plan)
    max_length = _max_length(None, limits(mod)[1])
    quantized = quantize(mod, _calibration(source, mod, calibration, max_length) if integers else None, plan)
    if not integers:
        calls = to_calls(quantized.mod)
        return calls, calls
    isa = isa_of(cpu.features)
    return to_calls(fuse_row_blocks(quantized, isa).mod), to_calls(fuse_row_blocks(quantized, isa.reference).mod)


def _has_integers(plan: Plan) -> bool:
    return not all(scheme.is_float for scheme in plan.schemes)


def _max_length(asked: int | None, positions: int | None) -> int:
    if asked is None:
        return positions or DEFAULT_MAX_LENGTH
    if asked < 1:
        raise InputError(f"--max-length {asked}: must be at least 1")
    if positions is not None and asked > positions:
        raise InputError(f"--max-length {asked}: the model knows {positions} positions; ask for at most that")
    return asked


def _calibration(source: Source, mod: IRModule, tsv: Path | None, max_length: int) -> calibrate.Calibration:
    digest = hashlib.sha256(source.onnx.read_bytes()).hexdigest()
    if tsv is not None:
        if source.tokenizer is None:
            raise InputError(f"{source.onnx}: --calibration needs a tokenizer.json beside the model")
        tokenizer = load_tokenizer(source.tokenizer)
        examples = read_examples(tsv)[:CALIBRATION_TEXTS]
        texts = [encode(tokenizer, e.text, e.text_pair, max_length) for e in examples]
        return calibrate.calibrate(mod, texts, digest, with_moments=source.trained_precision is None)
    if source.calibration is None:
        raise InputError(f"{source.onnx}: int8 needs calibration: give --calibration TSV, or ask for --precision fp32")
    return calibrate.load_calibration(source.calibration, digest)


def reference_vectors(mod: IRModule, vocabulary: int, max_length: int) -> Sequence[tuple[list[int], np.ndarray]]:
    """Random token ids of lengths from 1 to max_length with the logits of TVM's LLVM build of `mod`."""
    run = llvm_runner(mod)
    rng = np.random.default_rng(0)
    spread = np.geomspace(1, max_length, REFERENCE_VECTORS).round().astype(int)
    lengths = np.unique([*spread, *(n for n in REFERENCE_LENGTHS if n <= max_length)])
    vectors = []
    for length in lengths:
        ids = rng.integers(0, vocabulary, length).tolist()
        vectors.append((ids, run(ids)))
    return vectors


def llvm_runner(mod: IRModule) -> Callable[[Sequence[int]], np.ndarray]:
    """A function from token ids to logits (classes,): the module as TVM's LLVM build runs it on this machine."""
    machine = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())

    def run(ids: Sequence[int]) -> np.ndarray:
        return machine["main"](tvm.runtime.tensor(np.asarray([ids], np.int32))).numpy().reshape(-1)

    return run
