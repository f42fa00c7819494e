"""Places at work on a search's images, and what becomes of trials whose place is lost."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from embbert_tvm.tuning.measure import Place, Reading, measure

Job: TypeAlias = "tuple[Path, Sequence[Any]] | tuple[Any, Reading] | None"


@dataclass
class _Job:
    """Candidates of an image, (number in it, name) each. lost_by: the places that were lost over the first of them,
    which then is the only one."""

    image: Path
    pending: list[tuple[int, Any]]
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

    def full(self) -> bool:
        """Whether each place that there is finds another job when it is done with its own."""
        with self._changed:
            return len(self._jobs) >= max(1, len(self._living))

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


class Pool:
    """Places at work, a thread each. What a place leaves undone when it is lost, another does."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places

    def stream(self, jobs: Iterable[Job]) -> Iterator[tuple[Any, Reading]]:
        """(name, reading) of every candidate. A job is an image with the names of its candidates, in their order; or a
        name with a reading that needs no place; or None: there are more once something that was given is read. Jobs
        are requested as places get free."""
        work = _Jobs(len(self._places))
        done: queue.Queue = queue.Queue()
        living, waiting = len(self._places), 0

        def serve(number: int, place: Place) -> None:
            while (job := work.take(number)) is not None:
                left = dict(job.pending)
                try:
                    for at, reading in measure(place, job.image, list(left)):
                        for told in self._told(work, job, number, at, left, reading):
                            done.put(told)
                except BaseException as error:
                    work.leave(number)
                    work.put(_Job(job.image, list(left.items()), job.lost_by))
                    done.put((None, error))
                    return

        def finished() -> Iterator[tuple[Any, Reading]]:
            """What the places say next, if it is of a candidate."""
            nonlocal living, waiting
            name, reading = done.get()
            if name is not None:
                waiting -= 1
                yield name, reading
                return
            living -= 1
            if not living:
                raise reading

        for number, place in enumerate(self._places):
            threading.Thread(target=serve, args=(number, place), daemon=True).start()
        try:
            more = True
            coming = iter(jobs)
            while more or waiting:
                while not done.empty():
                    yield from finished()
                if not more or work.full():
                    yield from finished()
                    continue
                try:
                    job = next(coming)
                except StopIteration:
                    more = False
                    continue
                if job is None:
                    yield from finished()
                elif isinstance(job[1], Reading):
                    yield job
                else:
                    waiting += len(job[1])
                    work.put(_Job(job[0], list(enumerate(job[1]))))
        finally:
            work.close()

    @staticmethod
    def _told(
        work: _Jobs, job: _Job, place: int, at: int, left: dict[int, Any], reading: Reading
    ) -> list[tuple[Any, Reading]]:
        """What there is to tell of a reading: nothing yet where it cost a place.

        Such a trial is given to another once: either may be at fault. The rest is as it was.
        """
        name = left.pop(at)
        if not reading.lost:
            return [(name, reading)]
        if not job.lost_by:
            work.put(_Job(job.image, [(at, name)], frozenset({place})))
        if left:
            work.put(_Job(job.image, list(left.items())))
        return [(name, Reading(error=f"its place was lost twice: {reading.error}"))] if job.lost_by else []
