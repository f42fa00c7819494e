"""MVE in half precision: a block of eight rows lies (columns, 8), so that a vector holds one column of them and no sum
is one of a vector's lanes.

A tensor between kernels lies in such blocks, float16 (blocks, columns, 8), so that a block of it is read where it lies.
The loops beside the micro-kernels of micro/embbert_mve_half.h say in float32 what these compute with each operation
rounded: a result of either is within rounding of the other's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tvm import tirx

from embbert_tvm.kernels.builder import At, address, call, loop, store, workspace
from embbert_tvm.kernels.half import ACTIVATIONS, halves
from embbert_tvm.kernels.isa.base import Isa
from embbert_tvm.kernels.isa.registry import MicroKernel, listed

ROWS = 8
# Columns of sums that one pass over a block fills, and columns of the block that one word of weights serves.
TILE, PAIR = 4, 2


def pack_tiles(weight: np.ndarray) -> np.ndarray:
    """(k, n) as float16 (n / 4, k / 2, 2, 4), what is beyond k and n being 0: what the product reads in order."""
    k, n = (-(-size // TILE) * TILE for size in weight.shape)
    tiles = np.zeros((k, n), weight.dtype)
    tiles[: weight.shape[0], : weight.shape[1]] = weight
    return np.ascontiguousarray(halves(tiles.reshape(k // PAIR, PAIR, -1, TILE).transpose(2, 0, 1, 3)))


def _real(value):
    return tirx.Cast("float32", value)


def _number(value: float):
    return tirx.const(value, "float32")


def _half(buffer, value, *indices) -> None:
    store(buffer, tirx.Cast("float16", value), *indices)


_MICRO_KERNELS = listed(
    "embbert_mve_half.h",
    {
        "embbert_mve_half_product": lambda tiles, k: 32 * tiles * k,
        "embbert_mve_half_scores": lambda blocks, k: 64 * blocks * k,
        "embbert_mve_half_context": lambda blocks, width: 64 * blocks * width,
        "embbert_mve_half_filter": lambda blocks, channels, filters, taps: 8 * blocks * taps,
        **{
            f"embbert_mve_half_{name}": lambda n: 0
            for name in ("start", "add", "softmax", "rms_norm", "layer_norm", *ACTIVATIONS)
        },
    },
)


@dataclass(frozen=True)
class MveFp16(Isa):
    name: str = "mve_fp16"
    columns: int = 1
    rows: int = ROWS
    interleave: int = ROWS
    operand_dtype: str = "float16"
    row_cost: float = 8.0
    intrinsic: bool = True
    micro_kernels: ClassVar[tuple[MicroKernel, ...]] = _MICRO_KERNELS

    @property
    def reads_in_place(self) -> bool:
        return True

    @property
    def joins_sources(self) -> bool:
        return False

    def padded(self, width: int) -> int:
        return -(-width // TILE) * TILE

    def shape(self, columns) -> tuple:
        return (columns, ROWS)

    def at(self, row, column) -> tuple:
        return (column, row)

    def block_of(self, tensor, block):
        return At(tensor, block)

    # Each works on `count` or `n` vectors from the start of blocks (columns, 8).

    def start(self, sums, bias, count: int) -> None:
        """sums = bias."""
        if self.intrinsic:
            call("embbert_mve_half_start", address(sums, 0, 0), address(bias, 0), count)
            return
        with loop("j", count) as j, loop("r", ROWS) as r:
            store(sums, bias[j], j, r)

    def add(self, sums, x, count: int) -> None:
        """sums += x."""
        if self.intrinsic:
            call("embbert_mve_half_add", address(sums, 0, 0), address(x, 0, 0), count)
            return
        with loop("j", count) as j, loop("r", ROWS) as r:
            _half(sums, _real(sums[j, r]) + _real(x[j, r]), j, r)

    def multiply(self, sums, x, weight, k: int) -> None:
        """sums[4 q + i] += sum over k of x[k] * weight[q, k / 2, k % 2, i]."""
        tiles = int(weight.shape[0])
        if self.intrinsic:
            args = (address(sums, 0, 0), address(x, 0, 0), address(weight, 0, 0, 0, 0))
            call("embbert_mve_half_product", *args, tiles, k)
            return
        sum_ = workspace("sum", (1,), "float32")
        with loop("q", tiles) as q, loop("c", TILE) as c, loop("r", ROWS) as r:
            store(sum_, _real(sums[q * TILE + c, r]), 0)
            with loop("p", k // PAIR) as p, loop("h", PAIR) as h:
                store(sum_, sum_[0] + _real(x[p * PAIR + h, r]) * _real(weight[q, p, h, c]), 0)
            _half(sums, sum_[0], q * TILE + c, r)

    def activate(self, name: str, out, x, count) -> None:
        """out = an activation of x."""
        if self.intrinsic:
            call(f"embbert_mve_half_{name}", address(out, 0, 0), address(x, 0, 0), count)
            return
        with loop("j", count) as j, loop("r", ROWS) as r:
            _half(out, ACTIVATIONS[name](_real(x[j, r])), j, r)

    def activate_rows(self, name: str, tensor, blocks) -> None:
        """An activation of a whole tensor, in its place."""
        count = int(tensor.shape[1])
        if self.intrinsic:
            place = address(tensor, 0, 0, 0)
            call(f"embbert_mve_half_{name}", place, place, blocks * count)
            return
        with loop("b", blocks) as b:
            block = self.block_of(tensor, b)
            self.activate(name, block, block, count)

    def norm(self, name: str, out, sums, gain, shift, epsilon: float, n: int) -> None:
        """out = an rms_norm or, with `shift`, a layer_norm of the rows of sums."""
        if self.intrinsic:
            vectors = [address(gain, 0), *([] if shift is None else [address(shift, 0)])]
            args = (address(out, 0, 0), address(sums, 0, 0), *vectors)
            call(f"embbert_mve_half_{name}", *args, _number(epsilon), n)
            return
        mean, square = workspace("mean", (1,), "float32"), workspace("square", (1,), "float32")
        with loop("r", ROWS) as r:
            store(mean, _number(0), 0)
            store(square, _number(0), 0)
            if shift is not None:
                with loop("j", n) as j:
                    store(mean, mean[0] + _real(sums[j, r]) / _number(n), 0)
            with loop("j", n) as j:
                away = _real(sums[j, r]) - mean[0]
                store(square, square[0] + away * away / _number(n), 0)
            with loop("j", n) as j:
                unit = (_real(sums[j, r]) - mean[0]) / tirx.sqrt(square[0] + _number(epsilon)) * _real(gain[j])
                _half(out, unit if shift is None else unit + _real(shift[j]), j, r)

    def attend(self, out, query, key, value, count, scores, inverse) -> None:
        """out = softmax(query . key) . value. query, out blocks; key, value tensors; scores float16 (8 * blocks, 8) and
        inverse float16 (8,) to work in; count: how many keys."""
        blocks, k, width = value.shape[0], int(key.shape[1]), int(value.shape[1])
        if self.intrinsic:
            keys, values = address(key, 0, 0, 0), address(value, 0, 0, 0)
            call("embbert_mve_half_scores", address(scores, 0, 0), address(query, 0, 0), keys, blocks, k)
            call("embbert_mve_half_softmax", address(scores, 0, 0), address(inverse, 0), count)
            weights = (address(scores, 0, 0), values, address(inverse, 0))
            call("embbert_mve_half_context", address(out, 0, 0), *weights, blocks, width)
            return
        sum_, peak = workspace("sum", (1,), "float32"), workspace("peak", (1,), "float32")
        total = workspace("total", (1,), "float32")
        with loop("r", ROWS) as r:
            store(peak, _number(np.finfo(np.float32).min), 0)
            with loop("j", count) as j:
                store(sum_, _number(0), 0)
                with loop("k", k) as i:
                    one = _real(key[tirx.floordiv(j, ROWS), i, tirx.floormod(j, ROWS)])
                    store(sum_, sum_[0] + _real(query[i, r]) * one, 0)
                _half(scores, sum_[0], j, r)
                store(peak, tirx.max(peak[0], _real(scores[j, r])), 0)
            store(total, _number(0), 0)
            with loop("j", count) as j:
                _half(scores, tirx.exp(_real(scores[j, r]) - peak[0]), j, r)
                store(total, total[0] + _real(scores[j, r]), 0)
            with loop("c", width) as c:
                store(sum_, _number(0), 0)
                with loop("j", count) as j:
                    one = _real(value[tirx.floordiv(j, ROWS), c, tirx.floormod(j, ROWS)])
                    store(sum_, sum_[0] + _real(scores[j, r]) * one, 0)
                _half(out, sum_[0] / total[0], c, r)

    def filter_rows(self, out, x, sizes: tuple, first: tuple, c, channel, line, weight, bias, blocks) -> None:
        """Channel c of out: a causal filter along channel `channel` of x.

        sizes: columns of x and of out. first: (0,) of tensors, () of single blocks; blocks: how many there are. line:
        of `line_of`.
        """
        taps = int(weight.shape[1])
        if self.intrinsic:
            args = (address(x, *first, channel, 0), address(line, 0), address(weight, c, 0), bias[c])
            call("embbert_mve_half_filter", address(out, *first, c, 0), *args, blocks, *sizes, taps)
            return
        sum_ = workspace("sum", (1,), "float32")
        with loop("t", blocks * ROWS) as t:
            store(sum_, _real(bias[c]), 0)
            with loop("k", taps) as k:
                row = tirx.max(t - (taps - 1) + k, 0)
                at = (tirx.floordiv(row, ROWS), channel, tirx.floormod(row, ROWS))
                sample = _real(x[at if first else at[1:]])
                inside = t - (taps - 1) + k >= 0
                store(sum_, sum_[0] + _real(weight[c, k]) * tirx.if_then_else(inside, sample, _number(0)), 0)
            at = (tirx.floordiv(t, ROWS), c, tirx.floormod(t, ROWS))
            _half(out, sum_[0], *(at if first else at[1:]))

    def line_of(self, taps: int, blocks):
        """A workspace for the samples of one channel."""
        return workspace("line", (taps + blocks * ROWS + 3 * ROWS,), "float16")


MVE_FP16 = MveFp16()
