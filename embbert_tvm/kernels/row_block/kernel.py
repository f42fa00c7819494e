"""A row-block kernel as TIR: its parameters, its scratch, and the loop over blocks around its stages."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import Part, argument, length, loop, prim_func, tokens, workspace
from embbert_tvm.kernels.epilogues import LayerNorm, RmsNorm
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.layouts import DSP_CODES, LOOKUP, ROWS
from embbert_tvm.kernels.lookup import TABLE_WORDS
from embbert_tvm.kernels.row_block import attend, half, stages, streaming  # noqa: F401 (they register their stages)
from embbert_tvm.kernels.row_block.attending import Attending, attending
from embbert_tvm.kernels.row_block.scratch import Scratch, dot_columns, in_place, share, width
from embbert_tvm.kernels.row_block.spec import (
    Attend,
    Gather,
    HalfAttend,
    Linear,
    Load,
    Reach,
    RowBlock,
    Save,
    Scan,
    Stage,
)
from embbert_tvm.kernels.row_block.weights import tile_of

# The rows of a block of which a kernel is called for one.
ROWS_FOR_ONE = "embbert.rows_for_one"
_MOST_NAMED = 6  # stages that a kernel's name says


@dataclass
class BlockContext:
    """What stages write to: the block's number, the text's tokens, buffers.

    together: blocks whose stages run one after another, each before the next stage of any; part: which of them this is.
    scores: the sums of an attention, of which these have one place.
    """

    spec: RowBlock
    isa: Isa
    scratch: Scratch
    number: object
    tokens: object
    tensors: dict[int, object]
    in_place: dict[int, int]
    operands: object | None
    wide: object | None
    sums: object | None
    factor: object | None
    tile: object | None
    named: dict[str, object]
    attending: Attending
    together: int = 1
    part: object = 0

    def __post_init__(self) -> None:
        self.scores, self._all_operands = self.sums, self.operands
        if self.together == 1:
            return
        self.operands = self._part_of(self.operands, self.scratch.columns)
        self.wide = self._part_of(self.wide, self.scratch.wide_columns)
        self.sums = self._part_of(self.sums, _most_sums(self.spec, self.isa))

    def _part_of(self, buffer, columns: int):
        return buffer if buffer is None else Part(buffer, -(-columns // self.isa.columns), lambda: self.part)

    @contextmanager
    def each(self) -> Iterator[None]:
        """A loop over the blocks of a round."""
        if self.together == 1:
            yield
            return
        first, all_blocks = self.number, (self.count + (self.isa.rows - 1)) // self.isa.rows
        with loop("s", tirx.min(self.together, all_blocks - first)) as s:
            self.part, self.number = s, first + s
            yield
        self.part, self.number = 0, first

    def softmax_weights(self, number: int):
        """The view of the weights of a stage's softmax, which blocks have one after another."""
        if self.together == 1:
            return self.isa.view(self.operands, self.scratch.weights[number])
        columns = -(-self.scratch.columns // self.isa.columns) * self.isa.columns
        return self.isa.view(self._all_operands, self.together * columns)

    @property
    def count(self):
        """How many rows there are: all of the text, or without those that are skipped."""
        return tirx.max(self.tokens - self.spec.skipped, 1) if self.spec.skipped else self.tokens

    def reached(self, r, tap, window: Reach):
        """The row of the text that row r of the block reads by a tap, and whether there is such a row."""
        first = window.after - window.dilation * (window.taps - 1)
        at = self.number * self.isa.rows + r + (self.tokens - self.count) + window.dilation * tap + first
        return at, tirx.all(at >= 0, at < self.tokens)

    def keys(self, share: int):
        """How many keys there are."""
        return keys_of(self.tokens, share)

    @property
    def first_pair(self):
        """First pair of the block's rows in a row-interleaved tensor."""
        return self.number * (self.isa.rows // self.isa.interleave)

    def row(self, r):
        """The row of the text that row r of the block is; the last block repeats the last token."""
        if self.spec.one_row:
            return 0
        return tirx.min(self.number * self.isa.rows + r, self.count - 1)

    def value(self, number: int):
        """A view of a value in the operand buffer, among those of int16, or in its tensor."""
        if number in self.in_place:
            return self.isa.block_of(self.tensors[self.in_place[number]], self.first_pair)
        is_wide = self.spec.values[number].dtype == "int16"
        return self.isa.view(self.wide if is_wide else self.operands, self.scratch.values[number])

    def interleaved_at(self, r, column) -> tuple:
        """The index in a row-interleaved tensor of an element of the block."""
        beside = self.isa.interleave
        return self.first_pair + tirx.floordiv(r, beside), column, tirx.floormod(r, beside)

    def when_there(self, r):
        """A condition: row r of the block is a row of the text."""
        return r == 0 if self.spec.one_row else self.number * self.isa.rows + r < self.count


def keys_of(count, share: int):
    """How many keys there are for so many rows."""
    return count if share == 1 else (count + (share - 1)) // share


def name_of(spec: RowBlock, isa: Isa) -> str:
    """The kernel's name: its stages and their sizes, of many the first and how many there are."""
    parts = [part for stage in spec.stages if (part := stages.label(stage, spec))]
    if len(parts) > _MOST_NAMED:
        parts = [*parts[: _MOST_NAMED - 1], f"and_{len(parts) - _MOST_NAMED + 1}_stages"]
    without = f"without{spec.skipped}_" if spec.skipped else ""
    together = _together(spec, isa)
    rows = f"of{together * isa.rows}_" if together > 1 else ""
    return f"row_block_{rows}{without}{'row_' if spec.one_row else ''}{'_'.join(parts)}"


@functools.cache
def row_block(spec: RowBlock, isa: Isa) -> tirx.PrimFunc:
    """The kernel of a spec. Its parameters are those that `RowBlock` names, in that order."""
    scratch = share(spec, isa)

    def body() -> None:
        count = tokens()
        tensors: dict[int, object] = {}
        pairs = None
        if any(t.interleaved for t in spec.tensors):
            pairs = length("M")
        shares = sorted({t.share for t in spec.tensors} - {1})
        fewer = {share: length(name) for share, name in zip(shares, "FGHI", strict=False)}

        def declare(number: int) -> None:
            tensor = spec.tensors[number]
            columns = width(tensor.parts, isa) if tensor.interleaved else sum(tensor.parts)
            groups = fewer.get(tensor.share, pairs)
            shape = (groups, columns, isa.interleave) if tensor.interleaved else (tensor.rows or length("R"), columns)
            tensors[number] = argument(f"{'out' if tensor.written else 'x'}{number}", shape, tensor.dtype)

        for number, tensor in enumerate(spec.tensors):
            if not tensor.written:
                declare(number)
        declared = [stages.declare(stage, spec, isa) for stage in spec.stages]
        for number, tensor in enumerate(spec.tensors):
            if tensor.written:
                declare(number)
        with T.sblock("row_block"):
            buffers = _buffers(spec, isa, scratch, count)
            attend = attending(spec, isa)
            together = _together(spec, isa)
            places = in_place(spec, isa)
            block = BlockContext(spec, isa, scratch, None, count, tensors, places, *buffers, attend, together)
            for number in sorted(attend.offset):
                attend.isa.offset(tensors[number])
            prepared = [stages.prepare(s, d, block) for s, d in zip(spec.stages, declared, strict=True)]
            rows = isa.rows * together
            with loop("b", 1 if spec.one_row else (block.count + (rows - 1)) // rows) as b:
                block.number = b if together == 1 else b * together
                for number, (stage, arguments) in enumerate(zip(spec.stages, prepared, strict=True)):
                    by_itself = isinstance(stage, Linear) and bool(stage.sources)
                    with nullcontext() if by_itself else block.each():
                        stages.emit(stage, number, arguments, block)
            for stage, arguments in zip(spec.stages, prepared, strict=True):
                stages.finish(stage, arguments, block)
            for number in sorted(attend.offset):
                attend.isa.offset(tensors[number])

    made = prim_func(name_of(spec, isa), body, compact=False)
    return made.with_attr(ROWS_FOR_ONE, isa.rows) if spec.one_row else made


def _buffers(spec: RowBlock, isa: Isa, scratch: Scratch, count) -> tuple:
    """The operand buffer, that of int16 values, sums, a softmax's factors, the tile of unpacked weights, and those of
    one kind of stage by name; each where it is needed."""
    shares = [stage.share for stage in spec.stages if isinstance(stage, Attend)]
    attends, share = bool(shares), min(shares, default=1)
    text = (keys_of(count, share) + (isa.rows - 1)) // isa.rows * isa.rows
    together = _together(spec, isa)
    columns = scratch.columns
    if together > 1:
        columns = together * (-(-columns // isa.columns) * isa.columns) + (text if attends else 0)
    elif scratch.after_text is not None:
        columns = tirx.max(text + scratch.after_text, columns)
    operands = workspace("operands", isa.shape(columns), isa.operand_dtype) if scratch.columns else None
    wide = None
    if scratch.wide_columns:
        wide = workspace("wide", isa.shape(together * scratch.wide_columns), "int16")
    sum_columns = together * _most_sums(spec, isa)
    sums = None
    if sum_columns or attends:
        sums = workspace("sums", isa.shape(tirx.max(text, sum_columns) if attends else sum_columns), "int32")
    factor = workspace("factor", (attending(spec, isa).isa.factors,), "int32") if attends else None
    linear = [s for s in spec.stages if isinstance(s, Linear)]
    coded = [dot_columns(s, spec, isa) for s in linear if s.weight_format is not None and s.packing is None]
    tile = tile_of(max(coded), isa.fills_blocks) if coded else None
    states = [s.spec.state for s in spec.stages if isinstance(s, Scan)]
    rows = {name: workspace(name, (ROWS, max(states)), "int32") for name in ("enters", "read_by")} if states else {}
    if any(stage.packing == LOOKUP for stage in linear):
        rows["table"] = workspace("table", (TABLE_WORDS,), "int32")
    scores = {}
    if any(isinstance(stage, HalfAttend) for stage in spec.stages):
        shapes = {"scores": isa.shape(text), "inverse": (isa.rows,)}
        scores = {name: workspace(name, shape, "float16") for name, shape in shapes.items()}
    return operands, wide, sums, factor, tile, rows | scores


def _together(spec: RowBlock, isa: Isa) -> int:
    """How many blocks of a kernel read each weight one after another: more than one where its weights are int8 and
    nothing is handed on from block to block."""
    alone = (Load, Save, Gather, Linear, Attend)
    fits = all(isinstance(s, alone) and getattr(s, "weight_format", None) is None for s in spec.stages)
    return isa.together if fits and not spec.one_row and not isa.fills_blocks else 1


def _most_sums(spec: RowBlock, isa: Isa) -> int:
    return max((_sums_columns(stage, spec, isa) for stage in spec.stages), default=0)


def _sums_columns(stage: Stage, spec: RowBlock, isa: Isa) -> int:
    """Columns of sums that a stage works in."""
    if isinstance(stage, Linear):
        codes = isa.codes_fill_sums and stage.packing == DSP_CODES and stage.weight_format.bits == 4
        codes = codes or stage.packing == LOOKUP
        # Without a product a norm works a row at a time.
        row = isinstance(stage.epilogue, (RmsNorm, LayerNorm)) and not stage.sources and not isa.fills_blocks
        fills = isa.fills_blocks or codes or isinstance(stage.epilogue, (RmsNorm, LayerNorm))
        columns = width(stage.n, isa)
        return (-(-columns // ROWS) if row else columns) if fills else 0
    if isinstance(stage, Attend) and (isa.fills_blocks or attending(spec, isa).offset):
        return max(isa.padded(p) for p in spec.values[stage.query].parts)
    return 0
