"""Kernels that work on four rows at a time, each bit for bit what the kernels of one row compute.

Activations lie as pairs matrices, int8 (rows / 2, width, 2): rows 2i and 2i + 1 side by side (intrinsics.py). Their
rows come in whole blocks of four; rows past the length hold anything and are never read into a result.

`layer` is a whole EmbBERT layer over one block after another: queries, scores, softmax, context, and one product with
RMSNorm straight from its accumulators. What it needs at once is its input, the convolution's output, which it
overwrites with its own, and a few rows.
"""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels import steps
from embbert_tvm.kernels.attention import ENTRIES
from embbert_tvm.kernels.builder import From, argument, length, loop, prim_func, store, tokens, workspace
from embbert_tvm.kernels.intrinsics import LANES, ROWS, Isa
from embbert_tvm.kernels.low_bits import NARROW, WIDE, WeightFormat, constants, stored, widened
from embbert_tvm.kernels.product import Product

# A block's operands are taken this many columns at a time.
COLUMNS = 32


def pairs_of(count):
    """Pairs of rows in a matrix of `count` rows, in whole blocks."""
    return (count + (ROWS - 1)) // ROWS * (ROWS // LANES)


def embedding(spec: Product, isa: Isa) -> tirx.PrimFunc:
    """`spec`, Product((Source(indexed), Source(table)), n, RmsNorm(), (segments,)), over pairs matrices.

    Arguments: x0 int8 (tables[0], widths[0]), its ids int32 (1, L), x1 int8 (tables[1], widths[1]); weight int8
    (n / 2, k, 2); bias (n,); lookup int32 (segments, n), its ids; common, epsilon, gain; out int8 (pairs, n, 2). What
    has a format is codes, and the vectors are narrow, as in `product`.
    """
    k, n, (segments,) = spec.k, spec.n, spec.lookups
    small, middle = NARROW if spec.narrow else WIDE

    def body() -> None:
        rows = length()
        tokens, positions = spec.sources
        x0 = stored("x0", (tokens.rows, tokens.width), tokens.form)
        ids = argument("x0_ids", (1, rows), "int32")
        x1 = stored("x1", (positions.rows, positions.width), positions.form)
        weight = stored("weight", (n // 2, k, LANES), spec.form)
        bias = constants("bias", (n,), small)
        lookup = constants("table0", (segments, n), small)
        segment = argument("table0_ids", (1, rows), "int32")
        common, epsilon = constants("common", (n,), middle), argument("epsilon", (1,), "int32")
        gain = constants("gain", (n,), middle)
        out = argument("out", (pairs_of(rows), n, LANES), "int8")
        with T.sblock("embedding"):
            left, wide = isa.operand("left", k), isa.sums("wide", n)
            tile = _tile(k, spec.form)
            bias, common, gain = (widened(isa, vector) for vector in (bias, common, gain))
            with loop("b", (rows + (ROWS - 1)) // ROWS) as b:

                def at(r):
                    """The last block repeats the last token."""
                    return tirx.min(b * ROWS + r, rows - 1)

                with loop("r", ROWS) as r:
                    for source, data, row, offset in (
                        (tokens, x0, ids[0, at(r)], 0),
                        (positions, x1, at(r), tokens.width),
                    ):
                        with loop("k", source.width) as i:
                            value = data.element(row, i) if source.form else data[row, i]
                            store(left, tirx.Cast(isa.dtype, value), *isa.at(r, offset + i))
                norm = (common, epsilon, gain)
                segments_of = lambda r, j: lookup[segment[0, at(r)], j]  # noqa: E731
                steps.normalized(isa, out, b, wide, left, weight, bias, segments_of, norm, tile)

    widths = "_".join(f"{s.width}{s.form.label if s.form else ''}" for s in spec.sources)
    return prim_func(f"blocked_embedding_{widths}x{n}{_label(spec.form)}", body, compact=False)


def _label(*forms: WeightFormat | None) -> str:
    return "".join(f"_{form.label if form else 'int8'}" for form in forms) if any(forms) else ""


def _tile(k: int, *forms: WeightFormat | None):
    """Room for two rows of k weights, where any are codes."""
    return workspace("tile", (1, k, LANES), "int8") if any(forms) else None


def conv(taps: int, channels: int, isa: Isa, form: WeightFormat | None = None) -> tirx.PrimFunc:
    """depthwise_conv(DepthwiseConv(taps, channels, Activate(), form=form)) over pairs matrices, two channels at a time
    along the text.

    Arguments: x int8 (pairs, channels, 2); weight int8 (channels / 2, taps, 2); bias, multiplier int32 (channels,);
    table int8 (256,); out int8 (pairs, channels, 2).
    """
    small, middle = WIDE if form is None else NARROW

    def body() -> None:
        pairs = length("M")
        x = argument("x", (pairs, channels, LANES), "int8")
        weight = stored("weight", (channels // 2, taps, LANES), form)
        bias = constants("bias", (channels,), small)
        multiplier, table = constants("multiplier", (channels,), middle), argument("table", (256,), "int8")
        out = argument("out", (pairs, channels, LANES), "int8")
        with T.sblock("conv"):
            line, tile = steps.line_of(isa, taps, pairs), _tile(taps, form)
            if form is None:
                with loop("c", channels) as c:
                    steps.filtered(isa, out, x, c, line, weight, tirx.floordiv(c, LANES), bias, multiplier, table)
                return
            with loop("p", channels // LANES) as p:
                weight.unpack_pair(isa, tile, p)
                with loop("h", LANES) as h:
                    steps.filtered(isa, out, x, p * LANES + h, line, tile, 0, bias, multiplier, table)

    return prim_func(f"blocked_conv_{taps}x{channels}{_label(form)}", body, compact=False)


def attention_row(width: int, isa: Isa) -> tirx.PrimFunc:
    """attention(Attention(width, single=True, pairs=True)) as a block of four rows, all the same.

    Arguments: L; query int8 (1, width); key, value int8 (pairs, width, 2); table int8 (256,); step, ratio int32 (1,);
    out int8 (1, width).
    """

    def body() -> None:
        count, pairs = tokens(), length("M")
        query = argument("query", (1, width), "int8")
        key, value = (argument(name, (pairs, width, LANES), "int8") for name in ("key", "value"))
        table = argument("table", (ENTRIES,), "int8")
        step, ratio = argument("step", (1,), "int32"), argument("ratio", (1,), "int32")
        out = argument("out", (1, width), "int8")
        with T.sblock("attention"):
            columns = tirx.max(pairs * LANES, width)
            left, right, wide = isa.operand("left", width), isa.operand("right", columns), isa.sums("wide", columns)
            factor = workspace("factor", (ROWS,), "int32")
            with loop("r", ROWS) as r, loop("k", width) as k:
                store(left, tirx.Cast(isa.dtype, query[0, k]), *isa.at(r, k))
            steps.scores(isa, wide, left, key, count)
            steps.softmax(isa, right, factor, wide, table, step, ratio, count)
            steps.attended(isa, left, wide, right, value, factor, count)
            with loop("k", width) as k:
                store(out, tirx.Cast("int8", left[isa.at(0, k)]), 0, k)

    return prim_func(f"blocked_attention_row_{width}", body, compact=False)


def layer(
    width: int, isa: Isa, query_form: WeightFormat | None = None, form: WeightFormat | None = None
) -> tirx.PrimFunc:
    """A layer: product to int8 queries, attention over the input, and the joined product with RMSNorm.

    Arguments: L; y int8 (pairs, width, 2); query_weight int8 (width / 2, width, 2), query_bias, query_multiplier int32
    (width,); exp int8 (256,); step, ratio int32 (1,); weight int8 (width / 2, 2 * width, 2): of the context, then of
    the convolution; bias, common int32 (width,); epsilon int32 (1,); gain int32 (width,); conv int8 (pairs, width, 2):
    the convolution's output, overwritten with the layer's. Weights of a format are codes, and their product's vectors
    narrow, as in `product`.
    """
    query_small, query_middle = WIDE if query_form is None else NARROW
    small, middle = WIDE if form is None else NARROW

    def body() -> None:
        count, pairs = tokens(), length("M")
        y = argument("y", (pairs, width, LANES), "int8")
        query_weight = stored("query_weight", (width // 2, width, LANES), query_form)
        query_bias = constants("query_bias", (width,), query_small)
        query_multiplier = constants("query_multiplier", (width,), query_middle)
        exp = argument("exp", (ENTRIES,), "int8")
        step, ratio = argument("step", (1,), "int32"), argument("ratio", (1,), "int32")
        weight = stored("weight", (width // 2, 2 * width, LANES), form)
        bias, common = constants("bias", (width,), small), constants("common", (width,), middle)
        epsilon, gain = argument("epsilon", (1,), "int32"), constants("gain", (width,), middle)
        conv_out = argument("conv", (pairs, width, LANES), "int8")
        with T.sblock("layer"):
            # Each of these serves twice: the block's rows, then their context; queries, then softmax weights, then the
            # convolution, which joins the context in one operand; sums of every product.
            columns = tirx.max(pairs * LANES, width)
            left, wide = isa.operand("left", width + columns), isa.sums("wide", columns)
            right = From(left, width // isa.columns)
            factor, tile = workspace("factor", (ROWS,), "int32"), _tile(2 * width if form else width, query_form, form)
            query_bias, query_multiplier = widened(isa, query_bias), widened(isa, query_multiplier)
            bias, common, gain = (widened(isa, vector) for vector in (bias, common, gain))
            with loop("b", pairs // 2) as b:
                steps.widen(isa, left, 0, y, b * 2)
                steps.requantized(isa, right, wide, left, query_weight, query_bias, query_multiplier, tile)
                steps.scores(isa, wide, right, y, count)
                steps.softmax(isa, right, factor, wide, exp, step, ratio, count)
                steps.attended(isa, left, wide, right, y, factor, count)
                steps.widen(isa, left, width, conv_out, b * 2)
                norm = (common, epsilon, gain)
                steps.normalized(isa, conv_out, b, wide, left, weight, bias, None, norm, tile)

    return prim_func(f"blocked_layer_{width}{_label(query_form, form)}", body, compact=False)
