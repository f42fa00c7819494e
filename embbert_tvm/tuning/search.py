"""The search: MetaSchedule proposes candidates, places measure them, and each is on record as soon as it is measured.

MetaSchedule's own loop records a batch when all of it is done; here a search that is killed has lost no trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tvm
from tvm.s_tir import meta_schedule as ms

from embbert_tvm.codegen.lower import schedule
from embbert_tvm.errors import EmbbertError, InputError, WorkError
from embbert_tvm.target import Board, Cpu
from embbert_tvm.tuning.bench import Bench, Candidate, candidate
from embbert_tvm.tuning.evolution import Evolution
from embbert_tvm.tuning.logs import TARGET, UNIT, Kernel, Log, fingerprint
from embbert_tvm.tuning.measure import Place, Reading
from embbert_tvm.tuning.pool import Job, Pool
from embbert_tvm.tuning.space import has_space, space
from embbert_tvm.tuning.task import Task, workload

ROUND = 8  # candidates of a task that are proposed at once
UNDER_WAY = 2  # rounds: while one is measured, the next is built
IMAGE = 4  # candidates in an image
LEAST_SHARE = 0.002  # of a model's cost: a kernel below is not worth a trial
FAILED = 1e10  # what MetaSchedule notes as the seconds of a candidate that has none


@dataclass(frozen=True)
class SearchStatus:
    """What a search says of itself. cost: of one inference by the objective; before: untuned."""

    trials: int
    asked: int
    failures: int
    before: float
    cost: float
    rate: float
    left: float


@dataclass
class _State:
    task: Task
    bench: Bench
    evolution: Evolution
    workload: ms.database.Workload
    kernel: Kernel
    cost: float  # of the best candidate learnt of
    idle: int = 0  # rounds since that was found
    untried: bool = True
    exhausted: bool = False
    known: dict[str, Reading] = field(default_factory=dict)


@dataclass
class _Round:
    """Candidates that were proposed at once. same_code: of those that are built, all of equal C. found: traces
    with what MetaSchedule takes for their seconds."""

    state: _State
    proposed: Sequence
    same_code: dict[int, list[int]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    found: dict[int, tuple] = field(default_factory=dict)


def score(reading: Reading, objective: str) -> float | None:
    """A reading's figure; None where the candidate has none."""
    if reading.error is not None:
        return None
    return reading.instructions if objective == "instructions" else reading.cycles


