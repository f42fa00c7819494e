"""From a model to a package: the phases of the compiler, in order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tvm import IRModule

from embbert_tvm.c_names import DEFAULT_PREFIX, check_prefix
from embbert_tvm.codegen import c_ngrams, package
from embbert_tvm.codegen.c_tokenizer import window_bytes
from embbert_tvm.codegen.limits import limits, shortest
from embbert_tvm.codegen.program import Lowering, Schedules, build_programs
from embbert_tvm.codegen.steps import Program
from embbert_tvm.data.calibration_texts import calibration_ids, check_ids
from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.files import folder_in_place
from embbert_tvm.data.tokenizer import encode, load_tokenizer
from embbert_tvm.data.tokenizer_json import read_spec
from embbert_tvm.data.tokenizer_spec import TokenizerSpec
from embbert_tvm.errors import InputError
from embbert_tvm.graph import calibrate, pipeline
from embbert_tvm.graph.attributes import account_of, written_of
from embbert_tvm.graph.calibrate import Calibration
from embbert_tvm.graph.door import Door, content
from embbert_tvm.graph.door.cut_tables import cut_tables
from embbert_tvm.graph.door.normalize import NORMAL
from embbert_tvm.graph.import_onnx import load_onnx, metadata, open_door
from embbert_tvm.graph.llvm_run import WORTH_OPTIMIZING, ReferenceRunner
from embbert_tvm.graph.llvm_run import llvm_runner as llvm_runner
from embbert_tvm.graph.precision import PrecisionPlan, named_plan, plan_text, read_plan
from embbert_tvm.graph.quantize import KernelSelection, Quantized
from embbert_tvm.heads import MANY_LABELS, ONE_LABEL, TOKENS, head_for
from embbert_tvm.kernels.forms import DEFAULT_FORMS, KernelForms
from embbert_tvm.kernels.isa import computes_in_half, isa_of
from embbert_tvm.ngram_compiler import some_texts
from embbert_tvm.options import BLOB, DEFAULT_PRECISION, DEFAULTS, MIXED, CompileOptions
from embbert_tvm.source import ModelSource as ModelSource
from embbert_tvm.source import find_source as find_source
from embbert_tvm.target import Board, Cpu

if TYPE_CHECKING:
    from embbert_tvm.mixed import Chooser

DEFAULT_MAX_LENGTH = 256
REFERENCE_VECTORS = 10  # lengths from 1 to the most, beside these:
REFERENCE_LENGTHS = (1, 2, 31, 64)
ANSWER_TOKENS = 12  # of the known answer, where the model takes so many


@dataclass(frozen=True)
class KernelCalls:
    """What there is to tune of a model. intrinsic: the calls for the target; reference: the same in plain loops."""

    intrinsic: IRModule
    reference: IRModule
    vocabulary: int
    positions: int | None  # the most tokens that the model knows, None where it knows no limit


@dataclass(frozen=True)
class FrontEnd:
    """A model after the front of the pipeline, with what the back end and the search for a plan have to know of it."""

    source: ModelSource
    mod: IRModule  # simplified
    vocabulary: int
    max_length: int
    door: Door  # what of it is compiled
    onnx: bytes  # the door's model, whole
    tokenizer_spec: TokenizerSpec | None  # of the tokenizer that goes with it
    calibration: Path | None  # a labelled TSV to take statistics from, in place of the source's own

    @property
    def written(self) -> bool:
        """Whether the model is quantized already, and compiled as it is."""
        return written_of(self.mod) is not None

    @property
    def padding(self) -> int | None:
        """The id that fills a text up, of a model that takes but one length."""
        return self.source.padding if self.door.least == self.door.most else None

    def filled(self, ids: list[int]) -> list[int]:
        """Token ids, filled up where a model takes but one length."""
        return ids if self.padding is None else ids + [self.padding] * (self.door.least - len(ids))

    @functools.cached_property
    def calibration_texts(self) -> list[list[int]]:
        """Token ids of the texts to take statistics from; none where the source's own statistics are taken."""
        if self.calibration is None:
            return []
        texts = [self.filled(ids) for ids in calibration_ids(self.calibration, self.source.tokenizer, self.max_length)]
        check_ids(self.calibration, texts, self.vocabulary, self.door.least, self.max_length)
        return texts

    @functools.cached_property
    def statistics(self) -> Calibration:
        """Raises InputError where there are none, or none of this model."""
        onnx, given = self.source.onnx, self.source.calibration
        if self.calibration is not None:
            trained = self.source.trained_precision is not None
            return calibrate.calibrate(self.mod, self.calibration_texts, calibrate.sha256(onnx), not trained)
        if given is None:
            raise InputError(
                f"{onnx}: int8 needs calibration: give --calibration with a TSV, lines of text or token ids (.npz, "
                ".jsonl), or ask for --precision fp32"
            )
        return calibrate.load_calibration(given, calibrate.sha256(onnx))


