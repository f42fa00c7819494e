"""Attention a row of queries at a time; the L x L matrix of scores never exists.

    s[j]   = sum_k query[i, k] * key[j, k] + distances[d]                        int32
             + sum_k query[i, k] * of_keys[p, k] + key[j, k] * of_queries[p, k]
    p[j]   = table[min(255, multiply_high(max(s) - s[j], score_multiplier))]     int8, table[0] = 127
    out[i] = saturate(multiply_high(sum_j p[j] * value[j], ratio / sum(p)))

d = j - i + M - 1 is how far a key lies behind its query, M the most rows that there are. `distances` is what scores
have added by that (MPNet's relative positions, say), in steps of a score. `of_keys` and `of_queries` stand for keys and
queries at the place p = places[d] (DeBERTa's), in steps of these. There may be neither.
The table holds exp, rounded to 127 levels; dividing by the sum of what was rounded makes the weights add up to one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, block, i32, init, length, loop, prim_func, store, tokens, workspace
from embbert_tvm.kernels.fixed_point import ONE, multiply_high, saturate

# The table reaches from exp(0) to where exp rounds to 0 of 127.
RANGE = float(np.log(2 * 127))
ENTRIES = 256
# `ratio` is scale_value / scale_out in units of 2^-RATIO_BITS.
RATIO_BITS = 27


def exp_table() -> np.ndarray:
    """round(127 * exp(-i * RANGE / 255)), int8 (256,). The last, which stands for all that is further too, is 0."""
    table = np.rint(127 * np.exp(-np.arange(ENTRIES) * RANGE / (ENTRIES - 1))).astype(np.int8)
    table[-1] = 0
    return table


def score_multiplier(score_scale: float) -> float:
    """The real factor from an int32 score difference to an index of the table."""
    return score_scale * (ENTRIES - 1) / RANGE


def ratio_multiplier(value_scale: float, out_scale: float) -> float:
    """The real factor whose multiplier is `ratio`: below 0.5 while value_scale / out_scale is below 16."""
    return value_scale / out_scale * 2.0**RATIO_BITS / ONE


@dataclass(frozen=True)
class Places:
    """What queries and keys are multiplied by by distance: of at most M rows, P places."""

    most: int
    count: int

    @property
    def label(self) -> str:
        """What it adds to a kernel's name."""
        return f"_by_place{self.count}of{self.most}"

    def declare(self, heads: int, width: int) -> tuple:
        """The parameters of a kernel: of_keys, of_queries int16 (heads, P, width); places int16 (heads, 2M - 1)."""
        tables = (argument(name, (heads, self.count, width), "int16") for name in ("of_keys", "of_queries"))
        return *tables, argument("places", (heads, 2 * self.most - 1), "int16")


@dataclass(frozen=True)
class Attention:
    """one_row: one row of queries instead of L. interleaved: key and value are row-interleaved (layouts.py);
    columns: that they have then with padding, if more than `width`. share: rows of queries for each row of keys.
    distances: the most rows M, where scores have something added by distance. relative: what queries and keys are
    multiplied by by distance."""

    width: int
    one_row: bool = False
    interleaved: bool = False
    columns: int | None = None
    share: int = 1
    distances: int | None = None
    relative: Places | None = None

    @property
    def name(self) -> str:
        of = f"_of{self.columns}" if self.columns not in (None, self.width) else ""
        rows = "row_" if self.one_row else f"share{self.share}_" if self.share > 1 else ""
        far = "" if self.distances is None else f"_by_distance{self.distances}"
        far += "" if self.relative is None else self.relative.label
        return f"attention_{'interleaved_' if self.interleaved else ''}{rows}{self.width}{of}{far}"


