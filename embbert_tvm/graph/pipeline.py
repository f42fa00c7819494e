"""The compiler's table of contents: every pass from an ONNX file to calls of kernels, in five phases.

A pass is a TVM module pass, so that the instruments of a PassContext see each by its name: time them by
`tvm.ir.instrument.PassTimingInstrument`, write the module after each phase by `DumpPhases`. What a pass has to know
beside the module (statistics, the plan, the target) it is given when the pipeline is built; what it finds out travels
as attributes of the module and its functions (graph/attributes.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import tvm
from tvm import IRModule, relax
from tvm.ir.instrument import PassInstrument
from tvm.ir.transform import Pass, PassContext, PassInfo, Sequential

from embbert_tvm.data.files import write_atomically
from embbert_tvm.errors import EmbbertError, InputError
from embbert_tvm.graph import qdq
from embbert_tvm.graph.attributes import account_of, with_account, with_written, written_of
from embbert_tvm.graph.calibrate import Calibration
from embbert_tvm.graph.fuse_row_blocks import fuse_row_blocks
from embbert_tvm.graph.half_operators import half_operators
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.passes.activations import fuse_activations
from embbert_tvm.graph.passes.batch_of_one import keep_batch
from embbert_tvm.graph.passes.causal_conv import pad_causally
from embbert_tvm.graph.passes.cumsum import call_cumsum
from embbert_tvm.graph.passes.dead_rows import drop_dead_rows
from embbert_tvm.graph.passes.flat_outputs import keep_outputs_flat
from embbert_tvm.graph.passes.fold_constants import fold_constants
from embbert_tvm.graph.passes.fold_layouts import fold_layouts
from embbert_tvm.graph.passes.fold_scales import fold_scales
from embbert_tvm.graph.passes.importer_tir import raise_importer_tir
from embbert_tvm.graph.passes.index_guards import drop_index_guards
from embbert_tvm.graph.passes.layer_norm import fuse_layer_norm
from embbert_tvm.graph.passes.narrow_integers import narrow_integers
from embbert_tvm.graph.passes.plain_rows import find_plain_rows
from embbert_tvm.graph.passes.position_slice import slice_positions
from embbert_tvm.graph.passes.refuse_shapes import refuse_shapes
from embbert_tvm.graph.passes.rms_norm import fuse_rms_norm
from embbert_tvm.graph.passes.silu import fuse_silu
from embbert_tvm.graph.passes.softplus import fuse_softplus
from embbert_tvm.graph.passes.split_columns import split_columns
from embbert_tvm.graph.passes.split_heads import split_heads
from embbert_tvm.graph.passes.take_in_bounds import take_in_bounds
from embbert_tvm.graph.precision import PrecisionPlan
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.graph.tvm_workarounds import module_pass, raised_by_passes
from embbert_tvm.kernels.isa import MVE_FP16, Isa
from embbert_tvm.progress import stage

# 1. From an ONNX model to Relax.
IMPORTED = "1-imported"
# 2. Until the graph reads as the model's equations.
SIMPLIFIED = "2-simplified"
# 3. Operators in the precision that the plan gives them, on kernels that work a row at a time.
QUANTIZED = "3-quantized"
# 4. The same bits from the kernels that the target runs best.
FUSED = "4-fused"
# 5. Every operator as a call of a kernel.
CALLS = "5-calls"
PHASES = (IMPORTED, SIMPLIFIED, QUANTIZED, FUSED, CALLS)

SIMPLIFICATION = (
    raise_importer_tir,
    take_in_bounds,
    drop_index_guards,
    fold_layouts,
    fold_constants,
    # Constants that folding has made (a constant index, say) remove the guards that were left.
    drop_index_guards,
    narrow_integers,
    slice_positions,
    fuse_rms_norm,
    fuse_layer_norm,
    fuse_activations,
    fuse_silu,
    fuse_softplus,
    pad_causally,
    find_plain_rows,
    split_columns,
    keep_batch,
    split_heads,
    fold_scales,
    drop_dead_rows,
    refuse_shapes,
)


def imported(model: onnx.ModelProto) -> Pass:
    """Phase 1. Raises InputError for a graph that is no text classifier, or holds what cannot be imported."""

    def import_model(_: IRModule) -> IRModule:
        return import_onnx(model)

    def note_written_integers(mod: IRModule) -> IRModule:
        return with_written(mod, qdq.written(mod))

    return _phase(IMPORTED, (import_model, note_written_integers))


def simplified() -> Pass:
    """Phase 2. Raises InputError for a module that computes with the shape of a tensor."""
    return _phase(SIMPLIFIED, SIMPLIFICATION)


def quantized(plan: PrecisionPlan, calibration: Calibration | None, texts: Sequence[Sequence[int]] = ()) -> Pass:
    """Phase 3. calibration: the statistics of the simplified module, None where the plan has no integers. texts: token
    ids that weights of fewer than 8 bits are refitted to.

    A model that is quantized already is taken at its word, whatever the plan.
    """

    def quantize_operators(mod: IRModule) -> IRModule:
        constants = written_of(mod)
        return with_account(
            quantize(mod, calibration, plan, texts) if constants is None else qdq.as_written(mod, constants)
        )

    return _phase(QUANTIZED, (quantize_operators,))


def fused(isa: Isa, in_half: bool) -> Pass:
    """Phase 4. isa: whose micro-kernels are called; in_half: whether the target computes in half precision."""

    def fuse_rows(mod: IRModule) -> IRModule:
        known = account_of(mod)
        if written_of(mod) is not None:
            return with_account(qdq.on_isa(known, isa))
        return with_account(fuse_row_blocks(known, isa)) if known.plan.has_integers else mod

    def compute_in_half(mod: IRModule) -> IRModule:
        known = account_of(mod)
        if not (in_half and known.plan.half):
            return mod
        return with_account(fuse_row_blocks(half_operators(known), MVE_FP16))

    return _phase(FUSED, (fuse_rows, compute_in_half))


def calls() -> Pass:
    """Phase 5. Neighbours that have no kernel of ours are fused."""
    return _phase(
        CALLS,
        (
            keep_outputs_flat,
            call_cumsum,
            relax.backend.DispatchSortScan(),
            relax.transform.LegalizeOps(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(),
        ),
    )


def front(model: onnx.ModelProto) -> tuple[Pass, ...]:
    """Phases 1 and 2: what every use of a model begins with."""
    return imported(model), simplified()


def back(isa: Isa, in_half: bool) -> tuple[Pass, ...]:
    """Phases 4 and 5: from a quantized module to the calls of a target."""
    return fused(isa, in_half), calls()


def run(passes: Sequence[Pass], mod: IRModule | None = None) -> IRModule:
    """The module after the passes, one after the other; without one they begin with an empty module."""
    mod = IRModule({}) if mod is None else mod
    with tvm.target.Target("llvm"), raised_by_passes():
        for one in passes:
            stage(one.info.name)
            mod = one(mod)
    return mod


def simplify(mod: IRModule) -> IRModule:
    """An imported module after phase 2: what calibration, plans and comparisons are about."""
    return run((simplified(),), mod)


def _phase(name: str, passes: Iterable[Any]) -> Pass:
    return Sequential([p if isinstance(p, Pass) else module_pass(p) for p in passes], name=name)


@tvm.ir.instrument.pass_instrument
class DumpPhases:
    """A pass instrument that writes the module after each phase to a folder, as a file named for the phase.

    What the system refuses is kept as `error`: of an error that is raised in a pass TVM makes a RuntimeError.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error: EmbbertError | None = None

    def run_after_pass(self, mod: IRModule, info: PassInfo) -> None:
        if info.name in PHASES and self.error is None:
            try:
                text = mod.script(show_meta=False) + "\n"
                write_atomically(self.folder / f"{info.name}.py", text.encode("utf-8"))
            except EmbbertError as error:
                self.error = error


@contextmanager
def instrumented(*instruments: PassInstrument) -> Iterator[None]:
    """Add instruments to those that see passes already."""
    now = PassContext.current()
    context = PassContext(
        opt_level=now.opt_level,
        required_pass=now.required_pass,
        disabled_pass=now.disabled_pass,
        instruments=[*now.instruments, *instruments],
        config=now.config,
    )
    with context:
        yield


@contextmanager
def dumped(folder: Path) -> Iterator[None]:
    """Write the module after each phase to a folder. Raises InputError, or WorkError for a full disk."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
    phases = DumpPhases(folder)
    with instrumented(phases):
        yield
    if phases.error is not None:
        raise phases.error
