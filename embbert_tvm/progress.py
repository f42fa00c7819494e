"""How far long work has come, said to whoever listens: the command line draws it, and so may a caller of the library.

    import embbert_tvm
    from embbert_tvm import progress

    with progress.heard_by(listener):
        embbert_tvm.compile("models/embbert-snips", "cortex-m7", "build/snips")

Without a listener nothing is said, and saying it costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")


class Reach(Protocol):
    """Says that `done` of `total` is done. note: what else there is to say of it, as the best so far."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


class Bar(Protocol):
    """A listener's side of one task."""

    def reach(self, done: int, total: int, note: str = "") -> None: ...

    def close(self) -> None: ...


class Listener(Protocol):
    """Who is told of tasks, the inner ones of others included, and of single lines."""

    def begin(self, what: str, unit: str, total: int | None) -> Bar: ...

    def note(self, text: str) -> None: ...


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_stage: ContextVar[Callable[[str], None] | None] = ContextVar("stage", default=None)


class heard_by:
    """Tell a listener of all that is done inside.

    No generator: one that is never left would end, and change who listens, whenever it is collected.
    """

    def __init__(self, listener: Listener) -> None:
        self._heard = listener

    def __enter__(self) -> None:
        self._token = _listener.set(self._heard)

    def __exit__(self, *error: object) -> None:
        _listener.reset(self._token)


@contextmanager
def task(what: str, unit: str = "", total: int | None = None) -> Iterator[Reach]:
    """A task, which its caller says how far it is. unit: what is counted, in the plural; total: None while unknown."""
    listener = _listener.get()
    if listener is None:
        yield lambda done, total, note="": None
        return
    bar = listener.begin(what, unit, total)
    try:
        yield bar.reach
    finally:
        bar.close()


def over(items: Sequence[T], what: str, unit: str) -> Iterator[T]:
    """The items, one after the other, as a task."""
    with task(what, unit, len(items)) as reach:
        for done, item in enumerate(items, 1):
            yield item
            reach(done, len(items))


@contextmanager
def stages(what: str, shares: Mapping[str, tuple[str, int]]) -> Iterator[None]:
    """A task of unlike stages, which are entered by `stage`.

    Args:
        shares: of each stage in their order, by the name that `stage` is given: what it does, and its share of the
            time in percent.
    """
    starts, before = {}, 0
    for name, (_, share) in shares.items():
        starts[name], before = before, before + share
    now = 0

    with task(what, "%", 100) as reach:

        def enter(name: str) -> None:
            nonlocal now
            if starts.get(name, -1) >= now:  # a stage may be entered again, for another plan
                now = starts[name]
                reach(now, 100, shares[name][0])

        token = _stage.set(enter)
        try:
            enter(next(iter(shares)))
            yield
        finally:
            _stage.reset(token)


def stage(name: str) -> None:
    """Enter a stage of the task of `stages` that is under way, if any."""
    enter = _stage.get()
    if enter is not None:
        enter(name)


def note(text: str) -> None:
    """Say a line, as an epoch's figures."""
    listener = _listener.get()
    if listener is not None:
        listener.note(text)
