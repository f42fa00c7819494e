"""Scores with something added by distance: row-block kernels of every instruction set have the bits of row kernels."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from random_modules import POSITIONS, Maker, write_package
from test_fuse_row_blocks import CHEAP, ids_of

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.graph.fuse_row_blocks import fuse_row_blocks, is_fused
from embbert_tvm.graph.quantize.quantizer import Quantized
from embbert_tvm.kernels.attention import Attention, Places
from embbert_tvm.kernels.epilogues import Dequantize, LayerNorm, Requantize
from embbert_tvm.kernels.isa import DSP

LENGTHS = (1, 2, 4, 5, 9, 31, POSITIONS)


PLACES = Places(POSITIONS, 7)


def layer(make: Maker, x, width: int, heads: int, relative: Places | None, one_row: bool = False):
    each, contexts = width // heads, []
    for _ in range(heads):
        q = make.linear([(x, width)], each, Requantize(), one_row=one_row)
        k, v = (make.linear([(x, width)], each, Requantize()) for _ in range(2))
        far = POSITIONS if relative is None else None
        contexts.append((make.attend(q, k, v, Attention(each, one_row, distances=far, relative=relative)), each))
    return make.linear(contexts, width, LayerNorm(), residual=None if one_row else x, one_row=one_row)


@functools.cache
def module(width: int, heads: int, relative: Places | None) -> Quantized:
    """A layer of all rows, then one of the first."""
    make = Maker(np.random.default_rng(width))

    def build():
        x = make.embedding(width, LayerNorm(), mapped=False, small_tables=False)
        x = layer(make, layer(make, x, width, heads, relative), width, heads, relative, one_row=True)
        return make.linear([(x, width)], 3, Dequantize(), one_row=True)

    return make.finish(build)


@functools.cache
def expected(width: int, heads: int, relative: Places | None) -> list[bytes]:
    run = llvm_runner(module(width, heads, relative).mod, optimized=False)
    return [run(ids_of(n)).tobytes() for n in LENGTHS]


@pytest.mark.parametrize(("relative", "label"), [(None, "_by_distance"), (PLACES, PLACES.label)])
@pytest.mark.parametrize(("width", "heads"), [(24, 2), (64, 2), (64, 1)])
@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("cortex-m7", "host"),
        ("cortex-m3", "qemu"),
        ("cortex-m4", "qemu"),
        ("cortex-m7", "qemu"),
        ("cortex-m55", "qemu"),
    ],
)
def test_the_bits_are_those_of_row_kernels(target, place, width, heads, relative, label, tmp_path):
    made = module(width, heads, relative)
    fused = fuse_row_blocks(made, DSP)
    assert is_fused(fused)
    assert any(label in choice.kernel and "row_block" in choice.kernel for choice in fused.choices)
    package = load_package(write_package(made, target, tmp_path / "package"))
    with open_place(place, package, flags=() if (width, heads) == (64, 2) else CHEAP[place]) as device:
        found = [device.run(ids_of(n)).logits.tobytes() for n in LENGTHS]
    assert found == expected(width, heads, relative)
