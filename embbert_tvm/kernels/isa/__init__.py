"""Instruction sets: for each, how a block of rows lies in memory and the micro-kernels that work on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from embbert_tvm.errors import InputError
from embbert_tvm.kernels.forms import DEFAULT_FORMS, KernelForms
from embbert_tvm.kernels.isa.base import Isa
from embbert_tvm.kernels.isa.dsp import DSP, DSP_DUAL, PLAIN, Dsp
from embbert_tvm.kernels.isa.mve import MVE
from embbert_tvm.kernels.isa.mve_fp16 import MVE_FP16
from embbert_tvm.kernels.isa.registry import Registry, listed
from embbert_tvm.kernels.layouts import INTERLEAVE, ROWS

REFERENCE = DSP.reference

# A CPU's feature that a class serves, the best first.
_BY_FEATURE = {"mve": MVE, "dual_issue": DSP_DUAL, "dsp": DSP}


_UNPACK = listed("embbert_low_bits.h", {"embbert_unpack": lambda: 0})
MICRO_KERNELS = Registry(DSP.micro_kernels, MVE.micro_kernels, MVE_FP16.micro_kernels, _UNPACK)


def isa_of(features: Sequence[str], forms: KernelForms = DEFAULT_FORMS) -> Isa:
    """The instruction set that a CPU of these features runs best, in forms of its kernels. InputError where it has no
    blocks of so many rows.

    A CPU without DSP runs those micro-kernels as plain C, PLAIN: half the instructions of a row at a time (Cortex-M3),
    as an operand is widened once for four rows.
    """
    features, row_block = forms.features(features), forms.row_block
    isa: Isa = next((isa for feature, isa in _BY_FEATURE.items() if feature in features), PLAIN)
    if isinstance(isa, Dsp) and isa.simd and (forms.raw_rows or not forms.raw_words):
        tile = (ROWS, INTERLEAVE) if forms.raw_rows == ROWS else isa.raw_tile
        isa = replace(isa, raw_words=forms.raw_words, raw_tile=tile)
    if row_block == isa.rows:
        return isa
    if row_block != 2 * ROWS or isa.fills_blocks:
        raise InputError(
            f"--row-block {row_block}: blocks on this CPU have {'4' if isa.fills_blocks else '4 or 8'} rows"
        )
    return replace(isa, together=row_block // ROWS)


def computes_in_half(features: Sequence[str]) -> bool:
    """Whether a CPU of these features has vectors of half precision: MVE with floating point."""
    return {"mve", "fp16"} <= set(features)


__all__ = [
    "DSP",
    "DSP_DUAL",
    "MICRO_KERNELS",
    "MVE",
    "MVE_FP16",
    "PLAIN",
    "REFERENCE",
    "Isa",
    "computes_in_half",
    "isa_of",
]
