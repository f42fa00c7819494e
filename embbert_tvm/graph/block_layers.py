"""Replace the kernels of a quantized EmbBERT by the blocked kernels that compute the same bits.

The chain embedding -> layer -> ... -> layer -> the row that the head reads is recognised by what each kernel was made
from. Where a link of it is missing, the module stays as it is and the reason is given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tvm import IRModule, relax
from tvm.ir import Call, GenericConst, Var

from embbert_tvm.graph.dataflow import Dataflow, Expr, shape, substitute, variables
from embbert_tvm.graph.quantize.quantizer import KERNEL, Choice, Quantized
from embbert_tvm.graph.storage import Storage, pack_pairs
from embbert_tvm.kernels import blocked
from embbert_tvm.kernels.attention import Attention, attention
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv, depthwise_conv
from embbert_tvm.kernels.epilogues import Activate, Requantize, RmsNorm
from embbert_tvm.kernels.intrinsics import LANES, Isa
from embbert_tvm.kernels.product import Product, product

# Of the reason of a choice, where a kernel works a row at a time for want of blocked ones.
UNSERVED = "a row at a time, as the blocked kernels cannot serve"


class Unfit(Exception):
    """Why the blocked kernels cannot serve."""


@dataclass(frozen=True)
class _Layer:
    """The values of one layer: its input, queries, attention, convolution and output."""

    y: Var
    query: Var
    attention: Var
    conv: Var
    out: Var


@dataclass(frozen=True)
class _Chain:
    embedding: Var | None
    layers: tuple[_Layer, ...]
    rows: tuple[Var, ...]


class _Reader:
    def __init__(self, quantized: Quantized) -> None:
        self.specs = quantized.specs
        self.graph = Dataflow(quantized.mod)
        self.users: dict[Var, list[Var]] = {}
        for var, value in self.graph.bindings:
            for used in dict.fromkeys(variables(value)):
                self.users.setdefault(used, []).append(var)

    def spec(self, var: Var):
        return self.specs.get(var.name)

    def args(self, var: Var) -> list[Expr]:
        return list(self.graph.binding(var).args[1].fields)

    def constants(self, var: Var) -> list[Expr]:
        """What a kernel reads; nothing of what is no call of a kernel with a spec."""
        return self.args(var) if self.spec(var) is not None else []

    def chain(self) -> _Chain:
        starts = [v for v, _ in self.graph.bindings if self._is_embedding(self.spec(v))]
        if len(starts) != 1:
            raise Unfit("no embedding of tokens and positions that ends in RMSNorm")
        layers: list[_Layer] = []
        y = starts[0]
        while (layer := self._layer(y)) is not None:
            layers.append(layer)
            y = layer.out
        rows = tuple(self.users.get(y, ()))
        if not layers or not all(self._reads_row(v, y) for v in rows):
            raise Unfit(f"{y.name} is read by more than an EmbBERT layer or the row of a head")
        return _Chain(starts[0], tuple(layers), rows)

    def _is_embedding(self, spec) -> bool:
        return (
            isinstance(spec, Product)
            and isinstance(spec.epilogue, RmsNorm)
            and [s.indexed for s in spec.sources] == [True, False]
            and all(s.rows and s.row is None and s.width % 2 == 0 for s in spec.sources)
            and len(spec.lookups) == 1
            and not spec.addends
            and spec.k % blocked.COLUMNS == 0
            and spec.n % blocked.COLUMNS == 0
        )

    def _layer(self, y: Var) -> _Layer | None:
        width = shape(y)[1]
        users = self.users.get(y, [])
        kinds = {type(self.spec(v)): v for v in users}
        if len(users) != 3 or set(kinds) != {Product, Attention, DepthwiseConv}:
            return None
        query, attended, conv = kinds[Product], kinds[Attention], kinds[DepthwiseConv]
        outs = self.users.get(attended, [])
        if len(outs) != 1 or self.users.get(conv) != outs or self.users.get(query) != [attended]:
            return None
        first, last, filters = self.spec(query), self.spec(outs[0]), self.spec(conv)
        plain = isinstance(last, Product) and all(
            s.rows is None and s.row is None for s in (*first.sources, *last.sources)
        )
        fits = (
            plain
            and first.n == last.n == width
            and width % blocked.COLUMNS == 0
            and isinstance(first.epilogue, Requantize)
            and isinstance(last.epilogue, RmsNorm)
            and [s.width for s in last.sources] == [width, width]
            and not (first.lookups or last.lookups or self.spec(attended).single)
            and not (first.addends or last.addends)
            and isinstance(filters.epilogue, Activate)
            and filters.row is None
            and filters.expansion == 1
            and filters.taps % 2 == 0
            and self.args(outs[0])[0].same_as(attended)
            and self.args(attended)[1].same_as(y)
            and self.args(attended)[2].same_as(y)
        )
        return _Layer(y, query, attended, conv, outs[0]) if fits else None

    def _reads_row(self, var: Var, y: Var) -> bool:
        spec = self.spec(var)
        if isinstance(spec, Attention):
            return spec.single and not self.args(var)[0].same_as(y)
        if isinstance(spec, Product):
            return spec.single and len(spec.sources) == 1 and not spec.addends
        return isinstance(spec, DepthwiseConv) and spec.row is not None


def _is_single(spec) -> bool:
    return isinstance(spec, Product) and spec.single


class _Writer:
    def __init__(self, quantized: Quantized, reader: _Reader, isa: Isa) -> None:
        self.quantized, self.reader, self.isa = quantized, reader, isa
        self.names = dict(quantized.constants)
        kernels = {g: f for g, f in quantized.mod.functions.items() if g.name_hint != "main"}
        self.builder = relax.BlockBuilder(IRModule(kernels))
        (self.ids,) = reader.graph.function.params
        self.length = shape(self.ids)[1]
        self.choices: list[Choice] = []
        self.storage = Storage(quantized.blocks, self.names)
        self.remap: dict[Var, Expr] = {}

    def call(self, func, name: str, args: list, out, reason: str, length: bool, inplace: int | None = None) -> Var:
        target = self.builder.add_func(func, func.attrs[KERNEL])
        tensors = [relax.const(a) if isinstance(a, np.ndarray) else substitute(a, self.remap) for a in args]
        operands = [self.length, *tensors] if length else tensors
        if inplace is None:
            call = relax.call_tir(target, operands, out)
        else:
            call = relax.op.call_tir_inplace(target, operands, [inplace + length], out)
        made = self.builder.emit(call, name_hint=name)
        self.choices.append(Choice(made.name, str(func.attrs[KERNEL]), "int8", reason))
        return made

    def pairs(self, width: int):
        return relax.TensorType([blocked.pairs_of(self.length), width, LANES], "int8")

    def embedding(self, var: Var) -> Var:
        spec, args = self.storage.product(self.reader.spec(var), self.reader.args(var), pack_pairs)
        func = blocked.embedding(spec, self.isa)
        reason = "tokens, positions, segments and rms_norm, four rows at a time"
        return self.call(func, var.name, args, self.pairs(spec.n), reason, length=False)

    def layer(self, layer: _Layer) -> Var:
        read = self.reader.args
        spec, args = self.storage.conv(self.reader.spec(layer.conv), read(layer.conv), lambda w: pack_pairs(w.T))
        out = self.pairs(spec.channels)
        reason = "filters along the text, two samples an instruction"
        func = blocked.conv(spec.taps, spec.channels, self.isa, spec.form)
        conv = self.call(func, layer.conv.name, args, out, reason, False)
        first, (_, *query) = self.storage.product(self.reader.spec(layer.query), read(layer.query), pack_pairs)
        last, (_, _, *joined) = self.storage.product(self.reader.spec(layer.out), read(layer.out), pack_pairs)
        args = [layer.y, *query, *read(layer.attention)[3:], *joined, conv]
        reason = "queries, attention, joined product and rms_norm, four rows at a time"
        func = blocked.layer(spec.channels, self.isa, first.form, last.form)
        return self.call(func, layer.out.name, args, out, reason, length=True, inplace=len(args) - 1)

    def stored(self, var: Var, reason: str) -> Var:
        """A product or convolution with its constants in storage."""
        spec, args = self.reader.spec(var), self.reader.args(var)
        if isinstance(spec, Product):
            spec, args = self.storage.product(spec, args)
            func = product(spec, self.isa)
        else:
            spec, args = self.storage.conv(spec, args)
            func = depthwise_conv(spec)
        return self.call(func, var.name, args, var.ty, reason, length=False)

    def row(self, var: Var) -> Var:
        """A kernel of one row, reading a pairs matrix."""
        spec, args = self.reader.spec(var), self.reader.args(var)
        if isinstance(spec, Product):
            spec, args = self.storage.product(spec, args)
            sources = tuple(replace(s, pairs=True) for s in spec.sources)
            func, length = product(replace(spec, sources=sources), self.isa), False
        elif isinstance(spec, Attention) and self.isa.whole:
            func, length = blocked.attention_row(spec.width, self.isa), True
        elif isinstance(spec, Attention):
            func, length = attention(replace(spec, pairs=True)), True
        else:
            spec, args = self.storage.conv(spec, args)
            func, length = depthwise_conv(replace(spec, pairs=True)), False
        out = var.ty
        return self.call(func, var.name, args, out, "the row that the head reads", length)

    def run(self, chain: _Chain | None) -> Quantized:
        graph = self.reader.graph
        chain = chain or _Chain(None, (), ())
        layers = {layer.out: layer for layer in chain.layers}
        inside = {v for layer in chain.layers for v in (layer.query, layer.attention, layer.conv)}
        kept = {c.name: c for c in self.quantized.choices}
        with self.builder.function("main", [self.ids], dict(graph.function.attrs)):
            with self.builder.dataflow():
                for var, value in graph.bindings:
                    if var in inside:
                        continue
                    if chain.embedding is not None and var.same_as(chain.embedding):
                        made = self.embedding(var)
                    elif var in layers:
                        made = self.layer(layers[var])
                    elif var in chain.rows:
                        made = self.row(var)
                    elif self.storage.holds(self.reader.spec(var), self.reader.constants(var)):
                        made = self.stored(var, kept[var.name].reason)
                    elif self.isa.whole and _is_single(self.reader.spec(var)):
                        made = self.stored(var, "one row of a product")
                    else:
                        made = self._same(var, value, kept)
                    self.remap[var] = made
                out = self.builder.emit_output(substitute(graph.output, self.remap), name_hint=graph.output.name)
            self.builder.emit_func_output(out)
        mod = relax.transform.DeadCodeElimination()(self.builder.finalize())
        return replace(self.quantized, mod=mod, constants=self.names, choices=tuple(self.choices), specs={})

    def _same(self, var: Var, value: Expr, kept: dict[str, Choice]) -> Expr:
        new = substitute(value, self.remap)
        if not isinstance(new, Call) or isinstance(new, GenericConst):
            return new
        if var.name in kept:
            self.choices.append(kept[var.name])
        return self.builder.emit(new, name_hint=var.name)


def block_layers(quantized: Quantized, isa: Isa) -> Quantized:
    """The module on blocked kernels; where they cannot serve, as it was, with the reason on its choices."""
    reader = _Reader(quantized)
    try:
        chain = reader.chain()
        taps = max(reader.spec(layer.conv).taps for layer in chain.layers)
        if isa.most_taps is not None and taps > isa.most_taps:
            raise Unfit(f"a filter has {taps} taps, {isa.most_taps} are the most on {isa.name}")
    except Unfit as unfit:
        reason = f"{UNSERVED}: {unfit}"
        choices = (
            replace(c, reason=f"{c.reason}; {reason}") if c.precision == "int8" else c for c in quantized.choices
        )
        quantized = replace(quantized, choices=tuple(choices))
        return _Writer(quantized, reader, isa).run(None) if quantized.blocks else quantized
    return _Writer(quantized, reader, isa).run(chain)


def is_blocked(quantized: Quantized) -> bool:
    """Whether blocked kernels serve what `block_layers` gave."""
    return not any(UNSERVED in choice.reason for choice in quantized.choices)
