"""Places in one arena for blocks that live at different times: the smallest arena there is.

The problem is dynamic storage allocation with known lives (Garey and Johnson, Computers and Intractability, SR2),
which is NP-hard. First fit in several orders comes first; where it needs no more than the most bytes that live at one
step, it is optimal. Otherwise a search decides whether a smaller arena suffices. Its canonical solutions (no block can
sink, blocks placed upwards), its dominance rule, its splitting into parts and its trying of several orders are those of
MiniMalloc (Moffitt, ASPLOS 2023, https://doi.org/10.1145/3623278.3624752); the bound is that of one machine with
release times (Jackson's rule); blocks that fit wherever the others lie are left out of the search, and what it found
out is remembered.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

ALIGN = 16
# How many items the nodes of a search may hold, together, before it settles for the best plan it knows: no clock, so
# that the same blocks give the same plan on every machine. Some 10 seconds.
EFFORT = 2_000_000
# How often first fit reorders what it places.
_ROUNDS = 50
# The first search in one order may take as much as this, each later round four times as much.
_FIRST_EFFORT = 20_000
# A part of the problem with more blocks than this is not searched: the search is as deep as it has blocks.
_MOST_BLOCKS = 300


@dataclass(frozen=True)
class Allocation:
    """bytes of memory that must keep their content from step `first` to step `last`, both included."""

    name: str
    bytes: int
    first: int
    last: int
    offset: int = -1

    def meets(self, other: Allocation) -> bool:
        """Whether both live at some step."""
        return self.first <= other.last and other.first <= self.last

    @property
    def end(self) -> int:
        return self.offset + self.bytes


@dataclass(frozen=True)
class MemoryPlan:
    """blocks: placed, in the order given; peak: the arena's bytes; lower_bound: no plan is smaller; effort: as EFFORT.

    optimal: whether peak is lower_bound. If not, the search was cut short.
    """

    blocks: tuple[Allocation, ...]
    peak: int
    lower_bound: int
    effort: int

    @property
    def optimal(self) -> bool:
        return self.peak == self.lower_bound


def plan(blocks: Sequence[Allocation], align: int = ALIGN) -> tuple[list[Allocation], int]:
    """The blocks with their offsets, in the order given, and the arena's size: `solve` in short."""
    solved = solve(blocks, align)
    return list(solved.blocks), solved.peak


def lower_bound(blocks: Sequence[Allocation], align: int = ALIGN) -> int:
    """No plan is smaller: the most bytes that live at one step."""
    return align * _most_alive(_items(blocks, align))


def solve(blocks: Sequence[Allocation], align: int = ALIGN, effort: int = EFFORT) -> MemoryPlan:
    """Places for the blocks in the smallest arena. No two blocks that meet share a byte; offsets and size are aligned.

    The search ends after some `effort` (see MemoryPlan.optimal). The same blocks in the same order give the same plan.
    """
    items = _items(blocks, align)
    offsets = [0] * len(blocks)
    bound, peak, left = _most_alive(items), 0, effort
    for part in _split(items):
        places = _first_fits(part, bound)
        if _peak(part, places) > bound:
            places, proven, left = _squeeze(part, places, bound, left)
            bound = max(bound, proven)
        peak = max(peak, _peak(part, places))
        for item in part:
            offsets[item.index] = places[item.index] * align
    placed = tuple(replace(b, offset=o) for b, o in zip(blocks, offsets, strict=True))
    return MemoryPlan(placed, peak * align, bound * align, effort - left)


@dataclass(frozen=True)
class _Item:
    """A block in units of the alignment: sizes that are rounded up keep all offsets aligned."""

    index: int
    size: int
    first: int
    last: int

    def meets(self, other: _Item) -> bool:
        return self.first <= other.last and other.first <= self.last


# Offsets of items by their index.
_Places = dict[int, int]

_ORDERS: tuple[Callable[[_Item], tuple[Any, ...]], ...] = (
    lambda i: (-i.size, i.first),
    lambda i: (-i.size * (i.last - i.first + 1), i.first),
    lambda i: (i.first, -i.size),
    lambda i: (-i.last, -i.size),
    lambda i: (i.first - i.last, -i.size),
)


