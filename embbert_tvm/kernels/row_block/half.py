"""Stages in half precision, whose micro-kernels an `MveFp16` has. They register with the functions of stages.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, length, loop, prim_func, store
from embbert_tvm.kernels.half import HalfConv
from embbert_tvm.kernels.isa.mve_fp16 import PAIR, TILE, MveFp16
from embbert_tvm.kernels.row_block.scratch import width
from embbert_tvm.kernels.row_block.spec import HalfAttend, HalfLinear, HalfWindow, RowBlock
from embbert_tvm.kernels.row_block.stages import clear_padding, declare, emit, label, prepare

if TYPE_CHECKING:
    from embbert_tvm.kernels.row_block.kernel import BlockContext


@dataclass(frozen=True)
class _Linear:
    weights: list
    bias: object
    gain: object | None
    shift: object | None


@label.register(HalfLinear)
def _(stage: HalfLinear, spec: RowBlock) -> str:
    k = "_".join(str(width) for s in stage.sources for width in spec.values[s].parts)
    added = "_residual" * bool(stage.residuals)
    return f"half_{stage.norm or stage.activation or 'linear'}_{k + 'x' if k else ''}{stage.n}{added}"


@declare.register(HalfLinear)
def _(stage: HalfLinear, spec: RowBlock, isa: MveFp16) -> _Linear:
    n = isa.padded(stage.n)
    widths = [width(spec.values[s].parts, isa) for s in stage.sources]
    weights = [argument(f"weight{s}", (n // TILE, k // PAIR, PAIR, TILE), "float16") for s, k in enumerate(widths)]
    bias = argument("bias", (n,), "float16")
    gain = argument("gain", (stage.n,), "float16") if stage.norm else None
    return _Linear(
        weights, bias, gain, argument("shift", (stage.n,), "float16") if stage.norm == "layer_norm" else None
    )


@emit.register(HalfLinear)
def _(stage: HalfLinear, number: int, given: _Linear, block: BlockContext) -> None:
    isa: MveFp16 = block.isa
    n = isa.padded(stage.n)
    if stage.value is not None:
        sums = out = block.value(stage.value)
    else:
        sums = isa.view(block.operands, block.scratch.temporaries[number])
        out = isa.block_of(block.tensors[stage.tensor], block.first_pair)
    isa.start(sums, given.bias, n)
    for source, weight in zip(stage.sources, given.weights, strict=True):
        isa.multiply(sums, block.value(source), weight, int(weight.shape[1]) * PAIR)
    for residual in stage.residuals:
        isa.add(sums, block.value(residual), n)
    if stage.norm:
        isa.norm(stage.norm, out, sums, given.gain, given.shift, stage.epsilon, stage.n)
        clear_padding(out, (stage.n,), isa)
    elif stage.activation:
        isa.activate(stage.activation, out, sums, n)
    elif stage.value is None:
        with loop("j", n) as j, loop("r", isa.rows) as r:
            store(out, sums[j, r], j, r)


@label.register(HalfAttend)
def _(stage: HalfAttend, spec: RowBlock) -> str:
    return f"half_attend{sum(spec.values[stage.query].parts)}"


@emit.register(HalfAttend)
def _(stage: HalfAttend, number: int, arguments, block: BlockContext) -> None:
    out, query = block.value(stage.value), block.value(stage.query)
    keys, values = block.tensors[stage.keys], block.tensors[stage.values]
    block.isa.attend(out, query, keys, values, block.tokens, block.named["scores"], block.named["inverse"])


@label.register(HalfWindow)
def _(stage: HalfWindow, spec: RowBlock) -> str:
    return f"half_window{stage.taps}_{stage.activation or 'linear'}"


@declare.register(HalfWindow)
def _(stage: HalfWindow, spec: RowBlock, isa: MveFp16) -> tuple:
    weight = argument("taps", (stage.channels, stage.taps), "float16")
    return weight, argument("bias", (stage.channels,), "float16")


@prepare.register(HalfWindow)
def _(stage: HalfWindow, declared: tuple, block: BlockContext) -> tuple:
    return (*declared, block.isa.line_of(stage.taps, 1))


@emit.register(HalfWindow)
def _(stage: HalfWindow, number: int, arguments: tuple, block: BlockContext) -> None:
    weight, bias, line = arguments
    isa, out, source = block.isa, block.value(stage.value), block.value(stage.source)
    sizes = (width(block.spec.values[stage.source].parts, isa), isa.padded(stage.channels))
    with loop("c", stage.channels) as c:
        isa.filter_rows(out, source, sizes, (), c, c // stage.expansion, line, weight, bias, 1)
    clear_padding(out, (stage.channels,), isa)
    if stage.activation:
        isa.activate(stage.activation, out, out, isa.padded(stage.channels))


def filter_along_text(spec: HalfConv, isa: MveFp16):
    """half.conv on a tensor in blocks, one channel after another.

    Arguments: x float16 (blocks, channels / expansion, 8), padded; weight float16 (channels, taps); bias float16
    (channels,); out float16 (blocks, channels, 8), padded.
    """
    read, made = isa.padded(spec.channels // spec.expansion), isa.padded(spec.channels)

    def body() -> None:
        blocks = length("M")
        x = argument("x", (blocks, read, isa.interleave), "float16")
        weight = argument("weight", (spec.channels, spec.taps), "float16")
        bias = argument("bias", (spec.channels,), "float16")
        out = argument("out", (blocks, made, isa.interleave), "float16")
        with T.sblock("filter"):
            line = isa.line_of(spec.taps, blocks)
            with loop("c", spec.channels) as c:
                isa.filter_rows(out, x, (read, made), (0,), c, c // spec.expansion, line, weight, bias, blocks)
            if made > spec.channels:
                with loop("b", blocks) as b:
                    clear_padding(isa.block_of(out, b), (spec.channels,), isa)
            if spec.activation:
                isa.activate_rows(spec.activation, out, blocks)

    many = f"by{spec.expansion}" if spec.expansion > 1 else ""
    return prim_func(
        f"row_block_half_{spec.activation or 'linear'}_{spec.taps}x{spec.channels}{many}", body, compact=False
    )
