"""How the C of a kernel is written: choices that change its speed and never its bits.

A kernel holds the choices made by hand. What else it could be follows from its statements: each micro-kernel that it
calls has variants (isa/registry.py), and each innermost loop can be unrolled by the C compiler. A schedule makes a
choice by an annotation on the kernel's root block; codegen/c_function.py prints accordingly.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from embbert_tvm.kernels.isa import MICRO_KERNELS
from embbert_tvm.kernels.isa.registry import Variant

PREFIX = "embbert.choice."
# Of every innermost loop at once, where loops are the schedule's own.
ALL_LOOPS = "loops"
# Times that the C compiler unrolls an innermost loop; 0 leaves that to it.
UNROLLS = (0, 1, 2, 4, 8)
# A loop that goes around less often is worth no choice.
LEAST_EXTENT = 16


@dataclass(frozen=True)
class TuningKnob:
    """Something that can be chosen of a function: its key, the numbers to choose from, the first being what it is by
    hand, and what a cost model is told of each."""

    key: str
    values: tuple[int, ...]
    features: tuple[tuple[float, ...], ...]


def of_call(number: int, name: str, scalars: tuple[int | None, ...]) -> TuningKnob | None:
    """What can be chosen of a function's call of a micro-kernel with these arguments that are no pointers."""
    offered = variants(name)
    values = tuple(i for i, one in enumerate(offered) if i == 0 or one.fits(*scalars))
    return TuningKnob(f"call{number}", values, tuple(offered[i].features for i in values)) if len(values) > 1 else None


def variants(name: str) -> tuple[Variant, ...]:
    """What can be called for a micro-kernel: the first is itself. Empty for what has no other."""
    kernel = MICRO_KERNELS.find(name)
    return (Variant(name), *kernel.variants) if kernel is not None and kernel.variants else ()


def of_loop(number: int) -> TuningKnob:
    return TuningKnob(f"loop{number}", UNROLLS, tuple((0, 0, float(u), 0) for u in UNROLLS))


def chosen(func: tirx.PrimFunc) -> dict[str, int]:
    """The choices that a scheduled function's root block is annotated with, by key."""
    block = getattr(func.body, "block", None)
    annotations = {} if block is None else block.annotations
    return {str(k).removeprefix(PREFIX): int(v) for k, v in annotations.items() if str(k).startswith(PREFIX)}
