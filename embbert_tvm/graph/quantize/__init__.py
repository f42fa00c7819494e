"""Relax in float to Relax with int8 kernels: the driver, and one file for each operator it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tvm import IRModule

from embbert_tvm.graph.calibrate import Calibration
from embbert_tvm.graph.dataflow import Dataflow, op_name
from embbert_tvm.graph.equalize import equalize
from embbert_tvm.graph.precision import PLANS, PrecisionPlan
from embbert_tvm.graph.quantize import (
    attention,
    depthwise_conv,
    gate,
    layout,
    pool,
    pool_rows,
    product,
    recurrence,
    row_product,
    row_slice,
    selective_scan,
)
from embbert_tvm.graph.quantize.quantizer import KernelSelection, Quantized, Quantizer
from embbert_tvm.graph.quantize.streams import find_streams
from embbert_tvm.graph.quantize.weights import under_activation

# The first that recognises a value makes it.
INT8_OPERATORS = (
    row_slice,
    attention,
    depthwise_conv,
    pool,
    pool_rows,
    selective_scan,
    recurrence,
    gate,
    product,
    layout,
)
LAYERS = (row_product,)
_BOUNDED = ("tanh", "sigmoid")  # what they are given reaches further than what they make

__all__ = ["KernelSelection", "Quantized", "keep_float", "quantize"]


def quantize(
    mod: IRModule,
    calibration: Calibration | None,
    plan: PrecisionPlan = PLANS["int8"],
    texts: Sequence[Sequence[int]] = (),
) -> Quantized:
    """A simplified module with its operators in the precision that the plan gives them, wherever there is a kernel.

    Args:
        mod: the simplified module.
        calibration: may be None for a plan that quantizes nothing.
        plan: the precision of each operator.
        texts: token ids; weights of fewer than 8 bits that GPTQ rounds are refitted to what the float model gives on
            them.

    Raises:
        InputError: where the plan names what the module does not have.
    """
    given = mod
    if calibration is not None:
        mod = equalize(mod, calibration.bounds)
        # A model that was trained through its rounding stays as it is.
        calibration = _holding_largest(Dataflow(mod), calibration) if calibration.second_moments else calibration
    streams = find_streams(Dataflow(mod)) if calibration is not None else frozenset()
    refits = bool(texts) and plan.has_low_bits and plan.rounding == "gptq" and bool(calibration.second_moments)
    # Which values are made twice is the same however weights are rounded.
    first = plan.in_bytes() if refits else plan
    shared: frozenset = frozenset()
    while True:
        quantizer = Quantizer(mod, calibration, INT8_OPERATORS, first, LAYERS, streams, shared)
        quantized = quantizer.run()
        if not quantizer.twice:
            break
        shared |= quantizer.twice
    if refits:
        quantized = Quantizer(mod, calibration, INT8_OPERATORS, plan, LAYERS, streams, shared, texts).run()
    return quantized if mod is given else _named_as(given, quantized)


def _holding_largest(graph: Dataflow, calibration: Calibration) -> Calibration:
    """Statistics by which what a maximum over all rows reads holds what it finds: a few values of many, all of which a
    percentile may leave out."""
    holds = {}
    for var, _ in graph.bindings:
        if (over := pool.match(graph, var)) is None or over.kind != "max":
            continue
        inner = under_activation(graph, over.x)
        holds[over.x.name] = var.name
        if op_name(graph.producer(over.x)) not in _BOUNDED:
            holds[inner.name] = var.name
    return replace(calibration, holds=holds)


def _named_as(mod: IRModule, quantized: Quantized) -> Quantized:
    """What stands for no tensor of `mod` without its origin."""
    names = {var.name for var, _ in Dataflow(mod).bindings}
    kept = {name: origin for name, origin in quantized.origins.items() if origin[0] in names}
    return replace(quantized, origins=kept)


def keep_float(mod: IRModule) -> Quantized:
    """A simplified module as it is, with the account of its operators that `quantize` gives."""
    return quantize(mod, None, PLANS["fp32"])
