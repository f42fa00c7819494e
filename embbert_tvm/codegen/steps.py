"""A model as a program of C calls: what the C files of a package are printed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embbert_tvm.codegen.c_function import CFunction
from embbert_tvm.codegen.plan import Allocation, MemoryPlan

INPUT, OUTPUT = "ids", "logits"


@dataclass(frozen=True)
class Tensor:
    """A value of the program: a C name, element type, and shape for comments, and where it lies."""

    name: str
    dtype: str
    shape: str
    block: Allocation | None = None


@dataclass(frozen=True)
class StepOutput:
    """What a call makes: its C name, the name of the module's value, its type, shape, and a C expression in L for how
    many elements it has. interleave: rows whose elements of a column lie side by side: 1, 2 where rows are
    interleaved (kernels/layouts.py), 8 in half precision (kernels/isa/mve_fp16.py)."""

    name: str
    value: str
    dtype: str
    shape: str
    count: str
    interleave: int


@dataclass(frozen=True)
class ProgramOutput:
    """One of what a program gives: its name, how many values it has, and whether each token has so many. They lie one
    after another where `logits` points to."""

    name: str
    classes: int
    of_tokens: bool = False

    def values_at(self, tokens: str) -> str:
        """A C expression: how many values it has of so many tokens."""
        return f"{self.classes} * {tokens}" if self.of_tokens else str(self.classes)


@dataclass(frozen=True)
class CallStep:
    """One call: scalars as C expressions in L, the names of its arguments, its workspaces (in the arena).

    macs: (c0, c1, c2), it does c0 + c1 L + c2 L^2 multiplications with accumulation; None where that is not known.
    count: where an inference can stop in it, how many iterations it has, a C expression in L. cost: a C expression in
    L, about how many multiplications it is worth. equations: what it computes, by the names of its arguments.
    """

    name: str
    function: CFunction
    scalars: tuple[str, ...]
    arguments: tuple[str, ...]
    workspaces: tuple[Tensor, ...]
    macs: tuple[int, int, int] | None = None
    outputs: tuple[StepOutput, ...] = ()
    count: str | None = None
    cost: str = "1"
    equations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Text:
    """What a text needs in the arena before the first step: its ids, and the tokenizer's window. offsets: whether the
    tokenizer says where in the text its tokens stand."""

    ids: Allocation
    window: Allocation
    offsets: bool = False


@dataclass(frozen=True)
class Tagging:
    """What finding slots needs in the arena behind the last step: ids of a word, the tokenizer's window, and the words
    of the text."""

    ids: Allocation
    window: Allocation
    words: Allocation


@dataclass(frozen=True)
class Program:
    """What is left to print. constants: by C name, in the order of their first use."""

    functions: tuple[CFunction, ...]
    constants: dict[str, np.ndarray]
    tensors: tuple[Tensor, ...]
    steps: tuple[CallStep, ...]
    arena: MemoryPlan
    classes: int
    vocabulary: int
    max_length: int
    text: Text | None = None
    min_length: int = 1
    longest_slice: float = 1.0  # the largest share of an inference that is not interrupted, by cost at max_length
    of_tokens: bool = False  # whether every token has so many logits
    padding: int | None = None  # the id that fills a text up, where a model takes but one length
    more: tuple[ProgramOutput, ...] = ()  # outputs beside the first
    tagging: Tagging | None = None  # of a model of tags that takes texts

    @property
    def outputs(self) -> tuple[ProgramOutput, ...]:
        return (ProgramOutput(OUTPUT, self.classes, self.of_tokens), *self.more)

    def place_of(self, output: str) -> str:
        """Where the values of an output begin behind `logits`, a C expression in L."""
        before = [one.values_at("L") for one in self.outputs[: [o.name for o in self.outputs].index(output)]]
        return " + ".join(before)

    @property
    def arena_bytes(self) -> int:
        return self.arena.peak

    @property
    def weights_bytes(self) -> int:
        return sum(c.nbytes for c in self.constants.values())
