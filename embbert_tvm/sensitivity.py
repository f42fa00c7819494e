"""What each operator loses in each precision, measured: the operator alone in it, all others in float32.

The error is the mean square of the logits' differences from the float model's; of what is in floating point, fp16 too,
it is taken for nothing. Rounding errors of operators are all but independent, so that their squares add up; the loss of
answers is measured of whole plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import IRModule
from tvm.ir import GenericConst

from embbert_tvm.codegen.macs import macs
from embbert_tvm.graph.calibrate import Calibration
from embbert_tvm.graph.dataflow import Dataflow, op_name
from embbert_tvm.graph.fuse_row_blocks import fuse_row_blocks, is_fused
from embbert_tvm.graph.llvm_run import llvm_machine, target_for
from embbert_tvm.graph.names import fingerprint
from embbert_tvm.graph.precision import PLANS, PRECISIONS, PrecisionPlan
from embbert_tvm.graph.quantize import Quantized, quantize
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.progress import over

# The length at which multiplications are weighed against each other.
LENGTH = 64


@dataclass(frozen=True)
class Sensitivity:
    """An operator in a precision. error: mean squared difference of the logits over the float logits' own mean square;
    changed: the share of texts whose label changes; flash: bytes of constants over those of int8; macs: multiplications
    at LENGTH tokens; blocked: whether blocked kernels serve a model that has this one operator so and int8 else."""

    operator: str
    precision: str
    error: float
    changed: float
    flash: int
    macs: int
    blocked: bool


class Texts:
    """Token ids with the float model's logits, and labels where they are known."""

    def __init__(self, mod: IRModule, ids: Sequence[Sequence[int]], labels: Sequence[int] | None = None) -> None:
        self.ids, self.labels = list(ids), None if labels is None else np.asarray(labels)
        self.logits = logits(quantize(mod, None, PLANS["fp32"]).mod, self.ids)

    def first(self, count: int) -> Texts:
        part = object.__new__(Texts)
        part.ids, part.logits = self.ids[:count], self.logits[:count]
        part.labels = None if self.labels is None else self.labels[:count]
        return part

    def error(self, found: np.ndarray) -> float:
        return float(((found - self.logits) ** 2).mean() / max(float((self.logits**2).mean()), 1e-30))

    def changed(self, found: np.ndarray) -> float:
        return float((found.argmax(1) != self.logits.argmax(1)).mean())

    def drop(self, found: np.ndarray) -> float:
        """Points of accuracy lost; without labels the percentage of texts whose label changes, which is no less."""
        if self.labels is None:
            return 100 * self.changed(found)
        right, was = (found.argmax(1) == self.labels).mean(), (self.logits.argmax(1) == self.labels).mean()
        return 100 * float(was - right)


def logits(mod: IRModule, ids: Sequence[Sequence[int]], what: str = "running a plan") -> np.ndarray:
    """(texts, classes) by TVM's LLVM build, the same bits as the C of integer kernels. what: says what it does."""
    machine = llvm_machine(mod, target_for(mod, sum(map(len, ids))))
    tensors = (tvm.runtime.tensor(np.asarray([i], np.int32)) for i in over(ids, what, "texts"))
    return np.array([machine["main"](tensor).numpy().reshape(-1) for tensor in tensors])


def constants_bytes(mod: IRModule, half: bool = False) -> int:
    """Bytes of all constants of `main`, each once. half: whether floating point is stored in half precision."""
    found: dict[str, int] = {}

    def visit(expr) -> None:
        if isinstance(expr, GenericConst):
            value = expr.value.numpy()
            found[fingerprint(value)] = value.nbytes // (2 if halved and value.dtype == np.float32 else 1)
        for part in (*getattr(expr, "args", ()), *getattr(expr, "fields", ())):
            visit(part)

    for _, value in Dataflow(mod).bindings:
        halved = half and op_name(value) not in ("call_tir", "call_tir_inplace")
        visit(value)
    return sum(found.values())


def operator_macs(quantized: Quantized, length: int = LENGTH) -> dict[str, int]:
    """Multiplications of each operator of an integer module, by the name of the float value that it makes."""
    counted: dict[str, int] = {}
    for var, value in Dataflow(quantized.mod).bindings:
        if op_name(value) == "call_tir" and var.name in quantized.origins:
            kernel = quantized.mod[value.args[0]]
            dims = {str(d) for p in kernel.params for d in getattr(p.ty, "shape", ()) if not str(d).isdigit()}
            counted[quantized.origins[var.name][0]] = macs(kernel, dict.fromkeys(dims, length)) or 0
    return counted


@dataclass(frozen=True)
class Trials:
    """What is tried: precisions, over the plan `base`, by whose ranges all are calibrated."""

    precisions: Sequence[str]
    base: PrecisionPlan = PLANS["int8"]


def measure(mod: IRModule, calibration: Calibration, texts: Texts, isa: Isa, trials: Trials) -> list[Sensitivity]:
    """Every operator of a simplified module in every precision, but where that changes nothing of the base."""
    precisions, base = trials.precisions, trials.base
    whole = quantize(mod, calibration, base)
    fused = fuse_row_blocks(whole, isa)
    counts, least = operator_macs(whole), constants_bytes(fused.mod)
    every = [(name, precision) for name in whole.plan.operators for precision in precisions]
    table = []
    for name, precision in over(every, "measuring operators", "trials"):
        as_base = precision == base.default and not base.operators
        one = whole if as_base else quantize(mod, calibration, base.of({name: precision}))
        integers = PRECISIONS[precision].activations == "int8"
        if precision != base.default and integers and one.blocks.keys() == whole.blocks.keys():
            continue
        placed = fused if as_base else fuse_row_blocks(one, isa)
        flash = constants_bytes(placed.mod, one.plan.half) - least
        error = changed = 0.0
        if not PRECISIONS[precision].is_float:
            found = logits(quantize(mod, calibration, base.of({"*": "fp32", name: precision})).mod, texts.ids)
            error, changed = texts.error(found), texts.changed(found)
        table.append(Sensitivity(name, precision, error, changed, flash, counts.get(name, 0), is_fused(placed)))
    return table