def _items(blocks: Sequence[Allocation], align: int) -> list[_Item]:
    """All blocks that take room, by the step of their birth."""
    items = [_Item(n, -(-b.bytes // align), b.first, b.last) for n, b in enumerate(blocks) if b.bytes > 0]
    return sorted(items, key=lambda i: (i.first, i.index))


def _most_alive(items: Sequence[_Item]) -> int:
    return max((sum(i.size for i in items if i.first <= s <= i.last) for s in {i.first for i in items}), default=0)


def _split(items: Iterable[_Item]) -> list[list[_Item]]:
    """Items, by birth, in parts that never live at the same time."""
    parts: list[list[_Item]] = []
    last = None
    for item in items:
        if last is None or item.first > last:
            parts.append([])
            last = item.last
        parts[-1].append(item)
        last = max(last, item.last)
    return parts


def _peak(items: Iterable[_Item], places: _Places) -> int:
    return max((places[i.index] + i.size for i in items), default=0)


def _first_fits(items: Sequence[_Item], bound: int) -> _Places:
    """The best of first fit in several orders, or the first that meets the bound.

    Each order is then bettered by squeaky wheels (Joslin and Clements, Journal of AI Research 10, 1999,
    https://doi.org/10.1613/jair.561): what lies highest comes first in the next round.
    """
    best: _Places = {}
    queues = [sorted(items, key=lambda i: (*order(i), i.index)) for order in _ORDERS]
    for _ in range(_ROUNDS):
        for n, queue in enumerate(queues):
            places = _first_fit(queue)
            peak = _peak(items, places)
            if not best or peak < _peak(items, best):
                best = places
            if peak <= bound:
                return places
            queues[n] = sorted(queue, key=lambda i: places[i.index] + i.size < peak)
    return best


def _first_fit(items: Iterable[_Item], places: _Places | None = None, there: Sequence[_Item] = ()) -> _Places:
    """Places of items, each the lowest that those before it and those that are there already leave free."""
    places = dict(places or {})
    placed = sorted((places[i.index], i.index, i) for i in there)
    for item in items:
        offset = 0
        for at, _, other in placed:
            if at + other.size > offset and other.first <= item.last and item.first <= other.last:
                if offset + item.size <= at:
                    break
                offset = at + other.size
        places[item.index] = offset
        insort(placed, (offset, item.index, item))
    return places


def _squeeze(items: Sequence[_Item], places: _Places, bound: int, effort: int) -> tuple[_Places, int, int]:
    """Better places, what no places can be better than, and what is left of the effort.

    The bound is tried first, as most often it suffices. The peak of a plan where no block can sink is a sum of sizes,
    so only such sums are tried then, by bisection. A capacity that takes half of what is left is given up: too small
    for all we know, but that proves nothing.
    """
    capacities = [bound, *_sums([i.size for i in items], bound + 1, _peak(items, places))]
    # Of those below `low` none seems to suffice; `high` does. Those below `proven` do not.
    proven = low = middle = 0
    high = len(capacities) - 1
    while low < high:
        search = _Search(items, capacities[middle])
        found = search.run(effort // 2)
        effort -= search.effort
        if found is not None:
            places, high = found, bisect_left(capacities, _peak(items, found))
        else:
            low = middle + 1
            proven = low if search.finished else proven
        middle = (low + high) // 2
    return places, capacities[proven], effort


# In which order the search tries items that may lie equally low: by size, number of cliques, and length of life.
_RANKS: tuple[Callable[[int, int, int], tuple[Any, ...]], ...] = (
    lambda size, cliques, steps: (-cliques, -size),
    lambda size, cliques, steps: (-size * steps,),
    lambda size, cliques, steps: (-size * cliques, -size),
)


def _sums(sizes: Iterable[int], least: int, most: int) -> list[int]:
    """What sizes can add up to, from `least` to `most`."""
    sums = 1
    for size in sizes:
        sums |= sums << size & (2 << most) - 1
    return [least + n for n, bit in enumerate(f"{sums >> least:b}"[::-1]) if bit == "1"]


class _OutOfEffort(Exception):
    pass


class _Search:
    """Whether items fit in a capacity."""

    def __init__(self, items: Sequence[_Item], capacity: int) -> None:
        self.capacity = capacity
        self.effort, self.limit, self.finished = 0, 0, False
        self.items, self.easy = _harder(items, capacity)
        cliques = _cliques(self.items)
        count = range(len(self.items))
        self.sizes = [i.size for i in self.items]
        self.spans = [_span([n for n, clique in enumerate(cliques) if k in clique]) for k in count]
        self.meets = [[j for j in count if j != k and self.items[k].meets(self.items[j])] for k in count]
        self.cliques = len(cliques)
        alike = [(self.sizes[k], self.spans[k]) for k in count]
        self.duplicate = [next((j for j in reversed(range(k)) if alike[j] == alike[k]), None) for k in count]
        self.rank: list[tuple[Any, ...]] = []
        self.known: dict[tuple[Any, ...], _Places | None] = {}

    def run(self, effort: int) -> _Places | None:
        """Places, or None if there are none or, if not `finished`, none were found.

        Restarts, as what one order of choices is lost in another often sees at once; all share what is known.
        """
        step = _FIRST_EFFORT
        while len(self.items) <= _MOST_BLOCKS and self.effort < effort:
            for order in _RANKS:
                self.limit = min(self.effort + step, effort)
                self.rank = [
                    order(item.size, len(span), item.last - item.first + 1)
                    for item, span in zip(self.items, self.spans, strict=True)
                ]
                try:
                    found = self.parts(tuple(range(len(self.items))), [0] * len(self.items), (0, -1))
                except _OutOfEffort:
                    continue
                self.finished = True
                return found if found is None else self.complete(found)
            step *= 4
        return None

    def complete(self, found: _Places) -> _Places:
        places = {item.index: found[k] for k, item in enumerate(self.items)}
        return _first_fit(self.easy, places, self.items)

    def parts(self, rest: tuple[int, ...], floors: list[int], after: tuple[int, int]) -> _Places | None:
        """Places for the items `rest`, above their floors and, ordered by place and number, after `after`."""
        places: _Places = {}
        for part in self.split(rest):
            key = (part, tuple([floors[k] for k in part]), after)
            if key not in self.known:
                self.known[key] = self.branch(part, floors, after)
            found = self.known[key]
            if found is None:
                return None
            places |= found
        return places

    def branch(self, rest: tuple[int, ...], floors: list[int], after: tuple[int, int]) -> _Places | None:
        if self.effort >= self.limit:
            raise _OutOfEffort
        self.effort += len(rest)
        if not self.may_fit(rest, floors, after[0]):
            return None
        # Another item that fits below a place would sink there: such a plan is no canonical one.
        ceiling = min(floors[k] + self.sizes[k] for k in rest)
        choices = [k for k in rest if floors[k] < ceiling and (floors[k], k) > after]
        for k in sorted(choices, key=lambda k: (floors[k], self.rank[k])):
            # Items alike lie above each other in the order of their numbers.
            if self.duplicate[k] in rest:
                continue
            offset, end = floors[k], floors[k] + self.sizes[k]
            raised = floors.copy()
            for other in self.meets[k]:
                raised[other] = max(raised[other], end)
            found = self.parts(tuple([j for j in rest if j != k]), raised, (offset, k))
            if found is not None:
                return {k: offset, **found}
        return None

    def may_fit(self, rest: tuple[int, ...], floors: list[int], base: int) -> bool:
        """A bound for each clique: its items above each other as early as their floors allow."""
        tops = [0] * self.cliques
        for floor, k in sorted([(max(floors[k], base), k) for k in rest]):
            size = self.sizes[k]
            for clique in self.spans[k]:
                top = max(tops[clique], floor) + size
                if top > self.capacity:
                    return False
                tops[clique] = top
        return True

    def split(self, rest: tuple[int, ...]) -> list[tuple[int, ...]]:
        parts: list[list[int]] = []
        end = -1
        for k in rest:
            if self.spans[k].start >= end:
                parts.append([])
            parts[-1].append(k)
            end = max(end, self.spans[k].stop)
        return [tuple(part) for part in parts]


def _span(numbers: list[int]) -> range:
    return range(numbers[0], numbers[-1] + 1)


def _harder(items: Sequence[_Item], capacity: int) -> tuple[list[_Item], list[_Item]]:
    """Items without those that find room wherever the others lie; and those, in the order to place them.

    The n items that an item meets leave it no room only if all of the n + 1 gaps around them are too small.
    """
    left, easy = list(items), []
    found = True
    while found:
        found = False
        for item in left:
            others = [o.size for o in left if o is not item and o.meets(item)]
            if sum(others) + (len(others) + 1) * (item.size - 1) < capacity:
                left.remove(item)
                easy.append(item)
                found = True
                break
    return left, easy[::-1]


def _cliques(items: Sequence[_Item]) -> list[set[int]]:
    """The largest sets of items (by position) that live at one step, by time. Items come by birth."""
    cliques: list[set[int]] = []
    for step in sorted({i.last for i in items}):
        alive = {k for k, i in enumerate(items) if i.first <= step <= i.last}
        if not cliques or not alive <= cliques[-1]:
            cliques.append(alive)
    return cliques