def front_end(source: ModelSource, options: CompileOptions) -> FrontEnd:
    """Phases 1 and 2. Raises InputError for a model that cannot be compiled as asked."""
    check_prefix(options.prefix)
    given = load_onnx(source.onnx)
    if source.wide is not None and (source.tokenizer is None or not options.tokenizer):
        raise InputError(f"{source.name}: adds what the text's n-grams say, so that its tokenizer must go with it")
    door = open_door(given, options.max_length, source.separator, source.padding)
    is_of_the_door = door.model is not given or NORMAL in metadata(given)
    if is_of_the_door and door.most is not None and door.least <= (options.max_length or door.most) < door.most:
        spared = door.most - (options.max_length or door.most)
        door = replace(door, model=cut_tables(door.model, spared), most=options.max_length)
    mod = pipeline.run(pipeline.front(door.model))
    if written_of(mod) is not None:
        _check_options_of_quantized(source, options)
    vocabulary, positions = limits(mod)
    door = replace(door, least=shortest(mod, door.least))
    max_length = _max_length(options.max_length, positions, door.least, source.most_tokens)
    spec = read_spec(source.tokenizer) if options.tokenizer and source.tokenizer is not None else None
    if spec is not None and spec.vocabulary > vocabulary:
        raise InputError(
            f"{source.tokenizer}: holds {spec.vocabulary} tokens, the model has {vocabulary}: "
            "use the tokenizer it was trained with"
        )
    spec = spec and replace(spec, offsets=door.head == TOKENS)
    whole = content(door, given, source.onnx)
    return FrontEnd(source, mod, vocabulary, max_length, door, whole, spec, options.calibration)


def _check_options_of_quantized(source: ModelSource, options: CompileOptions) -> None:
    """Raise InputError where more is asked of a quantized file than to compile what it says."""
    other = (options.plan, options.calibration_method, options.rounding)
    if options.precision != DEFAULT_PRECISION or any(value is not None for value in other):
        raise InputError(
            f"{source.onnx}: is quantized already (it has QuantizeLinear), and compiled as it is: "
            "leave out --precision and --plan"
        )


def plan_of(options: CompileOptions) -> PrecisionPlan:
    """The plan that is requested, of operators in one precision or as it is given."""
    plan = read_plan(options.plan) if isinstance(options.plan, Path) else options.plan
    plan = named_plan(options.precision, options.experimental) if plan is None else plan
    method, rounding = options.calibration_method or plan.method, options.rounding or plan.rounding
    return replace(plan, method=method, rounding=rounding)


def plan_chooser(source: ModelSource, cpu: Cpu, options: CompileOptions) -> Chooser | None:
    """What finds a plan within a budget; None where the plan is given."""
    if options.precision != MIXED or options.plan is not None:
        dev = options.dev if options.prune_vocabulary is None else None
        if (options.budget, options.choices, dev) != (None, None, None):
            raise InputError("--budget, --choices and --dev go with --precision mixed")
        return None
    from embbert_tvm.graph.precision import CHOICES, named_plan
    from embbert_tvm.mixed import Chooser, parse_budget
    from embbert_tvm.sensitivity import Trials

    if options.budget is None or options.dev is None:
        raise InputError("--precision mixed needs --budget, as flash=300k,drop=0.5, and --dev TSV to measure on")
    limits, base = parse_budget(options.budget), plan_of(replace(options, precision=DEFAULT_PRECISION))
    names = CHOICES if options.choices is None else options.choices.split(",")
    precisions = tuple(named_plan(name.strip()).default for name in names)
    if base.default not in precisions:
        raise InputError(f"--choices {options.choices}: {base.default} must be among them")
    if source.more:
        raise InputError(f"{source.name}: --precision mixed chooses by one output, this has {1 + len(source.more)}")
    if source.tokenizer is None or source.labels is None:
        raise InputError(
            f"{source.name}: --precision mixed needs a classifier's folder, with labels and tokenizer.json"
        )
    tokenizer = load_tokenizer(source.tokenizer)
    examples = read_examples(options.dev, source.labels)
    labels = [source.labels.index(e.label) for e in examples]

    def ids(max_length: int) -> list[list[int]]:
        return [encode(tokenizer, e.text, e.text_pair, max_length) for e in examples]

    return Chooser(limits, cpu.features, ids, labels, Trials(precisions, base))


