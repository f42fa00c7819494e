"""A listener to progress that keeps what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class _Bar:
    said: list[tuple[int, int, str]]

    def reach(self, done: int, total: int, note: str = "") -> None:
        self.said.append((done, total, note))

    def close(self) -> None:
        pass


@dataclass
class Heard:
    """tasks: by what they do, each (done, total, note) that was said; notes: the lines."""

    tasks: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def begin(self, what: str, unit: str, total: int | None) -> _Bar:
        return _Bar(self.tasks.setdefault(what, []))

    def note(self, text: str) -> None:
        self.notes.append(text)
