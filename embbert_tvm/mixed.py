"""From budgets to a plan: measure what each operator loses in each precision, and choose the best choice that fits.

With a `drop` the smallest plan is chosen that loses no more, with `flash` too the fastest that fits; one that blocked
kernels serve where there is one. Without a `drop` it is the most accurate. The choice among sums of time, flash and
squared error is exact (graph/budget_search.py). How large an error a drop allows is found by bisection, each step of
which measures a whole plan on the development texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from tvm import IRModule, sym, tirx

from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.graph import budget_search
from embbert_tvm.graph.budget_search import Option, frontier
from embbert_tvm.graph.calibrate import Calibration
from embbert_tvm.graph.dataflow import Dataflow, is_tensor, shape, variables
from embbert_tvm.graph.fuse_row_blocks import fuse_row_blocks, is_fused
from embbert_tvm.graph.precision import CHOICES, PRECISIONS, PrecisionPlan
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.kernels.isa import computes_in_half, isa_of
from embbert_tvm.sensitivity import Sensitivity, Texts, Trials, constants_bytes, logits, measure

# Single operators are measured on so many texts, whole plans on all.
TEXTS = 96
_BISECTIONS = 8
_UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2}


@dataclass(frozen=True)
class Budget:
    """flash, ram: most bytes; drop: most points of accuracy that may be lost. None: no limit."""

    flash: int | None = None
    ram: int | None = None
    drop: float | None = None


def parse_budget(text: str) -> Budget:
    """`flash=300k,ram=64k,drop=0.5`, k and M of 1024. Raises InputError for anything else."""
    found: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, _, value = part.partition("=")
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMbB]?)", value)
        if key not in ("flash", "ram", "drop") or match is None or (key == "drop" and match[2]) or key in found:
            raise InputError(f"--budget {part}: give flash=BYTES, ram=BYTES or drop=POINTS, as in flash=300k,drop=0.5")
        found[key] = float(match[1]) if key == "drop" else int(float(match[1]) * _UNITS[match[2].lower()])
    return Budget(**found)


@dataclass(frozen=True)
class Tried:
    """A whole plan that was measured: the error that its operators add up to, that measured, and points lost."""

    operators: tuple[str, ...]
    time: float
    predicted: float
    error: float
    drop: float


_TRIALS = Trials(CHOICES)


class Chooser:
    """Gives a plan for a simplified module, again and again with less room where a package turns out too large.

    features: of the CPU. ids, labels: of the development texts, the ids of at most so many tokens.
    """

    def __init__(
        self,
        budget: Budget,
        features: Sequence[str],
        ids: Callable[[int], Sequence[Sequence[int]]],
        labels: Sequence[int] | None = None,
        trials: Trials = _TRIALS,
    ) -> None:
        self.budget, self.base, self._trials = budget, trials.base, trials
        self.isa = isa_of(features)
        self._sets = (*(["half"] if computes_in_half(features) else []), self.isa.name)
        self._ids, self._labels = ids, labels
        self._constants, self._live = budget.flash, budget.ram
        self._table: list[Sensitivity] | None = None
        self._tried: dict[tuple[str, ...], Tried] = {}
        self._chosen: tuple[int, int] = (0, 0)
        self._changed = 0  # operators that the last plan does not have as the base has them

    def tighten(self, flash: int | None, ram: int | None) -> bool:
        """Take note of what the last plan came to; whether it was too much, so that another must be chosen."""
        constants, live = self._chosen
        again = False
        if self.budget.flash is not None and flash is not None and flash > self.budget.flash:
            self._constants, again = min(self.budget.flash - (flash - constants), constants - 1), True
        if self.budget.ram is not None and ram is not None and ram > self.budget.ram:
            self._live, again = min(self.budget.ram - (ram - live), live - 1), True
        return again

    def __call__(self, mod: IRModule, calibration: Calibration, max_length: int) -> PrecisionPlan:
        """Raises WorkError where no plan fits the budgets."""
        if self._table is None:
            self._texts = Texts(mod, self._ids(max_length), self._labels)
            few = self._texts.first(TEXTS)
            self._table = measure(mod, calibration, few, self.isa, self._trials)
            whole = fuse_row_blocks(quantize(mod, calibration, self.base), self.isa).mod
            self._least = constants_bytes(whole)
        names = list(dict.fromkeys(row.operator for row in self._table))
        room = None if self._constants is None else self._constants - self._least
        blocked, every = self._choices(names, room)

        def plan_of(choice: budget_search.PlanCandidate) -> PrecisionPlan:
            return self.base.of(dict(zip(names, choice.options, strict=True)))

        live: dict[tuple, int] = {}

        def fits(choice: budget_search.PlanCandidate) -> bool:
            if self._live is None:
                return True
            if choice.options not in live:
                made = fuse_row_blocks(quantize(mod, calibration, plan_of(choice)), self.isa).mod
                live[choice.options] = live_bytes(made, max_length)
            return live[choice.options] <= self._live

        def tried(choice: budget_search.PlanCandidate) -> Tried:
            if choice.options not in self._tried:
                found = logits(quantize(mod, calibration, plan_of(choice)).mod, self._texts.ids, "measuring a plan")
                measured = (self._texts.error(found), self._texts.drop(found))
                self._tried[choice.options] = Tried(choice.options, choice.time, choice.error, *measured)
            return self._tried[choice.options]

        def keeps(choices: Sequence[budget_search.PlanCandidate]) -> budget_search.PlanCandidate | None:
            """What is wanted most of those that lose no more than is allowed."""
            fitting = (c for c in choices if fits(c))
            if (first := next(fitting, None)) is None or most is None or tried(first).drop <= most:
                return first
            accurate = min((first, *fitting), key=lambda c: c.error)
            if tried(accurate).drop > most:
                return None
            return self._bisect([c for c in choices if fits(c)], first, accurate, tried)

        most = self.budget.drop
        chosen = next((c for part in (blocked, every) if (c := keeps(part)) is not None), None)
        if chosen is None and not every and most is None:
            chosen = next(filter(fits, self._of_fewer_kinds(names)), None)
        if chosen is None:
            accurate = min(filter(fits, every), key=lambda c: c.error, default=None)
            if accurate is None:
                why = f"no plan fits {self._budget_text()}: allow more, or compile with --precision int8 to see less"
            else:
                lost = tried(accurate).drop
                why = f"the most accurate plan within {self._budget_text()} loses {lost:.2f} points: allow more"
            raise WorkError(why)
        self._changed = sum(o != self.base.precision(n).name for n, o in zip(names, chosen.options, strict=True))
        quantized = fuse_row_blocks(quantize(mod, calibration, plan_of(chosen)), self.isa)
        self._chosen = constants_bytes(quantized.mod, quantized.plan.half), live_bytes(quantized.mod, max_length)
        account = self._account(names, tried(chosen))
        account["blocked"] = is_fused(quantized)
        return replace(plan_of(chosen), measured=account)

    def _choices(self, names: Sequence[str], room: int | None) -> list[list[budget_search.PlanCandidate]]:
        """Plans that no other beats, what is wanted most first: of those that blocked kernels serve, if a drop is
        allowed, and of all."""

        def options(blocked: bool) -> list[list[Option]]:
            """blocked: of plans that blocked kernels serve; otherwise every integer kernel works a row at a time."""
            found: dict[str, list[Option]] = {name: [] for name in names}
            for row in self._table:
                precision = PRECISIONS[row.precision]
                slow = 1.0 if blocked or precision.is_float else self.isa.row_cost
                if row.blocked or not blocked:
                    time = row.macs * precision.time(self._sets) * slow
                    found[row.operator].append(Option(row.precision, time, row.flash, row.error))
            return list(found.values())

        def wanted(choice: budget_search.PlanCandidate) -> tuple[float, ...]:
            if self.budget.drop is None:
                return choice.error, choice.time, choice.flash
            if self.budget.flash is None:
                return choice.flash, choice.time, choice.error
            return choice.time, choice.flash, choice.error

        # RAM is no sum over operators: choices of other times are kept for those that need less of it.
        timed = self.budget.ram is not None or None not in (self.budget.drop, self.budget.flash)
        served = options(True)
        blocked = frontier(served, room, timed=timed) if all(served) else []
        every = {c.options: c for c in (*frontier(options(False), room, timed=timed), *blocked)}.values()
        return [sorted([] if self.budget.drop is None else blocked, key=wanted), sorted(every, key=wanted)]

    def _of_fewer_kinds(self, names: Sequence[str]) -> Iterator[budget_search.PlanCandidate]:
        """Half of the changes of the last plan, those of the operators that lose most as the base has them.

        Kernels of more kinds are more code, so what the last plan took beside its constants is too much for these.
        """
        rows = {name: {r.precision: r for r in self._table or () if r.operator == name} for name in names}
        base = {name: found[self.base.precision(name).name] for name, found in rows.items()}
        best = {name: min(found.values(), key=lambda r: r.error) for name, found in rows.items()}
        gains = sorted(names, key=lambda name: best[name].error - base[name].error)
        changed = {name for name in gains[: self._changed // 2] if best[name] is not base[name]}
        if len(changed) < self._changed:
            kept = [best[name] if name in changed else base[name] for name in names]
            time = sum(r.macs * PRECISIONS[r.precision].time(self._sets) for r in kept)
            options = tuple(r.precision for r in kept)
            yield budget_search.PlanCandidate(options, time, sum(r.flash for r in kept), sum(r.error for r in kept))

    def _bisect(
        self,
        choices: Sequence[budget_search.PlanCandidate],
        cheap: budget_search.PlanCandidate,
        accurate: budget_search.PlanCandidate,
        tried: Callable[[budget_search.PlanCandidate], Tried],
    ) -> budget_search.PlanCandidate:
        """Between a choice that loses too much and one that does not, by the error that is allowed."""
        low, high = max(accurate.error, 1e-12), cheap.error
        for _ in range(_BISECTIONS):
            error = math.sqrt(low * high)
            middle = next((c for c in choices if c.error <= error), accurate)
            if middle == cheap or (middle != accurate and tried(middle).drop > self.budget.drop):
                cheap, high = middle, error
            else:
                accurate, low = middle, error
        return accurate

    def _budget_text(self) -> str:
        return ", ".join(f"{k}={v:g}" for k, v in asdict(self.budget).items() if v is not None)

    def _account(self, names: list[str], chosen: Tried) -> dict:
        return {
            "budget": {k: v for k, v in asdict(self.budget).items() if v is not None},
            "texts": len(self._texts.ids),
            "labelled": self._texts.labels is not None,
            "predicted_error": chosen.predicted,
            "error": chosen.error,
            "drop": chosen.drop,
            "plans_measured": [
                {"predicted_error": t.predicted, "error": t.error, "drop": t.drop, "time": t.time}
                for t in self._tried.values()
            ],
            "operators": [asdict(row) for row in self._table],
        }


def live_bytes(mod: IRModule, length: int) -> int:
    """The most bytes of tensors that are alive at once in `main` for texts of `length` tokens: the arena without
    workspaces and without what is overwritten in place."""
    graph = Dataflow(mod)
    (ids,) = graph.function.params
    analyzer = sym.Analyzer()
    analyzer.bind(shape(ids)[1], tirx.const(length, "int64"))

    def bytes_of(var) -> int:
        dims = (d if isinstance(d, int) else int(analyzer.simplify(d)) for d in shape(var))
        return math.prod(dims) * np.dtype(str(var.ty.dtype)).itemsize

    last = {used: n for n, (_, value) in enumerate(graph.bindings) for used in variables(value)}
    last |= {output: len(graph.bindings) for output in graph.outputs}
    alive: dict = {}
    most = 0
    for n, (var, _) in enumerate(graph.bindings):
        if is_tensor(var):
            alive[var] = bytes_of(var)
        most = max(most, sum(alive.values()))
        alive = {v: size for v, size in alive.items() if last.get(v, -1) > n}
    return most