@dataclass(frozen=True)
class Compiled:
    """A model as a program of C calls. reference: the same by row kernels, which TVM's LLVM build can run."""

    front: FrontEnd
    quantized: Quantized
    reference: IRModule
    at_length: Callable[[int], Program]  # the program for texts of at most so many tokens
    forms: KernelForms = DEFAULT_FORMS

    @functools.cached_property
    def program(self) -> Program:
        made = self.at_length(self.front.max_length)
        return replace(made, min_length=self.front.door.least, padding=self.front.padding)

    @property
    def head(self) -> str:
        """What the outputs are, as the model says or as they show."""
        named = self.front.source.labels is not None
        if self.front.source.head is None and self.front.door.many_labels and not self.program.of_tokens:
            return MANY_LABELS
        return self.front.source.head or head_for(self.program.classes, self.program.of_tokens, named)

    @property
    def choices(self) -> tuple[KernelSelection, ...]:
        return self.quantized.choices

    @property
    def plan(self) -> PrecisionPlan:
        return self.quantized.plan

    @functools.cached_property
    def _run(self) -> ReferenceRunner:
        lengths = reference_lengths(self.program)
        return ReferenceRunner(self.reference, _multiplications(self.program, lengths) > WORTH_OPTIMIZING)

    def answer(self) -> tuple[list[int], np.ndarray]:
        """A short text of random token ids with its logits, for the package to carry."""
        length = min(max(ANSWER_TOKENS, self.program.min_length), self.program.max_length)
        return self._vectors([length], seed=1)[0]

    def vectors(self) -> Sequence[tuple[list[int], np.ndarray]]:
        """What the package must give for random token ids, of lengths from the least to the most."""
        return self._vectors(reference_lengths(self.program), seed=0)

    def texts(self) -> list[tuple[str, str | None, np.ndarray]]:
        """What the package must give for texts, where their n-grams add to the logits."""
        source = self.front.source
        if source.wide is None or source.tokenizer is None:
            return []
        tokenizer = load_tokenizer(source.tokenizer)
        read = [(encode(tokenizer, *both, self.front.max_length), *both) for both in some_texts()]
        read = [each for each in read if len(each[0]) >= self.program.min_length]
        found = zip(self._run([ids for ids, _, _ in read]), read, strict=True)
        return [(text, pair, source.wide.added_to(logits, text, pair)) for logits, (_, text, pair) in found]

    def _vectors(self, lengths: Iterable[int], seed: int) -> list[tuple[list[int], np.ndarray]]:
        rng = np.random.default_rng(seed)
        texts = [rng.integers(0, self.front.vocabulary, length).tolist() for length in lengths]
        return list(zip(texts, self._run(texts), strict=True))


def back_end(
    front: FrontEnd, cpu: Cpu, plan: PrecisionPlan, options: CompileOptions, tuned: Schedules | None = None
) -> Compiled:
    """Phases 3 to 5, and the program of C calls. tuned: schedules of kernels to use (tuning/logs.py).

    Raises InputError for a plan that does not suit the model, WorkError for what has no C.
    """
    quantized = _quantized(front, plan, refits=True)
    fused, calls = pipeline.back(isa_of(cpu.features, options.kernel_forms), computes_in_half(cpu.features))
    chosen = pipeline.run((fused,), quantized)
    known, mod = account_of(chosen), pipeline.run((calls,), chosen)
    window = None if front.tokenizer_spec is None else window_bytes(front.tokenizer_spec)
    how = Lowering(options.prefix, front.vocabulary, window, tuned, known.plan.half)
    programs = build_programs(mod, known.constants, how)
    ngrams = {} if front.source.wide is None else c_ngrams.constants(front.source.wide)

    def at_length(length: int) -> Program:
        made = programs(length)
        return replace(made, constants=made.constants | ngrams)

    compiled = Compiled(front, known, quantized, at_length, options.kernel_forms)
    _check_head(front.source, compiled)
    return compiled


def _check_head(source: ModelSource, compiled: Compiled) -> None:
    """InputError where what is said of a model's outputs is not what it gives."""
    program, labels = compiled.program, source.labels
    given = [(output.classes, output.of_tokens) for output in program.more]
    if given != [(head.values, head.of_tokens) for head in source.more]:
        names = ", ".join(head.name for head in source.more) or "none"
        raise InputError(f"{source.onnx}: the outputs beside the first are not those of the heads named ({names})")
    if labels is not None and program.classes != len(labels):
        each = " a token" if program.of_tokens else ""
        raise InputError(
            f"{source.onnx}: the model gives {program.classes} logits{each}, but {len(labels)} labels are named"
        )
    if source.head is not None and (source.head == TOKENS) != program.of_tokens:
        found = "logits of each token" if program.of_tokens else "logits of the text"
        raise InputError(f"{source.onnx}: the model gives {found}, but its head is said to be {source.head!r}")


