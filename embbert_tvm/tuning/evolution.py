"""MetaSchedule's evolutionary search over traces of categorical decisions.

MetaSchedule's own strategy asks for the shapes of all arguments as numbers, which a kernel for texts of any length does
not have. Traces, cost model, mutator and database are its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from tvm import s_tir
from tvm.s_tir import meta_schedule as ms

from embbert_tvm.tuning.space import MutateDecision, decisions

_POPULATION, _GENERATIONS, _ELITE = 24, 2, 8
_GREEDY = 0.9  # share of a round that the cost model picks


class Evolution:
    """Proposes candidates of a workload that were not proposed before."""

    def __init__(self, context: ms.TuneContext, model: ms.CostModel, seed: int) -> None:
        self._context, self._model = context, model
        self._designs = [design.trace for design in context.generate_design_space()]
        self._random = random.Random(seed)
        self._mutate = MutateDecision(seed)
        self._seen: set[tuple] = set()
        self._applied: dict[tuple, ms.MeasureCandidate] = {}
        self._best: list[tuple[float, s_tir.Trace]] = []

    def learn(self, found: Sequence[tuple[s_tir.Trace, float]]) -> None:
        """Take the measured seconds of traces to heart."""
        self._seen.update(_key(trace) for trace, _ in found)
        candidates = [self._candidate(trace) for trace, _ in found]
        self._best = sorted([*self._best, *((s, t) for t, s in found)], key=lambda pair: pair[0])[:_ELITE]
        results = [ms.runner.RunnerResult([seconds], None) for _, seconds in found]
        if candidates:
            self._model.update(self._context, candidates, results)

    def propose(self, count: int) -> list[s_tir.Schedule]:
        """At most `count` schedules; fewer where there is little left to try."""
        population: dict[tuple, s_tir.Trace] = {}

        def add(trace: s_tir.Trace | None) -> None:
            if trace is not None and (key := _key(trace)) not in self._seen:
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
        made = [self._candidate(trace).sch for trace in chosen]
        self._applied.clear()
        return made

    def _ranked(self, population: dict[tuple, s_tir.Trace]) -> list[s_tir.Trace]:
        traces = list(population.values())
        if not traces:
            return []
        scores = self._model.predict(self._context, [self._candidate(t) for t in traces])
        return [traces[i] for i in np.argsort(-np.asarray(scores))]

    def _sample(self, trace: s_tir.Trace) -> s_tir.Trace:
        for inst in trace.insts:
            if inst.kind.name == "SampleCategorical":
                trace = trace.with_decision(inst, self._random.randrange(len(inst.attrs[0])), True)
        return trace

    def _candidate(self, trace: s_tir.Trace) -> ms.MeasureCandidate:
        key = _key(trace)
        if key not in self._applied:
            schedule = s_tir.Schedule(self._context.mod)
            trace.apply_to_schedule(schedule, remove_postproc=False)
            self._applied[key] = ms.MeasureCandidate(schedule, [])
        return self._applied[key]


def _key(trace: s_tir.Trace) -> tuple:
    return (len(trace.insts), *decisions(trace))
