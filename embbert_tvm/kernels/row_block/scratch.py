"""Where the values of a block lie in its operand buffer, shared by live ranges.

Sources that one product reads side by side must lie side by side. A softmax's weights are as many columns as the text
has tokens: they come last, above what lives with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.row_block.spec import (
    Attend,
    Gate,
    HalfAttend,
    HalfLinear,
    HalfWindow,
    Linear,
    Load,
    Pool,
    PoolRows,
    Recurrence,
    Rescale,
    RowBlock,
    Save,
    Scan,
    Stage,
    Window,
)

# Ticks of a stage: it reads, works, and writes.
_TICKS = 4
_READ, _WORK, _WRITE, _END = range(_TICKS)


class UnsharedError(Exception):
    """Two products want the same value beside different others."""


@dataclass(frozen=True)
class Place:
    """columns: of the operand buffer, from `first` on, of the value or stage `what`; born, dies: ticks."""

    what: object
    first: int
    columns: int
    born: int
    dies: int


@dataclass(frozen=True)
class Scratch:
    """values: the first column of each. temporaries: of a stage that needs one, by its number. weights: of each Attend.
    columns: that are there for any length; wide_columns: of int16 values, which lie apart. after_text: how many more
    than the text has tokens, None where nothing depends on that."""

    values: dict[int, int]
    temporaries: dict[int, int]
    weights: dict[int, int]
    columns: int
    wide_columns: int
    after_text: int | None


@dataclass
class _Item:
    """Values side by side: (value or stage number, column relative to the first, columns, born, dies)."""

    parts: list[tuple[object, int, int, int, int]] = field(default_factory=list)


def width(parts: tuple[int, ...], isa: Isa) -> int:
    """Columns that parts take with their padding."""
    return sum(isa.padded(p) for p in parts)


def reads(stage: Stage) -> list[int]:
    """The values that a stage reads."""
    if isinstance(stage, Linear):
        return [*stage.sources, *(r for r in stage.residuals if isinstance(r, int))]
    if isinstance(stage, HalfLinear):
        return [*stage.sources, *stage.residuals]
    if isinstance(stage, (Attend, HalfAttend)):
        return [stage.query]
    if isinstance(stage, Gate):
        return [stage.left, stage.right]
    if isinstance(stage, Scan):
        return [stage.u, stage.step, stage.into, stage.out_of]
    if isinstance(stage, (Rescale, Pool, PoolRows, Recurrence, Window, HalfWindow)):
        return [] if stage.source is None else [stage.source]
    return [stage.value] if isinstance(stage, Save) else []


def writes(stage: Stage) -> int | None:
    """The value that a stage writes."""
    return None if isinstance(stage, (Save, Pool, PoolRows)) else stage.value


def overwritable(stage: Stage) -> list[int]:
    """The values that a stage reads element by element, each before it writes the same element of its own value, which
    may therefore lie exactly in the place of one."""
    if isinstance(stage, Linear):
        return [r for r in stage.residuals if isinstance(r, int) and r not in stage.sources]
    if isinstance(stage, Gate):
        return [stage.left, stage.right]
    if isinstance(stage, Scan):
        return [stage.u, stage.step]
    if isinstance(stage, Window) and stage.source is not None and stage.expansion == 1:
        return [stage.source]
    return []


def temporary(stage: Stage, isa: Isa) -> int:
    """Columns that a stage needs for itself: the block that a result for a tensor alone passes through."""
    if isinstance(stage, HalfLinear):
        return isa.padded(stage.n) if stage.value is None else 0
    if not isinstance(stage, Linear) or stage.value is not None or not isa.fills_blocks:
        return 0
    direct = stage.epilogue.name in ("rms_norm", "dequantize", "requantize_wide")
    return 0 if direct else width(stage.n, isa)


def in_place(block: RowBlock, isa: Isa) -> dict[int, int]:
    """The tensors, by the values that are read where they lie in these."""
    loads = [s for s in block.stages if isinstance(s, Load)] if isa.reads_in_place else []
    return {s.value: s.tensor for s in loads if block.tensors[s.tensor].interleaved}


def dot_columns(stage: Linear, block: RowBlock, isa: Isa) -> int:
    """The k of a product's weight: of its sources with their padding."""
    return isa.dot_columns(sum(width(block.values[s].parts, isa) for s in stage.sources))


