"""Whole inferences under the cycle model, with what a board waits for its flash and its caches: the forms of a model's
kernels are chosen by them, and a log of schedules is kept only where it makes them no slower.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from embbert_tvm.codegen import package
from embbert_tvm.codegen.program import Schedules
from embbert_tvm.compiler import CompileOptions, ModelSource, back_end, contents, front_end, plan_of
from embbert_tvm.cycles.caches import Fills, caches_of, waiting
from embbert_tvm.cycles.inference import WORST, inference_cycles
from embbert_tvm.device.package import load_package
from embbert_tvm.kernels.forms import CHOICES, DEFAULT_FORMS, KernelForms, neighbours
from embbert_tvm.target import Board, Cpu
from embbert_tvm.tuning.logs import WholeRecord


@dataclass(frozen=True)
class WholeCost:
    """Cycles of an inference: of the pipeline by the worst of its models, and of waiting for lines of caches."""

    pipeline: float
    waiting: int = 0
    fills: Fills | None = None

    @property
    def all(self) -> float:
        return self.pipeline + self.waiting


class Inferences:
    """A model's inferences of `length` tokens on a CPU, timed for a board."""

    def __init__(
        self, source: ModelSource, target: tuple[Cpu, Board], precision: str, length: int, calibration: Path | None
    ) -> None:
        self._cpu, self._board = target
        self._options = CompileOptions(precision, calibration=calibration, tokenizer=source.wide is not None)
        self._front = front_end(source, self._options)
        self._length = length

    def cost(self, forms: KernelForms, tuned: Schedules | None = None) -> WholeCost:
        """Cycles with kernels in these forms, scheduled by `tuned`."""
        options = replace(self._options, forms=forms)
        compiled = back_end(self._front, self._cpu, plan_of(options), options, tuned)
        with tempfile.TemporaryDirectory(prefix="embbert-") as name:
            package.write(contents(compiled, self._cpu, options.precision), Path(name))
            (found,) = inference_cycles(
                load_package(Path(name)), [self._length], caches_of(self._board), timed=self._board
            )
        return WholeCost(found.cycles[WORST], waiting(self._board, found.fills), found.fills)


def search_forms(
    cost: Callable[[KernelForms], WholeCost],
    features: tuple[str, ...],
    length: int,
    progress: Callable[[Mapping[str, float]], None] = lambda tried: None,
) -> tuple[KernelForms, WholeRecord]:
    """The forms of the least cost that are found by changing one choice after another, in rounds until none gains.

    The forms made by hand are the first tried, so that those found are never slower.
    """
    best, tried = DEFAULT_FORMS, {}

    def measured(forms: KernelForms) -> float:
        if forms.named not in tried:
            tried[forms.named] = round(cost(forms).all)
            progress(tried)
        return tried[forms.named]

    least = before = measured(best)
    gained = True
    while gained:
        gained = False
        for name in CHOICES:
            for forms in neighbours(best, name, features, length):
                if (figure := measured(forms)) < least:
                    best, least, gained = forms, figure, True
    return best, WholeRecord(before, least, tried=tried)
