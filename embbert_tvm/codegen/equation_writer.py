"""Names and lines of equations while they are written, and those that kernels and stages of row blocks share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from embbert_tvm.kernels.attention import Attention
from embbert_tvm.kernels.epilogues import (
    NORM_BITS,
    SHIFT_BITS,
    Activate,
    Dequantize,
    LayerNorm,
    Requantize,
    RequantizeWide,
    RmsNorm,
)
from embbert_tvm.kernels.half import HalfProduct
from embbert_tvm.kernels.integer_recurrence import GIVEN_BITS, IntegerRecurrence
from embbert_tvm.kernels.integer_scan import INPUT_BITS, IntegerScan
from embbert_tvm.kernels.low_bits import WeightFormat
from embbert_tvm.kernels.pool import BITS as POOL_BITS
from embbert_tvm.kernels.pool import SQUARE_BITS, Pool
from embbert_tvm.kernels.pool_rows import BITS as POOL_ROWS_BITS
from embbert_tvm.kernels.pool_rows import PoolRows
from embbert_tvm.kernels.product import RESIDUAL_BITS, ProductInput
from embbert_tvm.kernels.row_block.spec import Attend, HalfLinear, Reach


class UnwrittenError(Exception):
    """A kernel of which no equations are written."""


@dataclass
class Writer:
    """The names of a kernel's arguments, taken in their order, and the lines so far."""

    names: deque[str]
    lines: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def take(self) -> str:
        return self.names.popleft()

    def coded(self, weight_format: WeightFormat | None) -> str:
        """A matrix, which as codes has an argument more for the multipliers of its blocks."""
        name = self.take()
        if weight_format is not None and weight_format.block is not None:
            self.take()
        return name

    def put(self, name: str, value: str) -> None:
        self.lines.append(f"{name} = {value}")

    def fresh(self, wanted: str) -> str:
        """A name for a value that is not stored, told apart from those before it."""
        name, number = wanted, 2
        while name in self.used:
            name, number = f"{wanted}_{number}", number + 1
        self.used.add(name)
        return name


def stem(name: str, *suffixes: str) -> str:
    """What an argument's name says of the value that it makes: `blocks_0_query` of `blocks_0_query_bias`."""
    for suffix in suffixes:
        if name.endswith(f"_{suffix}"):
            return name[: -len(suffix) - 1]
    return "value"