def share(block: RowBlock, isa: Isa) -> Scratch:
    """Place every value. Raises UnsharedError where one cannot lie where its readers want it."""
    born: dict[int, int] = {}
    dies: dict[int, int] = {}
    for number, stage in enumerate(block.stages):
        start = number * _TICKS
        attends = isinstance(stage, (Attend, HalfAttend))
        one_head = attends and len(block.values[stage.query].parts) == 1
        for value in reads(stage):
            dies[value] = start + (_READ if one_head else _END)
        if (made := writes(stage)) is not None:
            born[made] = start + (_WRITE if one_head else _READ)
            dies.setdefault(made, start + _END)
    items = _items(block, isa, born, dies)
    shared = _shared(block, dies)
    placed: list[Place] = []
    wide: list[Place] = []
    values: dict[int, int] = {}
    temporaries: dict[int, int] = {}
    for item in items:
        is_wide = all(isinstance(what, int) and block.values[what].dtype == "int16" for what, *_ in item.parts)
        taken = wide if is_wide else placed
        first = _first_fit(item, taken, isa.columns, shared)
        for what, offset, columns, start, end in item.parts:
            taken.append(Place(what, first + offset, columns, start, end))
            if isinstance(what, tuple):
                temporaries[what[0]] = first + offset
            else:
                values[what] = first + offset
    columns = max((p.first + p.columns for p in placed), default=0)
    for stage in block.stages:
        if isinstance(stage, Linear) and stage.sources:
            # A product may read columns past its operand, which meet weights of 0.
            columns = max(columns, values[stage.sources[0]] + dot_columns(stage, block, isa))
    weights: dict[int, int] = {}
    for number, stage in enumerate(block.stages):
        if isinstance(stage, Attend):
            # Heads share the weights' place; with one head the queries are read before they are written.
            at = number * _TICKS + _WORK, number * _TICKS + _END
            lives = [p.first + p.columns for p in placed if p.born <= at[1] and p.dies >= at[0]]
            weights[number] = max(lives, default=0)
    wide_columns = max((p.first + p.columns for p in wide), default=0)
    return Scratch(values, temporaries, weights, columns, wide_columns, max(weights.values(), default=None))


def _items(block: RowBlock, isa: Isa, born: dict[int, int], dies: dict[int, int]) -> list[_Item]:
    """Values that must lie side by side, then all others, as they come."""
    found: list[_Item] = []
    grouped: set[int] = set(in_place(block, isa))
    for stage in block.stages:
        if not isinstance(stage, Linear) or len(stage.sources) < 2:
            continue
        if grouped & set(stage.sources) or len(set(stage.sources)) != len(stage.sources):
            raise UnsharedError("a value would have to lie beside several others")
        item, offset = _Item(), 0
        for value in stage.sources:
            columns = width(block.values[value].parts, isa)
            item.parts.append((value, offset, columns, born[value], dies[value]))
            offset += columns
        grouped |= set(stage.sources)
        found.append(item)
    for number, stage in enumerate(block.stages):
        made = writes(stage)
        if made is not None and made not in grouped:
            grouped.add(made)
            found.append(_Item([(made, 0, width(block.values[made].parts, isa), born[made], dies[made])]))
        if columns := temporary(stage, isa):
            at = number * _TICKS
            found.append(_Item([((number,), 0, columns, at + _READ, at + _END)]))
    return found


def _shared(block: RowBlock, dies: dict[int, int]) -> set[frozenset]:
    """Pairs of values of which one may take the place of the other: it is made of it, element by element, by the last
    stage that reads it."""
    pairs = set()
    for number, stage in enumerate(block.stages):
        if (made := writes(stage)) is None:
            continue
        for value in overwritable(stage):
            ends = dies[value] < (number + 1) * _TICKS
            if ends and block.values[value] == block.values[made]:
                pairs.add(frozenset((value, made)))
    return pairs


def _first_fit(item: _Item, placed: list[Place], step: int, shared: set[frozenset]) -> int:
    first = 0
    while True:
        clash = [
            p
            for what, offset, columns, born, dies in item.parts
            for p in placed
            if p.born <= dies
            and p.dies >= born
            and first + offset < p.first + p.columns
            and p.first < first + offset + columns
            and not (frozenset((what, p.what)) in shared and p.first == first + offset)
        ]
        if not clash:
            return first
        first += step
