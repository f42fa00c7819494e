"""The attention of a row-block kernel's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx

from embbert_tvm.kernels.attention import ENTRIES
from embbert_tvm.kernels.builder import argument, i32, loop, store, workspace
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.isa.destination import Destination
from embbert_tvm.kernels.row_block.spec import Attend, RowBlock
from embbert_tvm.kernels.row_block.stages import declare, emit, label

if TYPE_CHECKING:
    from embbert_tvm.kernels.row_block.kernel import BlockContext


@label.register(Attend)
def _(stage: Attend, spec: RowBlock) -> str:
    parts = spec.values[stage.query].parts
    share = f"_share{stage.share}" if stage.share > 1 else ""
    far = "" if stage.distances is None else f"_by_distance{stage.distances}"
    far += "" if stage.relative is None else stage.relative.label
    return f"attend{f'{len(parts)}x' if len(parts) > 1 else ''}{parts[0]}{share}{far}"


@declare.register(Attend)
def _(stage: Attend, spec: RowBlock, isa: Isa) -> tuple:
    parts = spec.values[stage.query].parts
    heads, far, by_place = len(parts), None, None
    exp = argument("exp", (ENTRIES,), "int8")
    factors = argument("score_multiplier", (heads,), "int32"), argument("ratio", (heads,), "int32")
    if stage.distances is not None:
        far = argument("distances", (heads, 2 * stage.distances - 1), "int32")
    if stage.relative is not None:
        by_place = stage.relative.declare(heads, parts[0])
    return exp, *factors, far, by_place


@emit.register(Attend)
def _(stage: Attend, number: int, arguments: tuple, block: BlockContext) -> None:
    exp, multiplier, ratio, far, by_place = arguments
    isa, parts = block.attending.isa, block.spec.values[stage.query].parts
    wide = isa.padded(parts[0])
    keys, values = block.tensors[stage.keys], block.tensors[stage.values]
    weight, count = block.softmax_weights(number), block.keys(stage.share)
    query, out = block.scratch.values[stage.query], block.scratch.values[stage.value]

    def head(h, first) -> None:
        def at(start: int):
            return isa.view_at(block.operands, start, first)

        def key(j, k):
            return i32(keys[tirx.floordiv(j, isa.interleave), first + k, tirx.floormod(j, isa.interleave)])

        isa.scores(block.scores, at(query), keys, first, wide, count)
        if far is not None:
            _add_by_distance(block, far, stage.distances, h, count)
        if by_place is not None:
            _add_by_place(block, by_place, h, (count, parts[0]), at(query), key)
        isa.softmax(weight, block.factor, block.scores, exp, multiplier[h], ratio[h], count)
        isa.context(Destination(isa, at(out)), block.scores, weight, values, first, wide, block.factor, count)

    if len(parts) == 1:
        head(0, 0)
        return
    with loop("h", len(parts)) as h:
        head(h, h * wide)


def _add_by_distance(block: BlockContext, far, most: int, h, count) -> None:
    """Add to each score what it has by the distance of its key from its query."""
    isa = block.attending.isa
    with loop("r", isa.rows) as r, loop("j", count) as j:
        at = isa.at(r, j)
        store(block.scores, block.scores[at] + far[h, j - block.row(r) + (most - 1)], *at)


def _add_by_place(block: BlockContext, by_place: tuple, h, shape: tuple, query, key) -> None:
    """Add to each score what its query and its key make of the place of their distance. shape: of the keys."""
    isa, (of_keys, of_queries, places), (count, width) = block.attending.isa, by_place, shape
    most = (int(places.shape[1]) + 1) // 2
    place, acc = workspace("place", (1,), "int32"), workspace("by_place", (1,), "int32")
    with loop("r", isa.rows) as r, loop("j", count) as j:
        store(place, i32(places[h, j - block.row(r) + (most - 1)]), 0)
        store(acc, i32(0), 0)
        with loop("k", width) as k:
            store(acc, acc[0] + i32(query[isa.at(r, k)]) * i32(of_keys[h, place[0], k]), 0)
            store(acc, acc[0] + key(j, k) * i32(of_queries[h, place[0], k]), 0)
        store(block.scores, block.scores[isa.at(r, j)] + acc[0], *isa.at(r, j))
