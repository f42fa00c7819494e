"""What a row-block kernel does, as data: values that live in scratch for a block of rows, tensors, and stages.

A value has columns in parts, each of which an instruction set pads (`Isa.padded`); the padding of a result is 0 or
meets weights of 0. Numbers of values and tensors are indices into `RowBlock.values` and `RowBlock.tensors`.
"""

from __future__ import annotations

from dataclasses import dataclass

from embbert_tvm.kernels.attention import Places
from embbert_tvm.kernels.integer_recurrence import IntegerRecurrence
from embbert_tvm.kernels.integer_scan import IntegerScan
from embbert_tvm.kernels.low_bits import WeightFormat
from embbert_tvm.kernels.pool import Pool as PoolSpec
from embbert_tvm.kernels.pool_rows import PoolRows as PoolRowsSpec

Parts = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """Rows of a block in scratch. parts: their columns. dtype: int8, int16 for a residual path, or float16."""

    parts: Parts
    dtype: str = "int8"


@dataclass(frozen=True)
class Tensor:
    """Rows in memory. parts: their columns. interleaved: `Isa.interleave` rows side by side, else plain rows. dtype:
    int8, int16 or float16, or float32 for plain rows that are written. written: by this kernel. rows: 1 for what is
    made of all rows, None for L. share: of the kernel's rows for each of these.
    """

    parts: Parts
    interleaved: bool = True
    dtype: str = "int8"
    written: bool = False
    rows: int | None = None
    share: int = 1


@dataclass(frozen=True)
class Reach:
    """The rows that row i reads: i + after - dilation * (taps - 1 - t) for t from 0; 0 where there is no such row."""

    taps: int = 1
    after: int = 0
    dilation: int = 1

    @property
    def label(self) -> str:
        """The window in a kernel's name."""
        reach = "" if self.dilation == 1 else f"every{self.dilation}"
        return f"{self.taps}taps{reach}after{self.after}"


@dataclass(frozen=True)
class Table:
    """A constant table (rows, width) read at the ids of the block's rows, or at their positions.
    weight_format: of its codes. dtype: int8 or float16. window: the rows that a row of the block reads of it, side
    by side."""

    rows: int
    width: int
    by_ids: bool
    weight_format: WeightFormat | None = None
    dtype: str = "int8"
    window: Reach = Reach()

    @property
    def parts(self) -> Parts:
        return (self.width,) * self.window.taps


@dataclass(frozen=True)
class Load:
    """value = the block's rows of a tensor."""

    value: int
    tensor: int


@dataclass(frozen=True)
class Unfold:
    """value = the rows of a row-interleaved tensor that each row of the block reads, a part each."""

    value: int
    tensor: int
    window: Reach


@dataclass(frozen=True)
class Gather:
    """value = rows of tables side by side, one part each, or as many as the window of a table has taps.

    Arguments: for each table its int8 (rows, width) or codes, and its ids int32 (1, L) where it is read by ids.
    """

    value: int
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Linear:
    """acc = bias + sum of `sources` . weight + small_tables + residuals, then an epilogue (epilogues.py).

    value, tensor: where the result goes, either or both; a tensor only with the epilogue Dequantize. n: its parts.
    A result of the epilogue RequantizeWide is an int16 value. small_tables: the rows of each int32 table added by ids.
    residuals: values or tables of width n, each times a factor a column (product.RESIDUAL_BITS). weight_format: of the
    weight's codes. compressed: whether vectors are stored in int8 and int16.
    packing: how the weight lies, RAW_WORDS, MVE_CODES, DSP_CODES or LOOKUP (layouts.py), None for as below.

    Arguments: weight int8 (n / 2, k, 2) or its codes, where there are sources; bias (n,); for each small table its rows
    (rows, n) and its ids; for each residual that is a table the table and its ids, then its factor int32 (n,); the
    epilogue's own.
    """

    sources: tuple[int, ...]
    n: Parts
    epilogue: object
    value: int | None = None
    tensor: int | None = None
    small_tables: tuple[int, ...] = ()
    residuals: tuple[int | Table, ...] = ()
    weight_format: WeightFormat | None = None
    compressed: bool = False
    packing: str | None = None


@dataclass(frozen=True)
class Attend:
    """value = attention of the queries of a value over tensors of keys and values, head by head: one part a head.
    share: rows of queries for each of keys. distances, relative: as of kernels/attention.py.

    Arguments: exp int8 (256,); score_multiplier, ratio int32 (heads,); where there are any, distances int32 (heads,
    2M - 1), and of_keys, of_queries int16 (heads, P, width), places int16 (heads, 2M - 1).
    """

    value: int
    query: int
    keys: int
    values: int
    share: int = 1
    distances: int | None = None
    relative: Places | None = None


