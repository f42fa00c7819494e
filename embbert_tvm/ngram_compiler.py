"""From a model of hashed n-grams to a package: there is no graph, so none of the compiler's phases."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from embbert_tvm.c_names import check_prefix
from embbert_tvm.codegen import c_ngrams
from embbert_tvm.codegen.c_function import CFunction
from embbert_tvm.codegen.package import Contents
from embbert_tvm.codegen.plan import ALIGN, MemoryPlan
from embbert_tvm.codegen.steps import INPUT, OUTPUT, CallStep, Program, StepOutput
from embbert_tvm.data.byte_tokenizer import byte_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.graph.precision import named_plan, plan_text
from embbert_tvm.graph.quantize import KernelSelection
from embbert_tvm.models.folder import example_of
from embbert_tvm.models.ngrams import NEXT_TEXT, VOCABULARY, NgramModel, read_ngram_folder, relabelled
from embbert_tvm.options import BLOB, DEFAULT_PRECISION, CompileOptions
from embbert_tvm.source import read_labels
from embbert_tvm.target import Board, Cpu

MAX_BYTES = 1024  # of a text that comes as ids, one a byte; a text that comes as text is read whole
_ANSWER = "Is this the 1st known answer? Où? 你好."
_TEXTS = (
    "a", "ok", "turn the lights off", "WHAT'S the weather like in São Paulo, tomorrow at 7:30?", "你好\uff0c世界",
    "naïve ﬁancé №5 — Ёлка Ωmega", "\u0301\u200b \t\n..", "x" * 300, "the quick brown fox jumps over it. " * 25,
)  # fmt: skip


@dataclass(frozen=True)
class NgramSource:
    """An `ngrams` model to compile."""

    name: str
    model: NgramModel
    example: str | None = None  # a text of its own kind

    @property
    def labels(self) -> tuple[str, ...]:
        return self.model.labels


def find_ngram_source(path: Path, labels: str | None = None) -> NgramSource:
    """The model of a folder. labels: as of `find_source`. InputError where it is none."""
    folder = read_ngram_folder(path)
    model = folder.model if labels is None else relabelled(folder.model, read_labels(labels))
    return NgramSource(folder.name, model, example_of(path))


def check_options(options: CompileOptions) -> None:
    """InputError for an option that a model of n-grams has no use for."""
    default = CompileOptions()
    taken = {"prefix", "max_length", "tuning", "precision", "weights"}
    others = [
        f.name for f in fields(options) if f.name not in taken and getattr(options, f.name) != getattr(default, f.name)
    ]
    if options.precision != DEFAULT_PRECISION:
        others = ["precision", *others]
    if others:
        raise InputError(f"a model of n-grams is int8 and has no graph: leave out --{others[0].replace('_', '-')}")
    if options.max_length is not None and not 1 <= options.max_length <= 2**15:
        raise InputError(f"--max-length {options.max_length}: must be 1 to {2**15} bytes")
    check_prefix(options.prefix)


def program(model: NgramModel, prefix: str, max_length: int = MAX_BYTES, in_blob: bool = False) -> Program:
    """The one call that the package makes, from bytes to logits. in_blob: whether its rows lie in a blob."""
    classes = len(model.labels)
    output = StepOutput(OUTPUT, OUTPUT, "float32", f"(1, {classes})", str(classes), 1)
    function = CFunction(f"{prefix}_linear", (), (), (), (), "", False)
    scalars = ("blob", "L") if in_blob else ("L",)
    return Program(
        functions=(),
        constants=c_ngrams.constants(model),
        tensors=(),
        steps=(CallStep("ngrams", function, scalars, (INPUT, OUTPUT), (), None, (output,)),),
        arena=MemoryPlan((), ALIGN, ALIGN, 0),  # the least there is: nothing lies in it
        classes=classes,
        vocabulary=VOCABULARY,
        max_length=max_length,
    )


def choices(model: NgramModel) -> tuple[KernelSelection, ...]:
    """What the report says of the one operator."""
    reason = f"sums of rows of {model.features.buckets} hashed n-grams, words and characters"
    return (KernelSelection("ngrams", "linear", "int8", reason),)


def contents(source: NgramSource, cpu: Cpu, options: CompileOptions, board: Board | None) -> Contents:
    """What goes into the package."""
    prefix, max_length, in_blob = options.prefix, options.max_length, options.weights == BLOB
    model = source.model
    ids = list(_ANSWER.encode())[: max_length or MAX_BYTES]
    return Contents(
        program=program(model, prefix, max_length or MAX_BYTES, in_blob),
        model_name=source.name,
        cpu=cpu,
        precision=DEFAULT_PRECISION,
        labels=model.labels,
        choices=choices(model),
        plan=plan_text(named_plan(DEFAULT_PRECISION)),
        relax_text=None,
        onnx=None,
        tokenizer=byte_tokenizer(NEXT_TEXT),
        tokenizer_spec=None,
        answer=(ids, model.logits_of_bytes(ids)),
        prefix=prefix,
        board=board,
        linear=model,
        example=source.example,
        in_blob=in_blob,
    )


def vectors(model: NgramModel, max_length: int) -> list[tuple[list[int], np.ndarray]]:
    """Bytes of texts and of noise, with the logits that they must give."""
    rng = np.random.default_rng(0)
    found = [list(text.encode())[:max_length] for text in _TEXTS]
    found += [rng.integers(0, VOCABULARY, n).tolist() for n in (1, 31, max_length) if n <= max_length]
    return [(ids, model.logits_of_bytes(ids)) for ids in found]


def some_texts() -> list[tuple[str, str | None]]:
    """Texts of every kind, and a pair, for reference vectors."""
    return [*((text, None) for text in _TEXTS), (_TEXTS[2], _TEXTS[3])]


def text_vectors(model: NgramModel) -> list[tuple[str, str | None, np.ndarray]]:
    """Texts with the logits that they must give."""
    return [(text, pair, model.logits([text], [pair])[0]) for text, pair in some_texts()]
