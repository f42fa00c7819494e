"""The memory plan: no two blocks that live at once share a byte, whatever the blocks."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st

from embbert_tvm.codegen.plan import ALIGN, Block, lower_bound, plan

LIFE = st.tuples(st.integers(1, 5000), st.integers(0, 12), st.integers(0, 6))
BLOCKS = st.lists(LIFE, max_size=25).map(
    lambda lives: [Block(f"b{n}", size, first, first + span) for n, (size, first, span) in enumerate(lives)]
)


def check(placed: list[Block], peak: int, align: int) -> None:
    for block in placed:
        assert block.offset >= 0
        assert block.offset % align == 0
        assert block.end <= peak
    for one, other in combinations(placed, 2):
        if one.first <= other.last and other.first <= one.last:
            assert one.end <= other.offset or other.end <= one.offset, (one, other)


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


def test_a_chain_needs_its_two_largest_neighbours():
    sizes = [1600, 320, 640, 1280, 16]
    blocks = [Block(f"b{n}", size, n, n + 1) for n, size in enumerate(sizes)]
    assert plan(blocks)[1] == lower_bound(blocks) == 1920


def test_no_blocks_need_no_memory():
    assert plan([]) == ([], 0)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_package_is_planned_as_its_metadata_says(precision):
    document = json.loads((small.package(precision) / "metadata.json").read_text())
    arena = document["arena"]
    blocks = [Block(t["name"], t["bytes"], t["first"], t["last"], t["offset"]) for t in arena["tensors"]]
    assert arena["align"] == ALIGN
    assert blocks
    check(blocks, arena["bytes"], ALIGN)
    assert arena["bytes"] >= lower_bound(blocks)
    assert arena["bytes"] <= 1.3 * lower_bound(blocks)
