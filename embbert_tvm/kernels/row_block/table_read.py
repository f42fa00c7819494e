"""A table as a block's rows read it: at ids or at positions, elements or codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embbert_tvm.kernels.builder import argument, i32, workspace
from embbert_tvm.kernels.low_bits import rows_unpack, stored
from embbert_tvm.kernels.row_block.spec import Table

if TYPE_CHECKING:
    from embbert_tvm.kernels.row_block.kernel import BlockContext

_WORKSPACE = 32  # elements: fewer would be a local array, which need not lie at a word


@dataclass(frozen=True)
class TableRead:
    """A table with the ids it is read at, None for positions."""

    table: Table
    data: object
    ids: object | None

    def element(self, block: BlockContext, r, k):
        return self.of_row(block.row(r), k)

    def of_row(self, row, k):
        at = row if self.ids is None else self.ids[0, row]
        if self.table.dtype == "float16":
            return self.data[at, k]
        return i32(self.data.element(at, k) if self.table.weight_format else self.data[at, k])

    def unpacked(self, block: BlockContext, r) -> Callable:
        """A function of a column: its element for row r of the block. Where a row of codes can be unpacked at once, it
        is."""
        weight_format, width = self.table.weight_format, self.table.width
        if weight_format is None or not block.isa.intrinsic or not rows_unpack(weight_format, width):
            return lambda k: self.element(block, r, k)
        unpacked, row = workspace("table_row", (max(width, _WORKSPACE),), "int8"), block.row(r)
        self.data.unpack_row(unpacked, row if self.ids is None else self.ids[0, row])
        return lambda k: i32(unpacked[k])


def declare_table(name: str, table: Table, rows) -> TableRead:
    shape = (table.rows, table.width)
    data = stored(name, shape, table.weight_format) if table.dtype == "int8" else argument(name, shape, table.dtype)
    return TableRead(table, data, argument(f"{name}_ids", (1, rows), "int32") if table.by_ids else None)
