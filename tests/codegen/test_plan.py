"""The memory plan: no two blocks that live at once share a byte, whatever the blocks, in the smallest arena."""

from __future__ import annotations

import json
import random
from itertools import accumulate, combinations, count
from pathlib import Path
from unittest.mock import patch

import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st

from embbert_tvm.codegen import plan as planner
from embbert_tvm.codegen.plan import ALIGN, Allocation, lower_bound, plan, solve

LIFE = st.tuples(st.integers(1, 5000), st.integers(0, 12), st.integers(0, 6))
BLOCKS = st.lists(LIFE, max_size=25).map(
    lambda lives: [Allocation(f"b{n}", size, first, first + span) for n, (size, first, span) in enumerate(lives)]
)
SMALL_LIFE = st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 3))
FEW = st.lists(SMALL_LIFE, max_size=6).map(
    lambda lives: [Allocation(f"b{n}", size, first, first + span) for n, (size, first, span) in enumerate(lives)]
)
# (bytes, first, last) of each block; the least arena, and the most bytes that live at once.
HARD = {
    # Largest first needs 10, as do the other orders of first fit.
    "orders": ([(2, 5, 5), (3, 0, 3), (3, 1, 4), (5, 5, 5), (3, 2, 2), (2, 5, 5), (3, 1, 1), (4, 4, 4)], 9, 9),
    # No plan reaches the most bytes that live at once.
    "gap": (
        [(4, 0, 2), (2, 0, 1), (1, 2, 5), (1, 2, 3), (1, 3, 4), *[(1, 3, 3)] * 3, (4, 4, 6), (1, 5, 5), (2, 6, 6)],
        7,
        6,
    ),
    # A part that needs less than the other, though no sum of its sizes is what the other needs.
    "parts": ([(4, 1, 4), (4, 6, 6), (4, 4, 4), (4, 2, 5), (6, 5, 5), (5, 6, 6), (4, 6, 6)], 13, 13),
    # benchmarks/examples/input.12.csv of github.com/google/minimalloc.
    "minimalloc": ([(4, 0, 2), (4, 3, 8), (4, 0, 8), (4, 9, 20), (4, 0, 20)], 12, 12),
}
PROGRAMS = json.loads((Path(__file__).parent / "programs.json").read_text())


def blocks_of(lives: list[tuple[int, int, int]]) -> list[Allocation]:
    return [Allocation(f"b{n}", *life) for n, life in enumerate(lives)]


