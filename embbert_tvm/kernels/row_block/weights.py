"""A product's weights in memory, as the loops of a block read them: row-interleaved int8, or codes of fewer bits."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from embbert_tvm.kernels.builder import address, call, loop, workspace
from embbert_tvm.kernels.isa.base import Isa
from embbert_tvm.kernels.layouts import INTERLEAVE
from embbert_tvm.kernels.low_bits import Codes, WeightFormat, stored


@dataclass(frozen=True)
class Packed:
    """int8 (n / 2, k, 2); raw: as kernels/raw_words.py packs them."""

    buffer: object
    k: int
    raw: bool = False

    def dot(self, isa: Isa, acc, left, pair) -> None:
        """acc (4, 2) += left . the two rows of a pair."""
        if self.raw:
            isa.dot_raw(acc, left, self.buffer, pair, self.k)
            return
        isa.dot(acc, (), left, self.buffer, (pair, 0), self.k)

    def product(self, isa, sums, left, pairs: int) -> None:
        """A block of sums: left . all rows."""
        isa.product(sums, left, self.buffer, (0, 0), pairs, self.k)


@dataclass(frozen=True)
class Coded:
    """Codes of rows in pairs, unpacked a pair at a time into tile, int8 (1, k, 2)."""

    codes: Codes
    tile: object
    k: int

    def dot(self, isa: Isa, acc, left, pair) -> None:
        self.codes.unpack_pair(isa.intrinsic, self.tile, pair)
        isa.dot(acc, (), left, self.tile, (0, 0), self.k)

    def product(self, isa, sums, left, pairs: int) -> None:
        per_block = isa.columns // INTERLEAVE
        with loop("j", pairs) as j:
            self.codes.unpack_pair(isa.intrinsic, self.tile, j)
            at = address(sums, tirx.floordiv(j, per_block), 0, tirx.floormod(j, per_block) * INTERLEAVE)
            args = (address(left, 0, 0, 0), address(self.tile, 0, 0, 0), 1, self.k)
            if self.k % 32 == 0:
                call("embbert_mve_product", at, *args)
            else:
                call("embbert_mve_product_strided", at, *args, INTERLEAVE * self.k)


def declare(n: int, k: int, form: WeightFormat | None):
    """The parameters of a weight."""
    return stored("weight", (n // INTERLEAVE, k, INTERLEAVE), form)


def tile_of(k: int):
    """Room for two rows of k weights."""
    return workspace("tile", (1, k, INTERLEAVE), "int8")


def matrix(declared, tile, k: int, raw: bool = False) -> Packed | Coded:
    return Coded(declared, tile, k) if isinstance(declared, Codes) else Packed(declared, k, raw)