def _quantized(front: FrontEnd, plan: PrecisionPlan, refits: bool = False) -> IRModule:
    """refits: whether weights of few bits are refitted to the texts that statistics are taken from, where they are."""
    if front.written or not plan.has_integers:
        return pipeline.run((pipeline.quantized(plan, None),), front.mod)
    texts = front.calibration_texts if refits else ()
    return pipeline.run((pipeline.quantized(plan, front.statistics, texts),), front.mod)


def contents(
    compiled: Compiled, cpu: Cpu, precision: str, prefix: str = DEFAULT_PREFIX, board: Board | None = None
) -> package.Contents:
    """What goes into the package. precision: what it says of itself; board: what it says that it was made for."""
    source, known = compiled.front.source, compiled.quantized
    return package.Contents(
        program=compiled.program,
        model_name=source.name,
        cpu=cpu,
        precision=precision,
        labels=source.labels,
        choices=known.choices,
        plan=plan_text(known.plan),
        relax_text=known.mod.script() + "\n",
        onnx=compiled.front.onnx,
        tokenizer=source.tokenizer.read_bytes() if source.tokenizer else None,
        tokenizer_spec=compiled.front.tokenizer_spec,
        answer=compiled.answer(),
        prefix=prefix,
        board=board,
        origins=known.origins,
        head=compiled.head,
        rejection=source.rejection if compiled.head == ONE_LABEL else None,
        more=source.more,
        linear=source.wide,
        example=source.example,
        forms=compiled.forms,
    )


def compile_model(
    source: ModelSource, cpu: Cpu, out: Path, options: CompileOptions = DEFAULTS, tuned: Schedules | None = None
) -> Compiled:
    """Compile for a CPU and write the package to `out`, whole or not at all. tuned: as of `back_end`.

    Raises InputError for what cannot be compiled as asked, WorkError for what has no C.
    """
    check_output(out)
    front = front_end(source, options)
    compiled = back_end(front, cpu, plan_of(options), options, tuned)
    with folder_in_place(out) as folder:
        made = contents(compiled, cpu, options.precision, options.prefix)
        package.write(replace(made, in_blob=options.weights == BLOB), folder)
        package.write_reference(compiled.vectors(), folder, compiled.texts())
    return compiled


def check_output(out: Path) -> None:
    """Raise InputError where a package would take the place of something else."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "metadata.json").is_file())):
        raise InputError(f"{out}: holds something that is not a package: name another output")


def kernel_calls(source: ModelSource, cpu: Cpu, options: CompileOptions = DEFAULTS) -> KernelCalls:
    """The calls of kernels that `compile_model` prints, and the same calls of kernels that this machine can run."""
    front = front_end(source, options)
    if front.written:
        raise InputError(f"{source.onnx}: is quantized already (it has QuantizeLinear), and compiled as it is")
    plan, isa = named_plan(options.precision), isa_of(cpu.features, options.kernel_forms)
    if plan.half:
        raise InputError(f"--precision {options.precision}: what is in half precision has no schedules to choose from")
    mod = _quantized(front, plan)
    intrinsic, reference = (pipeline.run(pipeline.back(one, in_half=False), mod) for one in (isa, isa.reference))
    return KernelCalls(intrinsic, reference, front.vocabulary, limits(front.mod)[1])


def _max_length(requested: int | None, positions: int | None, least: int, most: int | None = None) -> int:
    """most: the longest where none is requested."""
    if requested is None:
        longest = positions or DEFAULT_MAX_LENGTH
        return longest if most is None else min(longest, max(most, least))
    if requested < least:
        why = "" if least == 1 else ", the fewest tokens that the model takes"
        raise InputError(f"--max-length {requested}: must be at least {least}{why}")
    if positions is not None and requested > positions:
        raise InputError(f"--max-length {requested}: the model knows {positions} positions; ask for at most that")
    return requested


def reference_lengths(program: Program) -> list[int]:
    """Numbers of tokens from the least to the most."""
    least, longest = program.min_length, program.max_length
    spread = np.geomspace(least, longest, REFERENCE_VECTORS).round().astype(int)
    return sorted({*map(int, spread), *(n for n in REFERENCE_LENGTHS if least <= n <= longest)})


def _multiplications(program: Program, lengths: Iterable[int]) -> int:
    known = [step.macs for step in program.steps if step.macs is not None]
    return sum(c0 + c1 * n + c2 * n * n for n in map(int, lengths) for c0, c1, c2 in known)
