"""The models that a training tried, what each takes on a device, and which of them a user is given."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.data.dataset import Example
from embbert_tvm.errors import EmbbertError, InputError, WorkError
from embbert_tvm.progress import task

BOARD = "nucleo_h743zi2"  # that costs are told of
_WITHIN = 0.01  # of the best accuracy: the smallest that near is pointed out


@dataclass(frozen=True)
class Cost:
    """Bytes of flash, and instructions and milliseconds for one text; None where the tools to count are missing."""

    bytes: int
    instructions: int | None
    milliseconds: float | None


@dataclass(frozen=True)
class Limits:
    """What a model may take at most; None for no limit. size: bytes of flash; time: milliseconds for a text."""

    size: int | None = None
    time: float | None = None

    def __bool__(self) -> bool:
        return self.size is not None or self.time is not None

    def allow(self, cost: Cost | None) -> bool:
        if not self:
            return True
        if cost is None or (self.time is not None and cost.milliseconds is None):
            return False
        in_size = self.size is None or cost.bytes <= self.size
        return in_size and (self.time is None or (cost.milliseconds or 0) <= self.time)


@dataclass(frozen=True)
class Candidate:
    """A model, its accuracy on dev, and its cost, None where it was not measured."""

    name: str
    accuracy: float
    cost: Cost | None = None


Measure = Callable[[Path, Example], Cost]  # of a model folder, for a text


def best_within(candidates: Sequence[Candidate], limits: Limits) -> Candidate:
    """The most accurate candidate that the limits allow, the first of equals. WorkError where none is allowed."""
    allowed = [x for x in candidates if limits.allow(x.cost)]
    if not allowed:
        tried = "; ".join(f"{x.name} {_told(x.cost)}" for x in candidates)
        raise WorkError(f"nothing that was tried is within the limits: {tried}: allow more, or try a smaller --preset")
    return max(allowed, key=lambda x: x.accuracy)


def smallest_near_best(candidates: Sequence[Candidate]) -> Candidate | None:
    """The smallest candidate within a point of the best; None where costs are not known."""
    best = max(x.accuracy for x in candidates)
    near = [x for x in candidates if x.accuracy >= best - _WITHIN - 1e-9 and x.cost is not None]
    return min(near, key=lambda x: x.cost.bytes if x.cost else 0, default=None)


def _told(cost: Cost | None) -> str:
    if cost is None:
        return "not measured"
    time = "time not known" if cost.milliseconds is None else f"{cost.milliseconds:.2f} ms"
    return f"{cost.bytes:,} bytes, {time}"


def measure_folder(folder: Path, example: Example) -> Cost:
    """A model folder's cost for a text: compiled in int8 for the CPU of `BOARD`, its instructions counted by QEMU."""
    from embbert_tvm import api
    from embbert_tvm.device.estimate import estimate
    from embbert_tvm.device.places import open_place
    from embbert_tvm.target import load_board, load_cpu

    board = load_board(BOARD)
    with tempfile.TemporaryDirectory(prefix="embbert-") as scratch:
        package = api.compile(folder, board.cpu, Path(scratch) / "package")
        assert package.report is not None
        flash = package.report.flash
        size = flash.weights if flash.total is None else flash.total
        try:
            with open_place("qemu", package.contents) as device:
                count = device.classify(example.text, example.text_pair).run.instructions
        except InputError:  # the toolchain or QEMU is not installed
            return Cost(size, None, None)
    known = estimate(board, load_cpu(board.cpu))
    return Cost(size, count, None if known is None or count is None else known.milliseconds(count))


def median_text(examples: Sequence[Example]) -> Example:
    """The example of median length."""
    return sorted(examples, key=lambda x: len(x.text) + len(x.text_pair or ""))[len(examples) // 2]


def measured(measure: Measure | None, folder: Path, example: Example, on_note: Callable[[str], None]) -> Cost | None:
    """The cost of a folder, or a note why it is not known."""
    if measure is None:
        return None
    try:
        with task("compiling, and counting instructions"):
            return measure(folder, example)
    except EmbbertError as error:
        on_note(f"the cost of {folder.name} is not known: {error}")
        return None
