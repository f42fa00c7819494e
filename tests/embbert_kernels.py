"""EmbBERT's kernels as row blocks, for tests of kernels by themselves."""

from __future__ import annotations

from tvm import tirx

from embbert_tvm.kernels.epilogues import Requantize, RmsNorm
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.low_bits import WeightFormat
from embbert_tvm.kernels.row_block.kernel import row_block
from embbert_tvm.kernels.row_block.spec import Attend, Gather, Linear, Load, RowBlock, Save, Table, Tensor, Value


def layer(d: int, isa: Isa, query: WeightFormat | None = None, joined: WeightFormat | None = None) -> tirx.PrimFunc:
    """Queries, attention over the input, and the joined product with RMSNorm in the place of the convolution.

    Arguments: L; y int8 (M, d, 2); the queries' weight, bias, multiplier; exp, score_multiplier, ratio; the joined
    product's weight, bias, channel_rescale, epsilon, gain; the convolution (M, d, 2), overwritten.
    """
    part = (d,)
    stages = (
        Load(0, 0),
        Linear((0,), part, Requantize(), value=1, weight_format=query, compressed=query is not None),
        Attend(2, 1, 0, 0),
        Load(3, 1),
        Linear((2, 3), part, RmsNorm(), tensor=1, weight_format=joined, compressed=joined is not None),
    )
    return row_block(RowBlock((Value(part),) * 4, (Tensor(part), Tensor(part, written=True)), stages), isa)


def embedding(tokens: tuple[int, int], positions: tuple[int, int], d: int, segments: int, isa: Isa) -> tirx.PrimFunc:
    """Rows of two tables (rows, width), a product with small tables, and RMSNorm."""
    tables = (Table(*tokens, by_ids=True), Table(*positions, by_ids=False))
    stages = (Gather(0, tables), Linear((0,), (d,), RmsNorm(), tensor=0, small_tables=(segments,)))
    return row_block(RowBlock((Value((tokens[1], positions[1])),), (Tensor((d,), written=True),), stages), isa)


def attention_row(d: int, isa: Isa) -> tirx.PrimFunc:
    """Attention of one query. Arguments: L; query int8 (1, d); key, value int8 (M, d, 2); exp, score_multiplier, ratio;
    out int8 (1, d)."""
    part = (d,)
    plain = Tensor(part, interleaved=False)
    tensors = (plain, Tensor(part), Tensor(part), Tensor(part, interleaved=False, written=True))
    return row_block(
        RowBlock((Value(part),) * 2, tensors, (Load(0, 0), Attend(1, 0, 1, 2), Save(1, 3)), one_row=True), isa
    )