def side_by_side(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"concat({', '.join(parts)})"


def epilogue_of(kind: object, acc: str, writer: Writer) -> Callable[[str], None]:
    """Take the epilogue's arguments; what writes its equations for a result of some name."""
    if isinstance(kind, (Requantize, RequantizeWide)):
        multiplier = writer.take()
        clamp = "saturate" if isinstance(kind, Requantize) else "saturate_wide"
        return lambda out: writer.put(out, f"{clamp}(multiply_high({acc}, {multiplier}))")
    if isinstance(kind, Activate):
        multiplier, table = writer.take(), writer.take()
        return lambda out: writer.put(out, f"{table}[saturate(multiply_high({acc}, {multiplier})) + 128]")
    if isinstance(kind, Dequantize):
        scale = writer.take()
        return lambda out: writer.put(out, f"({acc}) * {scale}")
    if isinstance(kind, RmsNorm):
        channel_rescale, epsilon, gain = (writer.take() for _ in range(3))

        def rms_norm(out: str) -> None:
            t = writer.fresh("t")
            writer.put(t, f"multiply_high({acc}, {channel_rescale})")
            writer.put(out, f"saturate(round({gain} * {t} / sqrt(sum({t} * {t}) + {epsilon}) / 2**{32 - NORM_BITS}))")

        return rms_norm
    if isinstance(kind, LayerNorm):
        channel_rescale, epsilon, gain, shift = (writer.take() for _ in range(4))

        def layer_norm(out: str) -> None:
            t, c = writer.fresh("t"), writer.fresh("c")
            writer.put(t, f"multiply_high({acc}, {channel_rescale})")
            writer.put(c, f"{t} - mean({t})")
            unit = f"{gain} * {c} / sqrt(sum({c} * {c}) + {epsilon}) / 2**{32 - NORM_BITS}"
            writer.put(out, f"saturate(floor(({unit} + {shift}) / 2**{SHIFT_BITS}))")

        return layer_norm
    raise UnwrittenError(type(kind).__name__)


def residual_terms(terms: Sequence[tuple[str, str]]) -> str:
    """Residual inputs, each times its factor a column."""
    added = " + ".join(f"{value} * {factor}" for value, factor in terms)
    return f" + (({added} + {1 << RESIDUAL_BITS - 1}) >> {RESIDUAL_BITS})" if terms else ""


def source_of(source: ProductInput, writer: Writer) -> str:
    """How a product reads an operand."""
    if source.taps > 1 or source.after:
        raise UnwrittenError("a convolution over time of all channels")
    name = writer.coded(source.weight_format)
    if source.indexed:
        return f"{name}[{writer.take()}]"
    if source.row is not None:
        return f"{name}[{source.row}:{source.row + 1}]"
    return name if source.rows is None or source.rows == 1 else f"{name}[0:L]"


def filtered(x: str, weight: str, expansion: int, reach: Reach) -> str:
    skips = "" if reach.dilation == 1 else f", {reach.dilation}"
    return f"filter({x if expansion == 1 else f'spread({x}, {expansion})'}, {weight}, {reach.after}{skips})"


def pooled(spec: Pool, x: str, constants: Sequence[str], out: str, writer: Writer) -> None:
    """constants: the multiplier, of rms the epsilon before it."""
    *epsilon, multiplier = constants
    if spec.kind == "rms":
        bits = 0 if spec.dtype == "int16" else SQUARE_BITS
        square = f"minimum(T(mean(T({x} * {x} * 2**{bits}))), 2**30) + {epsilon[0]}"
        level = f"floor(sqrt({square})) * 2**{POOL_BITS - bits // 2}"
    elif spec.kind == "mean":
        level = f"T(mean(T({x} * 2**{POOL_BITS})))"
    else:
        level = f"{f'T(max(T({x})))' if spec.kind == 'max' else f'{x}[L - 1:L]'} * 2**{POOL_BITS}"
    clamp = "saturate_wide" if spec.made == "int16" else "saturate"
    writer.put(out, f"{clamp}(multiply_high({level}, {multiplier}))")


def added_to_scores(
    spec: Attention | Attend, heads: int, one_row: bool, writer: Writer
) -> Callable[[str, str], list[str]]:
    """What scores of given queries and keys have added, by head: by the distance of a key, of all rows or of the first,
    and of the products of queries and keys with what stands at the places of distances."""
    far = None if spec.distances is None else writer.take()
    tables = None if spec.relative is None else ", ".join(writer.take() for _ in range(3))

    def added(query: str, key: str) -> list[str]:
        by_distance = [] if far is None else [f"by_distance({far}, L){'[:, 0:1]' if one_row else ''}"]
        by_place = [] if tables is None else [f"by_place(heads({query}, {heads}), heads({key}, {heads}), {tables})"]
        return by_distance + by_place

    return added


def rows_pooled(spec: PoolRows, x: str, multiplier: str, out: str, writer: Writer) -> None:
    of = f"{x}, {spec.size}, {spec.stride}"
    factor = f"{multiplier}[rows_in({of}) - 1]"
    writer.put(out, f"saturate(multiply_high(windows({of}) * 2**{POOL_ROWS_BITS}, {factor}))")


def scanned(spec: IntegerScan, of: Sequence[str], constants: Sequence[str], out: str, writer: Writer) -> None:
    u, step, into, out_of = of
    size, log_step, log_decay, decay, skip, multiplier = constants
    kept, entering, h = (writer.fresh(name) for name in ("kept", "entering", "h"))
    writer.put(kept, f"{decay}[{log_step}[{step} + 128][:, :, None] + {log_decay}]")
    entered = f"multiply_high({size}[{step} + 128], {u} * 2**{INPUT_BITS})"
    writer.put(entering, f"{entered}[:, :, None] * {into}[:, None]")
    writer.put(h, f"scan({kept}, {entering})")
    read = f"sum(multiply_high({h}, {out_of}[:, None] * 2**{spec.bits}))[:, :, 0]"
    writer.put(out, f"saturate(multiply_high({skip} * {u} + {read}, {multiplier}))")


def attention(
    writer: Writer,
    of: tuple[str, str, str],
    heads: int,
    constants: tuple[str, str, str],
    out: str,
    added: Sequence[str] = (),
) -> None:
    """Attention of (query, key, value) with (exp, score_multiplier, ratio). added: what scores have added, by head,
    with the rows that there are of it."""
    several = heads > 1
    query, key, value = (f"heads({name}, {heads})" if several else name for name in of)
    exp, multiplier, ratio = constants
    multiplier, ratio = (f"per_head({name})" if several else name for name in (multiplier, ratio))
    score, p = writer.fresh("score"), writer.fresh("p")
    writer.put(score, " + ".join([f"dot({query}, {key})", *(part if several else f"({part})[0]" for part in added)]))
    writer.put(p, f"{exp}[minimum(multiply_high(max({score}) - {score}, {multiplier}), 255)]")
    factor = f"multiply_high((2147483647 // sum({p})) << 6, {ratio})"
    context = f"saturate(multiply_high(dot({p}, T({value})), {factor}))"
    writer.put(out, f"joined({context})" if several else context)


def recurred(spec: IntegerRecurrence, given: str, constants: Sequence[str], out: str, writer: Writer) -> None:
    """An LSTM or a GRU: the equations of one token, by the state of the token before. constants: in their order."""
    *weights, bias, multiplier, given_multiplier, sigmoid, tanh, state_multiplier = constants
    n, before = spec.width, "[token + 1]" if spec.backward else "[token - 1]"
    brought, recalled, kept = (writer.fresh(name) for name in ("brought", "recalled", "kept"))

    def part(name: str, gate: int) -> str:
        return f"{name}[token, {gate * n}:{(gate + 1) * n}]"

    def recall(name: str, row: str, weight: str, columns: str = "") -> None:
        sums = f"(dot({row}, {weight}) + {bias}{columns}) * 2**{spec.bits}"
        writer.put(f"{name}[token]", f"multiply_high({sums}, {multiplier}{columns})")

    def gate(number: int, table: str = sigmoid) -> str:
        return f"look({table}, saturate_wide({part(recalled, number)} + {part(brought, number)}))"

    def keep(value: str) -> None:
        writer.put(f"{out}[token]", f"saturate(multiply_high({value}, {state_multiplier}))")

    writer.put(brought, f"multiply_high({given} * 2**{GIVEN_BITS}, {given_multiplier})")
    recall(recalled, f"{out}{before}", weights[0], "" if len(weights) == 1 else f"[0:{2 * n}]")
    if spec.kind == "lstm":
        entering = f"({gate(0)} * {gate(3, tanh)} >> 3)"
        writer.put(f"{kept}[token]", f"saturate_wide(({gate(2)} * {kept}{before} + {entering} + 2**14) >> 15)")
        keep(f"{gate(1)} * look({tanh}, {kept}[token])")
        return
    new = writer.fresh("new")
    if len(weights) == 1:
        reset = f"({gate(1)} * saturate_wide({part(recalled, 2)}) + 2**14 >> 15)"
        writer.put(f"{new}[token]", f"look({tanh}, saturate_wide({reset} + {part(brought, 2)}))")
    else:
        reset, second = writer.fresh("reset"), writer.fresh("recalled")
        scaled = f"({gate(1)} * {kept}{before} + 2**14 >> 15) * 2**15"
        writer.put(f"{reset}[token]", f"saturate(multiply_high({scaled}, {state_multiplier}))")
        recall(second, f"{reset}[token]", weights[1], f"[{2 * n}:{3 * n}]")
        writer.put(f"{new}[token]", f"look({tanh}, saturate_wide({second}[token] + {part(brought, 2)}))")
    update = writer.fresh("update")
    writer.put(f"{update}[token]", gate(0))
    mixed = f"{update}[token] * {kept}{before} + (2**15 - {update}[token]) * {new}[token]"
    writer.put(f"{kept}[token]", f"({mixed} + 2**14) >> 15")
    keep(f"{kept}[token] * 2**15")


def activated(name: str | None, value: str) -> str:
    return value if name is None else f"{name}({value})"


def half_result(
    spec: HalfProduct | HalfLinear, acc: str, vectors: Sequence[str], writer: Writer
) -> Callable[[str], None]:
    """What writes a product's result in halves. vectors: a norm's gain, and shift."""

    def write(out: str) -> None:
        if spec.norm is None:
            writer.put(out, f"half({activated(spec.activation, acc)})")
            return
        gain, *shift = vectors
        t = writer.fresh("t")
        writer.put(t, acc)
        if shift:
            c = writer.fresh("c")
            writer.put(c, f"{t} - sum({t}) / {spec.n}")
            t = c
        unit = f"{t} / sqrt(sum({t} * {t}) / {spec.n} + {spec.epsilon:g}) * {gain}"
        writer.put(out, f"half({' + '.join([unit, *shift])})")

    return write


def half_attention(query: str, key: str, value: str, out: str, writer: Writer) -> None:
    score, p = writer.fresh("score"), writer.fresh("p")
    writer.put(score, f"dot({query}, {key})")
    writer.put(p, f"exp({score} - max({score}))")
    writer.put(out, f"half(dot({p}, T({value})) / sum({p}))")
