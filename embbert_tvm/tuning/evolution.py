"""MetaSchedule's evolutionary search over traces of categorical decisions.

MetaSchedule's own strategy asks for the shapes of all arguments as numbers, which a kernel for texts of any length does
not have. Traces, mutator and database are its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from tvm import s_tir
from tvm.s_tir import meta_schedule as ms

from embbert_tvm.tuning.cost_model import CostModel
from embbert_tvm.tuning.space import MutateDecision, decisions, features, fits

_POPULATION, _GENERATIONS, _ELITE = 24, 2, 8
_GREEDY = 0.9  # share of a round that the cost model picks


class Evolution:
    """Proposes candidates of a workload that were not proposed before."""

    def __init__(self, context: ms.TuneContext, seed: int) -> None:
        self._mod = context.mod
        self._designs = [design.trace for design in context.generate_design_space()]
        self._model = CostModel(seed)
        self._random = random.Random(seed)
        self._mutate = MutateDecision(seed)
        self._seen: set[tuple] = set()
        self._best: list[tuple[float, s_tir.Trace]] = []

    def learn(self, found: Sequence[tuple[s_tir.Trace, float]]) -> None:
        """Update the cost model and the elite with the measured seconds of traces."""
        self._seen.update(_key(trace) for trace, _ in found)
        self._best = sorted([*self._best, *((s, t) for t, s in found)], key=lambda pair: pair[0])[:_ELITE]
        if found:
            self._model.update([features(trace) for trace, _ in found], [seconds for _, seconds in found])

    def propose(self, count: int) -> list[s_tir.Schedule]:
        """Propose at most `count` schedules, fewer where there is little left to try."""
        population: dict[tuple, s_tir.Trace] = {}

        def add(trace: s_tir.Trace | None) -> None:
            if trace is not None and (key := _key(trace)) not in self._seen and fits(self._mod["main"], trace):
                population.setdefault(key, trace)

        for design in self._designs:
            add(design)
        for _ in range(4 * _POPULATION):
            if len(population) >= _POPULATION:
                break
            add(self._sample(self._random.choice(self._designs)))
        for _ in range(2 * _POPULATION if self._best else 0):
            add(self._mutate.apply(self._random.choice(self._best)[1]))
        ranked = self._ranked(population)
        for _ in range(_GENERATIONS):
            for trace in ranked[:_POPULATION]:
                add(self._mutate.apply(trace))
            ranked = self._ranked(population)
        greedy = ranked[: round(_GREEDY * count)]
        rest = ranked[len(greedy) :]
        chosen = greedy + self._random.sample(rest, min(len(rest), count - len(greedy)))
        self._seen.update(map(_key, chosen))
        return [self._schedule(trace) for trace in chosen]

    def _ranked(self, population: dict[tuple, s_tir.Trace]) -> list[s_tir.Trace]:
        traces = list(population.values())
        if not traces:
            return []
        return [traces[i] for i in np.argsort(-self._model.predict([features(t) for t in traces]))]

    def _sample(self, trace: s_tir.Trace) -> s_tir.Trace:
        for inst in trace.insts:
            if inst.kind.name == "SampleCategorical":
                trace = trace.with_decision(inst, self._random.randrange(len(inst.attrs[0])), True)
        return trace

    def _schedule(self, trace: s_tir.Trace) -> s_tir.Schedule:
        schedule = s_tir.Schedule(s_tir.renew_defs(self._mod["main"]))
        trace.apply_to_schedule(schedule, remove_postproc=False)
        return schedule


def _key(trace: s_tir.Trace) -> tuple:
    return (len(trace.insts), *decisions(trace))
