"""Where a block of results goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tvm import tirx

from embbert_tvm.kernels.builder import store
from embbert_tvm.kernels.layouts import INTERLEAVE

if TYPE_CHECKING:
    from embbert_tvm.kernels.isa.base import Isa


class Destination:
    """Where a block of int8 results goes: columns of a block operand, rows of a row-interleaved tensor, or both.

    operand: a view whose column 0 is the first result's. tensor: with what tells the index of the block's first pair of
    rows.
    """

    def __init__(self, isa: Isa, operand=None, tensor=None, first_pair: Callable[[], object] | None = None) -> None:
        self.isa, self.operand, self.tensor, self._first_pair = isa, operand, tensor, first_pair

    @property
    def first_pair(self):
        return self._first_pair()

    def write(self, row, column, value) -> None:
        """Store an int32 that is in the range of int8."""
        if self.operand is not None:
            store(self.operand, tirx.Cast(self.isa.operand_dtype, value), *self.isa.at(row, column))
        if self.tensor is not None:
            pair = self.first_pair + tirx.floordiv(row, INTERLEAVE)
            store(self.tensor, tirx.Cast("int8", value), pair, column, tirx.floormod(row, INTERLEAVE))
