"""The recurrence of a selective state space, with what skips it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embbert_tvm.graph.dataflow import Dataflow, Expr, callee, constant, op_name, shape
from embbert_tvm.graph.names import plain
from embbert_tvm.graph.quantize import activations
from embbert_tvm.graph.quantize.quantizer import Kernel, Quantizer, Rows
from embbert_tvm.kernels import integer_scan as kernel
from embbert_tvm.kernels.fixed_point import multiplier

# Functions that give no negative step.
_STEPS = ("nn.softplus", "nn.relu", "sigmoid")
_MOST_STATE = 2.0**30 - 2
_MOST_SKIP = 2**22


@dataclass(frozen=True)
class Match:
    """u (1, L, C), into, out_of (1, L, N); the step is `function` of `step` (1, L, C); rate (C, N), below zero; skip
    (C,), of u."""

    u: Expr
    step: Expr
    function: str
    rate: np.ndarray
    into: Expr
    out_of: Expr
    skip: np.ndarray


def match(graph: Dataflow, expr: Expr) -> Match | None:
    made, skip = graph.producer(expr), None
    scan = made
    if op_name(made) == "add":
        found = [a for a in made.args if _is_scan(graph.producer(a)) and graph.uses(a) == 1]
        if len(found) != 1:
            return None
        scan = graph.producer(found[0])
        skip = graph.match(next(a for a in made.args if not a.same_as(found[0])), "multiply")
        if skip is None:
            return None
    if not _is_scan(scan):
        return None
    u, step, rate, into, out_of = scan.args[1].fields
    rate = constant(graph.producer(rate))
    made_step = graph.producer(step)
    if rate is None or (rate >= 0).any():
        return graph.refuse(expr, "its decay rates are not constants below zero")
    if op_name(made_step) not in _STEPS or graph.uses(step) != 1:
        return graph.refuse(expr, f"the steps {step.name} are not softplus, relu or sigmoid that this alone reads")
    through = np.zeros(len(rate)) if skip is None else _factor(graph, skip, u)
    if through is None or through.size not in (1, len(rate)):
        return None
    through = np.broadcast_to(through.reshape(-1), (len(rate),))
    return Match(u, made_step.args[0], op_name(made_step), rate.astype(np.float64), into, out_of, through)


def _is_scan(made: Expr) -> bool:
    return op_name(made) == "call_tir" and str(callee(made)).startswith("selective_scan_")


def _factor(graph: Dataflow, skip, u: Expr) -> np.ndarray | None:
    """c, where `skip` is c times u."""
    for x, factor in (skip.args, reversed(skip.args)):
        value = constant(factor)
        if value is not None and graph.producer(x).same_as(graph.producer(u)):
            return value.astype(np.float64)
    return None


def inputs(graph: Dataflow, found: Match) -> list[Expr]:
    """What the operator reads."""
    return [found.u, found.step, found.into, found.out_of]


def precision_source(found: Match) -> None:
    """The plan says how this is computed."""


@dataclass(frozen=True)
class _Steps:
    """size int32 and log_step int16, by the code of a step; log_decay int16 (C, N); what a step of `size` is worth."""

    size: np.ndarray
    log_step: np.ndarray
    log_decay: np.ndarray
    scale: float


def tabulate(step: np.ndarray, rate: np.ndarray) -> _Steps:
    """step: its real value by code (256,). rate (C, N), below zero. The sizes are the largest for which no input, of
    any length, brings a state to 2^30."""
    slowest = np.abs(rate).min()
    octaves = np.rint(kernel.OCTAVE * np.log2(np.abs(rate) / slowest))
    log_decay = np.clip(octaves, 0, kernel.MOST_DECAY).astype(np.int16)
    exponent = np.maximum(step * slowest, kernel.LEAST)
    found = np.rint(kernel.OCTAVE * np.log2(exponent / kernel.LEAST))
    log_step = np.clip(found, 0, kernel.MOST_STEP).astype(np.int16)
    kept = kernel.decay_table()[log_step].astype(np.float64) / 2.0**31
    # A state's bound is what enters over what leaves; |u| and |into| are 128 at most, multiply_high halves.
    bound = (np.maximum(step, 0) * 2.0 ** (kernel.INPUT_BITS - 32) * 128 * 128 / (1 - kept)).max()
    rounding = (1.5 * 128 / (1 - kept)).max()
    most = max(_MOST_STATE - rounding, _MOST_STATE / 2) / bound
    scale = max(1 / most, step.max() / 2.0**30)
    return _Steps(np.rint(np.maximum(step, 0) / scale).astype(np.int32), log_step, log_decay, scale)


def read_bits(skip: np.ndarray, worth: float, state: int) -> int:
    """The most bits that `out_of` can be shifted up by. skip: what a step of u is worth where it skips the state;
    worth: a step of the state times one of `out_of`."""
    bits = int(24 - np.ceil(np.log2(state)))
    while bits > 0 and (np.abs(skip) / (worth * 2.0 ** (32 - bits))).max() > _MOST_SKIP:
        bits -= 1
    return bits


def quantized(q: Quantizer, expr: Expr, found: Match) -> Rows:
    u, step, into, out_of = (q.quantized(x) for x in (found.u, found.step, found.into, found.out_of))
    channels, state = found.rate.shape
    code = (np.arange(256) - 128) * step.scale
    steps = tabulate(activations.FUNCTIONS[found.function](code), found.rate)
    worth = steps.scale * u.scale * 2.0 ** (32 - kernel.INPUT_BITS) * into.scale * out_of.scale
    bits = read_bits(found.skip * u.scale, worth, state)
    total = worth * 2.0 ** (32 - bits)
    scale = max(q.calibration.scale(expr.name), 2.01 * total)
    args = [
        u.expr,
        step.expr,
        into.expr,
        out_of.expr,
        steps.size,
        steps.log_step,
        steps.log_decay,
        kernel.decay_table(),
        np.clip(np.rint(found.skip * u.scale / total), -_MOST_SKIP, _MOST_SKIP).astype(np.int32),
        multiplier(np.array([total / scale])),
    ]
    names = dict(enumerate(("size", "log_step", "log_decay", "exp", "skip", "multiplier"), start=4))
    spec = kernel.IntegerScan(channels, state, bits)
    out = ([shape(u.expr)[0], channels], "int8")
    reason = "the recurrence and what skips it in one kernel"
    made = q.kernel(Kernel(kernel.integer_scan(spec), spec), plain(expr.name), args, out, reason, names)
    return Rows(made, scale)


def dequantized(q: Quantizer, expr: Expr, found: Match) -> None:
    """The driver converts the int8 rows."""
