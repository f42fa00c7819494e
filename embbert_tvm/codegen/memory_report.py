"""The memory plan as text: where every tensor lies and when it lives, and a map of the arena over time."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters, digits

from embbert_tvm.codegen.plan import Allocation

_MARKS = ascii_letters + digits
_FREE = "."
_ROWS, _COLUMNS = 24, 80


def memory_text(blocks: Sequence[Allocation], peak: int, steps: Sequence[str]) -> str:
    """A table of placed blocks and a map of the arena of `peak` bytes; steps: what the program calls, in order."""
    alive = [sum(b.bytes for b in blocks if b.first <= n <= b.last) for n in range(len(steps))]
    fullest = max(range(len(steps)), key=lambda n: alive[n], default=None)
    lines = [f"Arena: {peak:,} bytes for {len(blocks)} tensors and workspaces in {len(steps)} steps."]
    if fullest is not None:
        lines.append(f"Most live at once: {alive[fullest]:,} bytes, in step {fullest}, {steps[fullest]}.")
    if not blocks or peak == 0:
        return "\n".join(lines) + "\n"
    shown = sorted(blocks, key=lambda b: (b.first, b.offset, b.name))
    cells = _cells(shown, peak, len(steps))
    seen = sorted({n for row in cells for n in row if n is not None})
    marks = {n: _MARKS[place % len(_MARKS)] for place, n in enumerate(seen)}
    lines += ["", *_map(cells, marks, peak, len(steps)), "", *_table(shown, marks, steps)]
    return "\n".join(lines) + "\n"


def _cells(blocks: Sequence[Allocation], peak: int, steps: int) -> list[list[int | None]]:
    """The block that fills most of each cell: by row of addresses, lowest first, and by column of steps."""
    rows, columns = min(_ROWS, peak), min(_COLUMNS, steps)
    cells: list[list[int | None]] = [[None] * columns for _ in range(rows)]
    most = [[0] * columns for _ in range(rows)]
    for n, block in enumerate(blocks):
        for row, low, high in _bands(peak, rows, block.offset, block.end):
            for column, first, last in _bands(steps, columns, block.first, block.last + 1):
                if (area := (high - low) * (last - first)) > most[row][column]:
                    most[row][column], cells[row][column] = area, n
    return cells


def _bands(length: int, parts: int, start: int, stop: int) -> list[tuple[int, int, int]]:
    """The part of start..stop in each of so many equal parts of 0..length that it touches: (part, from, to)."""
    bands = []
    for part in range(parts):
        low, high = max(start, length * part // parts), min(stop, length * (part + 1) // parts)
        if low < high:
            bands.append((part, low, high))
    return bands


def _map(cells: Sequence[Sequence[int | None]], marks: dict[int, str], peak: int, steps: int) -> list[str]:
    rows, columns = len(cells), len(cells[0])
    width = max(len("address"), len(f"{peak:,}"))
    lines = [f"{'address':>{width}}  the tensor that fills most of each place; {_FREE} is free"]
    for row in reversed(range(rows)):
        line = "".join(_FREE if n is None else marks[n] for n in cells[row])
        lines.append(f"{peak * row // rows:>{width},} |{line}")
    ruler = "".join(f"{steps * column // columns:<10}" for column in range(0, columns, 10))
    return [*lines, f"{'step':>{width}}  {ruler.rstrip()}"]


def _table(blocks: Sequence[Allocation], marks: dict[int, str], steps: Sequence[str]) -> list[str]:
    rows = [("", "offset", "bytes", "from", "to", "tensor", "last used by")]
    for n, b in enumerate(blocks):
        life = str(b.first), str(b.last), b.name, steps[b.last]
        rows.append((marks.get(n, ""), f"{b.offset:,}", f"{b.bytes:,}", *life))
    widths = [max(len(row[n]) for row in rows) for n in range(7)]
    align = ["<", ">", ">", ">", ">", "<", "<"]
    lines = ("  ".join(f"{c:{a}{w}}" for c, a, w in zip(row, align, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]