def attention(spec: Attention) -> tirx.PrimFunc:
    """Arguments: query int8 (L or 1, width); key, value int8 (L, width); table int8 (256,); score_multiplier, ratio
    int32 (1,); where there are any, distances int32 (1, 2M - 1), and of_keys, of_queries int16 (1, P, width), places
    int16 (1, 2M - 1); out int8 (L or 1, width). L comes first where row-interleaved keys do not tell it. Of a share,
    keys and values are (K, width)."""
    width, one_row = spec.width, spec.one_row

    def body() -> None:
        rows = tokens() if spec.interleaved else length()
        queries = 1 if one_row else length("Q") if spec.share > 1 else rows
        query = argument("query", (queries, width), "int8")
        shape = (length("M"), spec.columns or width, 2) if spec.interleaved else (rows, width)
        key, value = argument("key", shape, "int8"), argument("value", shape, "int8")
        table = argument("table", (ENTRIES,), "int8")
        of_score, ratio = argument("score_multiplier", (1,), "int32"), argument("ratio", (1,), "int32")
        added = _declare_added(spec)
        out = argument("out", (queries, width), "int8")

        def element(matrix, j, k):
            return i32(matrix[tirx.floordiv(j, 2), k, tirx.floormod(j, 2)] if spec.interleaved else matrix[j, k])

        with loop("i", queries) as i, block("row", vi=("S", queries, i)) as vi:
            score = workspace("score", (rows,), "int32")
            weight = workspace("weight", (rows,), "int8")
            peak, total = workspace("peak", (1,), "int32"), workspace("total", (1,), "int32")
            factor = workspace("factor", (1,), "int32")
            acc = workspace("acc", (width,), "int32")
            start = _start(spec, added, (vi, rows), query, partial(element, key))
            with loop("j", rows) as j, loop("k", width) as k:
                with block("score", vj=("S", rows, j), vk=("R", width, k)) as (vj, vk):
                    with init():
                        store(score, start(vj), vj)
                    store(score, score[vj] + i32(query[vi, vk]) * element(key, vj, vk), vj)
            with loop("j", rows) as j, block("peak", vj=("R", rows, j)) as vj:
                with init():
                    store(peak, i32(-(2**31)), 0)
                store(peak, tirx.max(peak[0], score[vj]), 0)
            with loop("j", rows) as j, block("weight", vj=("S", rows, j)) as vj:
                below = workspace("below", (1,), "int32")
                store(below, peak[0] - score[vj], 0)
                level = tirx.min(multiply_high(below[0], of_score[0]), i32(ENTRIES - 1))
                store(weight, table[level], vj)
            with loop("j", rows) as j, block("total", vj=("R", rows, j)) as vj:
                with init():
                    store(total, i32(0), 0)
                store(total, total[0] + i32(weight[vj]), 0)
            with loop("j", rows) as j, loop("k", width) as k:
                with block("context", vj=("R", rows, j), vk=("S", width, k)) as (vj, vk):
                    with init():
                        store(acc, i32(0), vk)
                    store(acc, acc[vk] + i32(weight[vj]) * element(value, vj, vk), vk)
            with T.sblock("factor"):
                # total >= 127, so the quotient is below 2^25 and, shifted, below 2^31.
                inverse = tirx.truncdiv(i32(2**31 - 1), total[0]) << i32(6)
                store(factor, multiply_high(inverse, ratio[0]), 0)
            with loop("k", width) as k, block("out", vk=("S", width, k)) as vk:
                store(out, saturate(multiply_high(acc[vk], factor[0])), vi, vk)

    return prim_func(spec.name, body)


def _declare_added(spec: Attention) -> tuple:
    """The parameters of what scores have added: distances, and those of places; None for what there is not."""
    far = argument("distances", (1, 2 * spec.distances - 1), "int32") if spec.distances is not None else None
    return far, spec.relative.declare(1, spec.width) if spec.relative is not None else None


def _start(spec: Attention, added: tuple, where: tuple, query, key):
    """The function of j that gives what the score of key j has added. where: the query's row i, and how many keys."""
    (far, by_place), (i, rows) = added, where
    parts = []
    if far is not None:
        parts.append(lambda j: far[0, j - i + (spec.distances - 1)])
    if by_place is not None:
        of_keys, of_queries, places = by_place
        made = workspace("by_place", (rows,), "int32")
        with loop("j", rows) as j, block("by_place", vj=("S", rows, j)) as vj:
            place = i32(places[0, vj - i + (spec.relative.most - 1)])
            store(made, i32(0), vj)
            with loop("k", spec.width) as k:
                store(made, made[vj] + i32(query[i, k]) * i32(of_keys[0, place, k]), vj)
                store(made, made[vj] + key(vj, k) * i32(of_queries[0, place, k]), vj)
        parts.append(lambda j: made[j])
    return lambda j: sum((part(j) for part in parts[1:]), parts[0](j)) if parts else i32(0)