class Search:
    """Trials of a model's kernels on a board."""

    def __init__(
        self,
        tasks: Sequence[Task],
        target: tuple[Cpu, Board],
        places: Sequence[Place],
        log: Log,
        folder: Path,
        seed: int = 0,
    ) -> None:
        """target: the board is the one that images are built for. folder: to work in. Measures what is not yet on
        record of the untuned kernels."""
        self._cpu, self._board = target
        self._forms = log.manifest.kernel_forms
        self._log, self._folder, self._seed = log, folder, seed
        self._pool = Pool(places)
        self._number = 0
        self._places = len(places)
        self._compilers = ThreadPoolExecutor(2)
        self._target = tvm.target.Target(TARGET)
        found = [(task, self._kernel(task)) for task in tasks if has_space(task.func)]
        whole = sum(kernel.before * kernel.calls for _, kernel in found)
        log.save()
        self._states = [
            self._state(task, kernel) for task, kernel in found if kernel.before * kernel.calls >= LEAST_SHARE * whole
        ]
        self._before = whole

    def close(self) -> None:
        self._compilers.shutdown(cancel_futures=True)

    def _kernel(self, task: Task) -> Kernel:
        """What is on record of a kernel, with its untuned cost, which is measured where it is not."""
        kernels, key = self._log.manifest.kernels, fingerprint(task.func)
        if key not in kernels:
            bench = Bench(task, self._cpu, self._board, self._folder / key)
            made = self._candidate(task, schedule(task.func))
            image = bench.link([made], [bench.compile(made)])
            ((_, reading),) = self._pool.stream([(image, [0])])
            cost = score(reading, self._log.manifest.objective)
            if reading.error is not None or cost is None:
                raise WorkError(f"{task.name}: the untuned kernel cannot be measured: {reading.error or 'no figure'}")
            kernels[key] = Kernel(task.name, task.calls, float(cost), float(cost))
        return kernels[key]

    def _state(self, task: Task, kernel: Kernel) -> _State:
        key, mod = fingerprint(task.func), workload(task.func)
        context = ms.TuneContext(
            mod=mod,
            target=self._target,
            space_generator=space(task.func),
            task_name=task.name,
            num_threads=1,
            rand_state=self._seed + 1,
        )
        evolution = Evolution(context, self._seed)
        made = self._log.database.commit_workload(mod)
        evolution.learn(
            [
                (record.trace, float(record.run_secs[0]))
                for record in self._log.database.get_all_tuning_records()
                if fingerprint(record.workload.mod["main"]) == key
            ]
        )
        bench = Bench(task, self._cpu, self._board, self._folder / key)
        return _State(task, bench, evolution, made, kernel, kernel.after, untried=kernel.trials == 0)

    def _candidate(self, task: Task, scheduled) -> Candidate:
        self._number += 1
        return candidate(task, scheduled, self._number, self._cpu.features, self._forms)

    def run(self, trials: int, progress: Callable[[SearchStatus], None] = lambda _: None) -> None:
        """Go on until `trials` are on record, those of earlier searches among them, or nothing is left to try."""
        start, first = time.monotonic(), self._log.manifest.trials
        if first < trials:
            progress(self._progress(trials, first, start))
        try:
            for (round_, index), reading in self._pool.stream(self._jobs(trials)):
                if index in round_.texts and not reading.lost:
                    round_.state.known[round_.texts[index]] = reading
                for same in round_.same_code.get(index, [index]):
                    trace = round_.proposed[same].trace
                    round_.found[same] = trace, self._record(round_.state, trace, reading)
                    progress(self._progress(trials, first, start))
        finally:
            self._log.manifest.seconds += time.monotonic() - start
            self._log.save()

    def _jobs(self, trials: int) -> Iterator[Job]:
        """What the pool is to do, round after round. What is proposed follows from the rounds before the last one, for
        which it does not wait; so that it is the same however long trials take."""
        under_way: list[_Round] = []
        missing = trials - self._log.manifest.trials
        while True:
            round_ = self._propose(min(ROUND, missing))
            if round_ is not None:
                missing -= len(round_.proposed)
                under_way.append(round_)
                yield from self._images(round_)
            if not under_way:
                return
            if round_ is None or len(under_way) == UNDER_WAY:
                oldest = under_way.pop(0)
                while len(oldest.found) < len(oldest.proposed):
                    yield None
                self._learn(oldest)

    def _propose(self, count: int) -> _Round | None:
        """Candidates of the task that promises most; None where there are no more."""
        while count > 0 and (state := self._next()) is not None:
            state.untried = False
            if proposed := state.evolution.propose(count):
                return _Round(state, proposed)
            state.exhausted = True
        return None

    def _next(self) -> _State | None:
        """The task that promises most: what it costs, less for each round without a better candidate."""
        open_ = [s for s in self._states if not s.exhausted]
        untried = [s for s in open_ if s.untried]
        if untried:
            return max(untried, key=lambda s: s.kernel.before * s.kernel.calls)
        return max(open_, key=lambda s: s.cost * s.kernel.calls / (1 + s.idle) ** 2, default=None)

    def _learn(self, round_: _Round) -> None:
        state = round_.state
        found = [round_.found[index] for index in range(len(round_.proposed))]
        state.evolution.learn(found)
        best = min(seconds for _, seconds in found) / UNIT
        state.idle = 0 if best < state.cost else state.idle + 1
        state.cost = min(state.cost, best)

    def _images(self, round_: _Round) -> Iterator[Job]:
        """Images of a round's candidates that compile, and readings of those that do not."""
        state, waiting, first = round_.state, [], {}
        for index, one in enumerate(round_.proposed):
            try:
                made = self._candidate(state.task, one.mod["main"])
            except Exception as error:  # TVM's own errors have no common class
                yield (round_, index), Reading(error=f"no C: {str(error).strip().splitlines()[-1]}")
                continue
            text = made.source.replace(made.symbol, "candidate")
            if text in state.known:
                yield (round_, index), state.known[text]
            elif text in first:
                round_.same_code[first[text]].append(index)
            else:
                first[text], round_.texts[index], round_.same_code[index] = index, text, [index]
                waiting.append((index, made, self._compilers.submit(state.bench.compile, made)))
        size = min(IMAGE, -(-ROUND // self._places))
        for at in range(0, len(waiting), size):
            yield from self._image(round_, waiting[at : at + size])

    def _image(self, round_: _Round, waiting: Sequence[tuple[int, Candidate, Future]]) -> Iterator[Job]:
        good, objects = [], []
        for index, made, future in waiting:
            try:
                objects.append(future.result())
                good.append((index, made))
            except InputError:
                raise
            except EmbbertError as error:
                yield (round_, index), Reading(error=str(error))
        names = [(round_, index) for index, _ in good]
        if good:
            try:
                image = round_.state.bench.link([made for _, made in good], objects)
            except WorkError as error:
                yield from ((name, Reading(error=str(error))) for name in names)
                return
            yield image, names

    def _record(self, state: _State, trace, reading: Reading) -> float:
        """Put a trial on record; what MetaSchedule takes for its seconds."""
        manifest, kernel = self._log.manifest, state.kernel
        cost = score(reading, manifest.objective)
        failed = reading.error if cost is None else None
        if cost is None:
            manifest.failures += 1
            self._log.fail(kernel.name, failed or "no figure")
        seconds = [FAILED if cost is None else cost * UNIT]
        self._log.database.commit_tuning_record(
            ms.database.TuningRecord(trace, state.workload, seconds, self._target, None)
        )
        manifest.trials += 1
        kernel.trials += 1
        if cost is not None and cost < kernel.after:
            kernel.after = float(cost)
        self._log.save()
        return seconds[0]

    def _progress(self, asked: int, first: int, start: float) -> SearchStatus:
        manifest, seconds = self._log.manifest, time.monotonic() - start
        rate = (manifest.trials - first) / max(seconds, 1e-9)
        cost = self._before - sum((s.kernel.before - s.kernel.after) * s.kernel.calls for s in self._states)
        left = (asked - manifest.trials) / rate if rate else float("inf")
        return SearchStatus(manifest.trials, asked, manifest.failures, self._before, cost, rate, left)


def random_ids(vocabulary: int, length: int) -> list[int]:
    """Token ids all over the vocabulary, the same each time."""
    return np.random.default_rng(0).integers(0, vocabulary, length).tolist()
