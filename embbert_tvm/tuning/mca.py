"""Cycles of candidates by models of the core's pipeline (cycles/): each basic block's, times how often QEMU ran it.

An estimate: caches, mispredicted branches and loads from flash are not modelled.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from embbert_tvm.cycles.counting import blocks_of, options, read_counts
from embbert_tvm.cycles.image import Code, read_code
from embbert_tvm.cycles.model import Model, model_of
from embbert_tvm.target import Board, Cpu
from embbert_tvm.tuning.measure import QemuPlace, Reading, Session, find_qemu


class McaSession:
    """Trials in QEMU whose blocks are counted and weighed."""

    def __init__(self, session: Session, counts: Path, code: Code, model: Model) -> None:
        """counts: the file that the plugin writes."""
        self._session, self._counts, self._code, self._model = session, counts, code, model
        self._before: Counter[tuple[int, int]] = Counter()

    def run(self, number: int) -> Reading:
        reading = self._session.run(number)
        if reading.error is not None:
            return reading
        now = read_counts(self._counts, self._code)
        blocks = blocks_of(now - self._before, self._code)
        self._before = now
        return replace(reading, cycles=round(self._model.cycles(blocks)))

    def close(self) -> None:
        self._session.close()
        self._counts.unlink(missing_ok=True)


@dataclass(frozen=True)
class McaPlace:
    """QEMU with a count of what it runs. timed: the board whose flash the core waits for."""

    place: QemuPlace
    cpu: Cpu
    timed: Board

    @functools.cached_property
    def model(self) -> Model:
        """The model of every image: candidates of a task differ in a few blocks."""
        return model_of(self.cpu, self.timed)

    @property
    def name(self) -> str:
        return f"{self.place.name}+mca"

    def open(self, image: Path) -> McaSession:
        counts = image.with_suffix(".counts")
        counting = options(find_qemu(self.place.board), image.parent, counts)
        session = replace(self.place, options=counting).open(image)
        return McaSession(session, counts, read_code(self.cpu, image), self.model)
