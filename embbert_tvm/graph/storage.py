"""The constants of a quantized module as a package stores them: codes for weights of fewer than 8 bits, and biases,
lookup tables and multipliers that go with them in 8 and 16 bits. The values stay the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from embbert_tvm.graph.dataflow import Expr, constant
from embbert_tvm.graph.names import fingerprint
from embbert_tvm.graph.quantize.low_bits import Blocks
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv
from embbert_tvm.kernels.layouts import INTERLEAVE as LANES
from embbert_tvm.kernels.low_bits import NARROW, WeightFormat, narrow, pack_codes, pack_multipliers
from embbert_tvm.kernels.product import Product, Source

Argument = "Expr | np.ndarray"


def pack_pairs(matrix: np.ndarray) -> np.ndarray:
    """(n, k) row-interleaved, (n / 2, k, 2)."""
    n, k = matrix.shape
    return np.ascontiguousarray(matrix.reshape(n // LANES, LANES, k).transpose(0, 2, 1))


class Storage:
    """blocks: what low-bit constants are made of, by the fingerprint of their int8. names: of constants by fingerprint,
    to which those of new ones are added."""

    def __init__(self, blocks: dict[str, Blocks], names: dict[str, str]) -> None:
        self.blocks, self.names = blocks, names

    def holds(self, spec: object, args: Sequence[Expr]) -> bool:
        """Whether a kernel of this spec reads weights or tables of fewer than 8 bits."""
        values = (constant(a) for a in args)
        low = any(v is not None and v.dtype == np.int8 and fingerprint(v) in self.blocks for v in values)
        return low and isinstance(spec, (Product, DepthwiseConv))

    def matrix(self, expr: Expr, pairs: Callable | None = None) -> tuple[list, WeightFormat | None]:
        """An int8 constant (n, k), as it is or in codes with the multipliers of its blocks, and its format then. pairs:
        what interleaves rows of (n, k)."""
        value = constant(expr)
        blocks = None if value is None else self.blocks.get(fingerprint(value))
        if blocks is None:
            return [expr if pairs is None else self.renamed(value, pairs(value), "")], None
        levels = blocks.levels if pairs is None else pack_pairs(blocks.levels)
        parts = [self.renamed(value, pack_codes(blocks.format, levels), "_codes" if pairs is None else "_pairs")]
        if blocks.format.block is not None:
            parts.append(self.renamed(value, pack_multipliers(blocks.multipliers), "_multipliers"))
        return parts, blocks.format

    def product(self, spec: Product, args: Sequence[Expr], pairs: Callable | None = None) -> tuple[Product, list]:
        """A product's spec and arguments in storage; its matrix in pairs where `pairs` is given."""
        rest, made, sources, form = iter(args), [], [], None

        def read(source: Source) -> Source:
            parts, found = self.matrix(next(rest))
            made.extend(parts)
            made.extend([next(rest)] if source.indexed else [])
            return replace(source, form=found)

        sources = tuple(read(source) for source in spec.sources)
        if sources:
            parts, form = self.matrix(next(rest), pairs)
            made += parts
        stored = replace(spec, sources=sources, form=form)
        made.append(self.vector(next(rest), NARROW[0] if stored.narrow else None))
        for _ in spec.lookups:
            made.append(self.vector(next(rest), NARROW[0] if stored.narrow else None))
            made.append(next(rest))
        addends = []
        for addend in spec.addends:
            addends.append(read(addend))
            made.append(next(rest))
        stored = replace(stored, addends=tuple(addends))
        return stored, made + self._epilogue(spec.epilogue, rest, stored.narrow)

    def conv(self, spec: DepthwiseConv, args: Sequence[Expr], pairs: Callable | None = None) -> tuple:
        """A convolution's, likewise; pairs: of its weight (taps, channels)."""
        x, weight, bias, *rest = args
        parts, form = self.matrix(weight, pairs)
        bias = self.vector(bias, NARROW[0] if form else None)
        made = [x, *parts, bias, *self._epilogue(spec.epilogue, iter(rest), form is not None)]
        return replace(spec, form=form), made

    def _epilogue(self, epilogue: object, rest, small: bool) -> list:
        return [
            self.vector(value, NARROW[1] if small and i in epilogue.narrow else None) for i, value in enumerate(rest)
        ]

    def vector(self, expr: Expr, dtype: str | None) -> Argument:
        if dtype is None:
            return expr
        value = constant(expr)
        return self.renamed(value, narrow(value, dtype), f"_{dtype}")

    def renamed(self, old: np.ndarray, new: np.ndarray, suffix: str) -> np.ndarray:
        """`new`, to be known by the name of `old` and a suffix."""
        if fingerprint(new) not in self.names:
            name = self.names[fingerprint(old)] if suffix else self.names.pop(fingerprint(old))
            self.names[fingerprint(new)] = f"{name}{suffix}"
        return new