def some_blocks(number: int, seed: int) -> list[Allocation]:
    draw = random.Random(seed)
    lives = []
    for _ in range(number):
        first = draw.randrange(number // 3)
        lives.append((draw.randint(1, 60), first, min(number // 3 - 1, first + int(draw.expovariate(1 / 6)))))
    return blocks_of(lives)


def check(placed: list[Allocation], peak: int, align: int) -> None:
    for block in placed:
        assert block.offset >= 0
        assert block.offset % align == 0
        assert block.end <= peak
    for one, other in combinations(placed, 2):
        if one.first <= other.last and other.first <= one.last:
            assert one.end <= other.offset or other.end <= one.offset, (one, other)


def least_arena(blocks: list[Allocation], align: int) -> int:
    """By trying every place of every block in ever larger arenas."""

    def fit(left: list[Allocation], placed: list[Allocation], size: int) -> bool:
        if not left:
            return True
        block, *rest = left
        for offset in range(0, size - block.bytes + 1, align):
            tried = Allocation(block.name, block.bytes, block.first, block.last, offset)
            apart = (tried.end <= p.offset or p.end <= offset or not tried.meets(p) for p in placed)
            if all(apart) and fit(rest, [*placed, tried], size):
                return True
        return False

    alive = max((sum(b.bytes for b in blocks if b.first <= s <= b.last) for s in range(20)), default=0)
    return next(size for size in count(-(-alive // align) * align, align) if fit(blocks, [], size))


def stack(items, bound):
    """A poor stand-in for first fit, so that the search has all to do."""
    tops = accumulate((i.size for i in items), initial=0)
    return {item.index: top for item, top in zip(items, tops, strict=False)}


@settings(max_examples=150, deadline=None)
@given(BLOCKS, st.sampled_from([1, 4, 16]))
def test_blocks_that_meet_do_not_overlap(blocks, align):
    placed, peak = plan(blocks, align)
    assert [(b.name, b.bytes, b.first, b.last) for b in placed] == [(b.name, b.bytes, b.first, b.last) for b in blocks]
    check(placed, peak, align)
    assert peak >= lower_bound(blocks, align)
    assert peak % align == 0
    assert peak <= sum(-(-b.bytes // align) * align for b in blocks)


@given(BLOCKS)
@settings(max_examples=50, deadline=None)
def test_the_same_blocks_give_the_same_plan(blocks):
    assert plan(blocks) == plan(blocks)


@settings(max_examples=150, deadline=None)
@given(FEW, st.sampled_from([1, 2]))
def test_no_arena_is_smaller(blocks, align):
    least = least_arena(blocks, align)
    for first_fits in (planner._first_fits, stack):
        with patch.object(planner, "_first_fits", first_fits):
            solved = solve(blocks, align)
        check(list(solved.blocks), solved.peak, align)
        assert (solved.peak, solved.optimal) == (least, True)


@pytest.mark.parametrize("name", HARD)
def test_the_search_alone_finds_the_best(name, monkeypatch):
    lives, least, _ = HARD[name]
    monkeypatch.setattr(planner, "_first_fits", stack)
    solved = solve(blocks_of(lives), 1)
    check(list(solved.blocks), solved.peak, 1)
    assert (solved.peak, solved.optimal) == (least, True)
    assert least_arena(blocks_of(lives), 1) == least


def test_the_search_may_be_as_deep_as_it_has_blocks():
    most = planner._MOST_BLOCKS
    items = planner._items([Allocation(f"b{n}", 2, 0, 0) for n in range(most)], 1)
    places = planner._Search(items, 2 * most).run(10 * most**2)
    assert sorted(places.values()) == list(range(0, 2 * most, 2))


@pytest.mark.parametrize("align", [1, 16])
@pytest.mark.parametrize("name", HARD)
def test_hard_blocks_are_placed_best(name, align):
    lives, least, most_alive = HARD[name]
    blocks = [Allocation(b.name, align * b.bytes, b.first, b.last) for b in blocks_of(lives)]
    solved = solve(blocks, align)
    check(list(solved.blocks), solved.peak, align)
    assert solved.optimal
    assert (solved.peak, lower_bound(blocks, align)) == (align * least, align * most_alive)


def test_a_gap_that_no_plan_closes_is_proven():
    lives, least, most_alive = HARD["gap"]
    solved = solve(blocks_of(lives), 1)
    assert solved.lower_bound == least > most_alive
    assert solved.effort > 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("number", [20, 40, 60])
def test_tens_of_blocks_are_placed_best(number, seed):
    blocks = some_blocks(number, seed)
    solved = solve(blocks, 1)
    check(list(solved.blocks), solved.peak, 1)
    assert solved.optimal


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_placed_best(name):
    blocks = [Allocation(*block) for block in PROGRAMS[name]]
    solved = solve(blocks)
    check(list(solved.blocks), solved.peak, ALIGN)
    assert solved.optimal
    assert solved.peak == lower_bound(blocks)


def test_without_effort_the_plan_is_sound_and_does_not_claim_to_be_the_least():
    lives, least, most_alive = HARD["gap"]
    solved = solve(blocks_of(lives), 1, effort=0)
    check(list(solved.blocks), solved.peak, 1)
    assert not solved.optimal
    assert solved.lower_bound == most_alive
    assert solved.peak >= least
    assert solved.effort == 0


def test_effort_ends_the_search_of_many_blocks():
    blocks = some_blocks(150, 1)
    solved = solve(blocks, 1, effort=20_000)
    check(list(solved.blocks), solved.peak, 1)
    assert solved.effort <= 20_000 + len(blocks)
    assert solved == solve(blocks, 1, effort=20_000)


def test_parts_that_never_meet_are_placed_apart():
    lives, least, _ = HARD["gap"]
    later = [(size, first + 10 * n, last + 10 * n) for n in range(60) for size, first, last in lives]
    solved = solve(blocks_of(later), 1)
    assert (solved.peak, solved.optimal) == (least, True)


def test_a_chain_needs_its_two_largest_neighbours():
    sizes = [1600, 320, 640, 1280, 16]
    blocks = [Allocation(f"b{n}", size, n, n + 1) for n, size in enumerate(sizes)]
    assert plan(blocks)[1] == lower_bound(blocks) == 1920


def test_no_blocks_need_no_memory():
    assert plan([]) == ([], 0)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_package_is_planned_as_its_metadata_says(precision):
    document = json.loads((small.package(precision) / "metadata.json").read_text())
    arena = document["arena"]
    blocks = [Allocation(t["name"], t["bytes"], t["first"], t["last"], t["offset"]) for t in arena["tensors"]]
    assert arena["align"] == ALIGN
    assert blocks
    check(blocks, arena["bytes"], ALIGN)
    solved = solve(blocks)
    assert solved.optimal
    assert arena["bytes"] == solved.peak
