"""Places of what a page draws, in the units of an SVG's view box; the templates write the SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embbert_tvm.data.predictions import reliability
from embbert_tvm.measuring.figures import PackageFigures, layer_of

WIDTH, HEIGHT = 960, 320
LEFT, RIGHT, TOP, BOTTOM = 76, 34, 14, 40  # of a chart's plane
_INNER_WIDTH, _INNER_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
_CHARACTER = 6.6  # of the labels' type


@dataclass(frozen=True)
class Box:
    """A rectangle with what it says: `title` when pointed at, `label` in it where there is room."""

    x: float
    y: float
    width: float
    height: float
    title: str
    label: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A polyline by its points, and where its name stands."""

    name: str
    points: str
    end: float


@dataclass(frozen=True)
class Chart:
    """What stands in a plane: boxes, lines, and ticks along both axes. level: a height that is marked."""

    boxes: tuple[Box, ...] = ()
    lines: tuple[Line, ...] = ()
    dots: tuple[Box, ...] = ()
    across: tuple[Tick, ...] = ()
    up: tuple[Tick, ...] = ()
    level: Tick | None = None


@dataclass(frozen=True)
class Bar:
    """Parts of a memory, side by side, as shares of `whole`."""

    name: str
    total: int
    room: int | None
    parts: tuple[Box, ...]


def thousands(number: int | float | None) -> str:
    """A number as people read it; "not known" for none."""
    return "not known" if number is None else f"{number:,.0f}"


def arena(figures: PackageFigures) -> Chart:
    """Tensors as rectangles over the steps of an inference and the addresses of the arena, its end marked."""
    peak, steps = figures.package.arena_bytes, figures.package.steps
    last = max([len(steps), *(t.last + 1 for t in figures.tensors)])

    def x(step: int) -> float:
        return LEFT + _INNER_WIDTH * step / max(last, 1)

    def y(address: float) -> float:
        return TOP + _INNER_HEIGHT * (1 - address / max(peak, 1))

    boxes = []
    for tensor in sorted(figures.tensors, key=lambda t: -t.bytes):
        width, height = x(tensor.last + 1) - x(tensor.first), y(0) - y(tensor.bytes)
        life = ", ".join(_step_name(figures, n) for n in sorted({tensor.first, tensor.last}))
        title = f"{tensor.name}: {tensor.bytes:,} bytes at {tensor.offset:,}, needed in {life}"
        fits = width > _CHARACTER * len(tensor.name) + 8 and height > 13
        label = tensor.name if fits else ""
        boxes.append(Box(x(tensor.first), y(tensor.offset + tensor.bytes), width, height, title, label))
    across = [Tick(x(n) + (x(n + 1) - x(n)) / 2, str(n)) for n in range(last)] if last <= 40 else []
    up = [Tick(y(peak * part / 4), thousands(peak * part / 4)) for part in range(5)]
    return Chart(tuple(boxes), across=tuple(across), up=tuple(up), level=Tick(y(peak), f"{peak:,} bytes at the peak"))


def _step_name(figures: PackageFigures, number: int) -> str:
    steps = figures.package.steps
    return f"step {number} ({steps[number].name})" if 0 <= number < len(steps) else f"step {number}"


def memory_bar(name: str, parts: Mapping[str, int | None], room: int | None) -> Bar:
    """A memory as a bar of its parts, against the board's where one is known."""
    known = {part: value for part, value in parts.items() if value}
    total = sum(known.values())
    whole, at, boxes = max(room or 0, total, 1), 0.0, []
    for number, (part, value) in enumerate(known.items()):
        width = 100 * value / whole
        boxes.append(Box(at, 0, width, 24, f"{part}: {value:,} bytes", part, f"part{number % 4}"))
        at += width
    return Bar(name, total, room, tuple(boxes))


def work(figures: PackageFigures) -> Chart:
    """Multiplications by the length of the text: of each layer and of all."""
    longest = figures.package.max_length
    lengths = sorted({1, longest, *(longest * n // 24 for n in range(1, 24))} - {0})
    layers: dict[str, list[int]] = {}
    for step in figures.package.steps:
        counts = layers.setdefault(layer_of(step.name), [0] * len(lengths))
        layers[layer_of(step.name)] = [n + (step.macs_at(at) or 0) for n, at in zip(counts, lengths, strict=True)]
    layers = {name: counts for name, counts in layers.items() if any(counts)}
    layers["all"] = [figures.macs_at(length) for length in lengths]
    most = max(layers["all"][-1], 1)

    def x(length: float) -> float:
        return LEFT + _INNER_WIDTH * length / longest

    def y(count: float) -> float:
        return TOP + _INNER_HEIGHT * (1 - count / most)

    lines = [
        Line(name, " ".join(f"{x(at):.1f},{y(n):.1f}" for at, n in zip(lengths, counts, strict=True)), y(counts[-1]))
        for name, counts in layers.items()
    ]
    across = [Tick(x(longest * n / 4), str(longest * n // 4)) for n in range(5)]
    up = [Tick(y(most * n / 4), f"{most * n / 4e6:,.1f} M") for n in range(5)]
    return Chart(lines=tuple(lines), across=tuple(across), up=tuple(up))


def front(points: Sequence[tuple[str, float, float]]) -> Chart:
    """Packages as dots over two costs, and the line of those that no other beats in both."""
    widest, highest = (max([1.0, *(point[axis] for point in points)]) * 1.1 for axis in (1, 2))

    def place(point: tuple[str, float, float]) -> tuple[float, float]:
        return LEFT + _INNER_WIDTH * point[1] / widest, TOP + _INNER_HEIGHT * (1 - point[2] / highest)

    dots = tuple(Box(*place(p), 5, 5, f"{p[0]}: {p[1]:,.0f}; {p[2]:,.2f}", p[0]) for p in points)
    line = " ".join("{:.1f},{:.1f}".format(*place(p)) for p in unbeaten(points))
    across = tuple(Tick(LEFT + _INNER_WIDTH * n / 4, thousands(widest * n / 4)) for n in range(5))
    up = tuple(Tick(TOP + _INNER_HEIGHT * (1 - n / 4), f"{highest * n / 4:,.2f}") for n in range(5))
    return Chart(dots=dots, lines=(Line("front", line, 0.0),), across=across, up=up)


def unbeaten(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """The points that no other is at most equal to in both costs and below in one, by the first cost."""
    found: list[tuple[str, float, float]] = []
    for point in sorted(points, key=lambda p: (p[1], p[2])):
        if not found or point[2] < found[-1][2]:
            found.append(point)
    return found


def calibration(probabilities: Sequence[float], right: Sequence[bool], bins: int = 10) -> Chart:
    """The share of right answers by their probability, in bins, beside the diagonal where both are equal."""
    boxes, width = [], _INNER_WIDTH / bins
    for number, share, count in reliability(probabilities, right, bins):
        height = _INNER_HEIGHT * share
        title = f"{number / bins:.0%} to {(number + 1) / bins:.0%}: {share:.1%} right of {count}"
        boxes.append(Box(LEFT + width * number, TOP + _INNER_HEIGHT - height, width, height, title, str(count)))
    diagonal = Line("as it says", f"{LEFT},{TOP + _INNER_HEIGHT} {LEFT + _INNER_WIDTH},{TOP}", TOP)
    across = tuple(Tick(LEFT + _INNER_WIDTH * n / 4, f"{n / 4:.0%}") for n in range(5))
    up = tuple(Tick(TOP + _INNER_HEIGHT * (1 - n / 4), f"{n / 4:.0%}") for n in range(5))
    return Chart(tuple(boxes), (diagonal,), across=across, up=up)