@dataclass(frozen=True)
class Save:
    """tensor's rows of the block = value."""

    value: int
    tensor: int


@dataclass(frozen=True)
class Rescale:
    """value, int8 = an int16 value scaled down (convert.Rescale).

    Arguments: multiplier int32 (1,).
    """

    value: int
    source: int


@dataclass(frozen=True)
class Gate:
    """value = the product of two values, element by element (gate.py).

    Arguments: multiplier int32 (1,).
    """

    value: int
    left: int
    right: int


@dataclass(frozen=True)
class Scan:
    """value = a selective scan (integer_scan.py) of the values u, step, into and out_of; its state is kept from block
    to block.

    Arguments: size int32 (256,); log_step int16 (256,); log_decay int16 (channels, state); decay int32; skip int32
    (channels,); multiplier int32 (1,).
    """

    value: int
    u: int
    step: int
    into: int
    out_of: int
    spec: IntegerScan


@dataclass(frozen=True)
class Recurrence:
    """value = the states of an LSTM or GRU (integer_recurrence.py) from a value, int16, of what each row brings to the
    gates; its state is kept from block to block.

    Arguments: those of integer_recurrence.Arguments.
    """

    value: int
    source: int
    spec: IntegerRecurrence


@dataclass(frozen=True)
class Window:
    """value = causal filters of `taps` taps, `expansion` of them a channel, over the rows of a tensor or of a value,
    and an epilogue (Requantize or Activate).

    tensor: row-interleaved, complete before the kernel starts; after: the rows of it that lie ahead. source: a value,
    of which the last taps - 1 rows are kept from block to block.

    Arguments: the taps of two filters side by side, int8 (channels / 2, taps, 2), where there is an even number of them
    a channel, else of each filter in pairs, int16 (channels, taps / 2 + 1, 2, 2), as isa.taps.lay_out_taps has them;
    bias int32 (channels,); the epilogue's own.
    """

    value: int
    taps: int
    expansion: int
    epilogue: object
    tensor: int | None = None
    source: int | None = None
    after: int = 0


@dataclass(frozen=True)
class Pool:
    """tensor, one row = a pooling (pool.py) of all rows of a value.

    Arguments: of rms, epsilon int32 (1,); multiplier int32 (1,).
    """

    source: int
    tensor: int
    spec: PoolSpec


@dataclass(frozen=True)
class PoolRows:
    """tensor's rows = the means of `spec.size` neighbouring rows of a value (pool_rows.py), which lie in one block.

    Arguments: multiplier int32 (size,).
    """

    source: int
    tensor: int
    spec: PoolRowsSpec


@dataclass(frozen=True)
class HalfLinear:
    """A product in half precision: bias + sum of `sources` . their weights + residuals, then a norm of `epsilon`,
    an activation or neither (half.HalfProduct).

    Arguments: for each source its weight float16 (n / 4, k / 2, 2, 4) (mve_fp16.pack_tiles); bias float16 (n,), padded;
    gain float16 of a norm, and shift of a layer norm.
    """

    sources: tuple[int, ...]
    n: int
    norm: str | None
    activation: str | None
    epsilon: float = 0.0
    value: int | None = None
    tensor: int | None = None
    residuals: tuple[int, ...] = ()


@dataclass(frozen=True)
class HalfAttend:
    """value = attention of the queries of a value over tensors of keys and values, in half precision."""

    value: int
    query: int
    keys: int
    values: int


@dataclass(frozen=True)
class HalfWindow:
    """value = the causal filters of one row, the first of the text, and an activation (half.HalfConv).

    Arguments: weight float16 (channels, taps); bias float16 (channels,).
    """

    value: int
    source: int
    taps: int
    channels: int
    expansion: int
    activation: str | None


Stage = (
    Load
    | Unfold
    | Gather
    | Linear
    | Attend
    | Rescale
    | Gate
    | Scan
    | Recurrence
    | Window
    | Pool
    | PoolRows
    | HalfLinear
    | HalfAttend
    | HalfWindow
    | Save
)


@dataclass(frozen=True)
class RowBlock:
    """A kernel: for each block of rows the stages in order. one_row: for row 0 alone, as a block of rows all the same.
    skipped: of the text's L rows the first so many are not made; the last is in any case.

    Its parameters: L; the tensors that are only read; the arguments of each stage; the tensors that are written.
    """

    values: tuple[Value, ...]
    tensors: tuple[Tensor, ...]
    stages: tuple[Stage, ...]
    one_row: bool = False
    skipped: int = 0
