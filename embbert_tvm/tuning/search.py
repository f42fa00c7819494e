"""The search: MetaSchedule proposes candidates, places measure them, and each is on record as soon as it is measured.

MetaSchedule's own loop records a batch when all of it is done; here a search that is killed has lost no trial.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from embbert_tvm.tuning.measure import Place, Reading, measure
from embbert_tvm.tuning.space import DecisionFeatures, has_space, space
from embbert_tvm.tuning.task import Task, workload

ROUND = 16  # candidates of a task between two trainings of the cost model
IMAGE = 4  # candidates in an image
LEAST_SHARE = 0.002  # of a model's cost: a kernel below is not worth a trial
FAILED = 1e10  # what MetaSchedule notes as the seconds of a candidate that has none


@dataclass(frozen=True)
class Progress:
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
    key: str
    bench: Bench
    evolution: Evolution
    workload: ms.database.Workload
    kernel: Kernel
    exhausted: bool = False
    idle: int = 0  # rounds since the best was found
    known: dict[str, Reading] = field(default_factory=dict)


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
        cpu: Cpu,
        board: Board,
        places: Sequence[Place],
        log: Log,
        folder: Path,
        seed: int = 0,
    ) -> None:
        """folder: to work in. Measures what is not yet on record of the untuned kernels."""
        self._cpu, self._board, self._log, self._folder, self._seed = cpu, board, log, folder, seed
        self._pool = _Pool(places)
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
            ((_, reading),) = self._pool.run([(image, [0])])
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
        model = ms.cost_model.XGBModel(
            extractor=DecisionFeatures(), num_warmup_samples=ROUND, num_tuning_cores=1, tree_method="hist"
        )
        evolution = Evolution(context, model, self._seed)
        made = self._log.database.commit_workload(mod)
        evolution.learn(
            [
                (record.trace, float(record.run_secs[0]))
                for record in self._log.database.get_all_tuning_records()
                if fingerprint(record.workload.mod["main"]) == key
            ]
        )
        return _State(task, key, Bench(task, self._cpu, self._board, self._folder / key), evolution, made, kernel)

    def _candidate(self, task: Task, scheduled) -> Candidate:
        self._number += 1
        return candidate(task, scheduled, self._number, self._cpu.features)

    def run(self, trials: int, progress: Callable[[Progress], None] = lambda _: None) -> None:
        """Go on until `trials` are on record, those of earlier searches among them, or nothing is left to try."""
        start, first = time.monotonic(), self._log.manifest.trials
        while self._log.manifest.trials < trials and (state := self._next()) is not None:
            self._round(state, trials, lambda: progress(self._progress(trials, first, start)))
        self._log.manifest.seconds += time.monotonic() - start
        self._log.save()

    def _next(self) -> _State | None:
        """The task that promises most: what it costs, less for each round without a better candidate."""
        open_ = [s for s in self._states if not s.exhausted]
        untried = [s for s in open_ if s.kernel.trials == 0]
        if untried:
            return max(untried, key=lambda s: s.kernel.before * s.kernel.calls)
        return max(open_, key=lambda s: s.kernel.after * s.kernel.calls / (1 + s.idle) ** 2, default=None)

    def _round(self, state: _State, trials: int, tell: Callable[[], None]) -> None:
        proposed = state.evolution.propose(min(ROUND, trials - self._log.manifest.trials))
        if not proposed:
            state.exhausted = True
            return
        best = state.kernel.after
        found = []
        for index, reading in self._measured(state, proposed):
            found.append((proposed[index].trace, self._record(state, proposed[index], reading)))
            tell()
        state.evolution.learn(found)
        state.idle = 0 if state.kernel.after < best else state.idle + 1

    def _measured(self, state: _State, proposed: Sequence):
        """(index, reading) of candidates as they come in, those that make no C first."""
        made: dict[int, Candidate] = {}
        same: dict[str, list[int]] = {}
        for index, one in enumerate(proposed):
            try:
                found = self._candidate(state.task, one.mod["main"])
            except Exception as error:  # TVM's own errors have no common class
                yield index, Reading(error=f"no C: {str(error).strip().splitlines()[-1]}")
                continue
            text = found.source.replace(found.symbol, "candidate")
            if text in state.known:
                yield index, state.known[text]
            elif text in same:
                same[text].append(index)
            else:
                same[text], made[index] = [index], found
        texts = {indices[0]: (text, indices) for text, indices in same.items()}
        for index, reading in self._pool.stream(self._images(state, made)):
            text, indices = texts[index]
            if not reading.lost:
                state.known[text] = reading
            for twin in indices:
                yield twin, reading

    def _images(self, state: _State, made: dict[int, Candidate]):
        """Jobs of the pool: images of candidates that compile, and readings of those that do not."""
        size = max(1, min(IMAGE, -(-len(made) // (2 * self._places))))
        compiled = [(i, c, self._compilers.submit(state.bench.compile, c)) for i, c in made.items()]
        for at in range(0, len(compiled), size):
            good, objects = [], []
            for index, one, future in compiled[at : at + size]:
                try:
                    objects.append(future.result())
                    good.append((index, one))
                except InputError:
                    raise
                except EmbbertError as error:
                    yield index, Reading(error=str(error))
            if good:
                try:
                    image = state.bench.link([one for _, one in good], objects)
                except WorkError as error:
                    for index, _ in good:
                        yield index, Reading(error=str(error))
                    continue
                yield image, [index for index, _ in good]

    def _record(self, state: _State, proposed, reading: Reading) -> float:
        """Put a trial on record; what MetaSchedule takes for its seconds."""
        manifest, kernel = self._log.manifest, state.kernel
        cost = score(reading, manifest.objective)
        failed = reading.error if cost is None else None
        if cost is None:
            manifest.failures += 1
            self._log.fail(kernel.name, failed or "no figure")
        seconds = [FAILED if cost is None else cost * UNIT]
        self._log.database.commit_tuning_record(
            ms.database.TuningRecord(proposed.trace, state.workload, seconds, self._target, None)
        )
        manifest.trials += 1
        kernel.trials += 1
        if cost is not None and cost < kernel.after:
            kernel.after = float(cost)
        self._log.save()
        return seconds[0]

    def _progress(self, asked: int, first: int, start: float) -> Progress:
        manifest, seconds = self._log.manifest, time.monotonic() - start
        rate = (manifest.trials - first) / max(seconds, 1e-9)
        cost = self._before - sum((s.kernel.before - s.kernel.after) * s.kernel.calls for s in self._states)
        left = (asked - manifest.trials) / rate if rate else float("inf")
        return Progress(manifest.trials, asked, manifest.failures, self._before, cost, rate, left)


@dataclass
class _Job:
    """Candidates of an image, (number in it, index) each. lost_by: the places that were lost over the first of them,
    which then is the only one."""

    image: Path
    pending: list[tuple[int, int]]
    lost_by: frozenset[int] = frozenset()


class _Jobs:
    """What waits for a place. A job that cost a place is another's, as long as there is another."""

    def __init__(self, places: int) -> None:
        self._living = set(range(places))
        self._jobs: list[_Job] = []
        self._closed = False
        self._changed = threading.Condition()

    def put(self, job: _Job) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def take(self, place: int) -> _Job | None:
        """The next job for a place; None when there will be no more."""
        with self._changed:
            while not self._closed:
                for at, job in enumerate(self._jobs):
                    if place not in job.lost_by or self._living <= job.lost_by:
                        return self._jobs.pop(at)
                self._changed.wait()
        return None

    def leave(self, place: int) -> None:
        """A place takes no more jobs."""
        with self._changed:
            self._living.discard(place)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class _Pool:
    """Places at work, a thread each. What a place leaves undone when it is lost, another does."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places

    def run(self, jobs: Sequence[tuple[Path, list[int]]]) -> list[tuple[int, Reading]]:
        return list(self.stream(iter(jobs)))

    def stream(self, jobs):
        """(index, reading) of every candidate. A job is an image with the indices of its candidates, in their order, or
        an index with a reading that needs no place."""
        work = _Jobs(len(self._places))
        done: queue.Queue = queue.Queue()
        living, waiting = len(self._places), 0

        def serve(number: int, place: Place) -> None:
            while (job := work.take(number)) is not None:
                left = dict(job.pending)
                try:
                    for at, reading in measure(place, job.image, list(left)):
                        if reading.lost:
                            self._lose(work, done, job, number, at, left, reading)
                        else:
                            done.put((left.pop(at), reading))
                except BaseException as error:
                    work.leave(number)
                    work.put(_Job(job.image, list(left.items()), job.lost_by))
                    done.put((None, error))
                    return

        def finished():
            """What the places say next, if it is of a candidate."""
            nonlocal living, waiting
            index, reading = done.get()
            if index is not None:
                waiting -= 1
                yield index, reading
                return
            living -= 1
            if not living:
                raise reading

        for number, place in enumerate(self._places):
            threading.Thread(target=serve, args=(number, place), daemon=True).start()
        try:
            for first, second in jobs:
                if isinstance(second, Reading):
                    yield first, second
                    continue
                work.put(_Job(first, list(enumerate(second))))
                waiting += len(second)
                while not done.empty():
                    yield from finished()
            while waiting:
                yield from finished()
        finally:
            work.close()

    @staticmethod
    def _lose(work: _Jobs, done: queue.Queue, job: _Job, place: int, at: int, left: dict, reading: Reading) -> None:
        """A trial that cost a place is given to another once: either may be at fault. The rest is as it was."""
        index = left.pop(at)
        if job.lost_by:
            done.put((index, Reading(error=f"its place was lost twice: {reading.error}")))
        else:
            work.put(_Job(job.image, [(at, index)], frozenset({place})))
        if left:
            work.put(_Job(job.image, list(left.items())))


def random_ids(vocabulary: int, length: int) -> list[int]:
    """Token ids all over the vocabulary, the same each time."""
    return np.random.default_rng(0).integers(0, vocabulary, length).tolist()
