"""What is tuned: the kernels of a model, each with the arguments of one of its calls and what that call must write."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
import tvm_ffi
from tvm import IRModule, relax, sym, tirx
from tvm.ir import GenericConst, PrimType, Var

from embbert_tvm.codegen.c_function import CFunction
from embbert_tvm.codegen.lower import schedule, to_loops
from embbert_tvm.errors import WorkError
from embbert_tvm.graph.dataflow import Dataflow, constant, op_name
from embbert_tvm.graph.llvm_run import UNOPTIMIZED, llvm_machine
from embbert_tvm.kernels.specs import without_spec

# A float may be this far from what TVM's LLVM build computes, of itself and of the largest of its tensor: the same sums
# in the same order, but another exp().
RELATIVE, ABSOLUTE = 1e-5, 1e-5


@dataclass(frozen=True)
class Argument:
    """An array argument: as it is before the call, and after it where the call writes it. constant: a weight."""

    before: np.ndarray
    after: np.ndarray | None
    constant: bool

    @property
    def tolerance(self) -> float:
        """The absolute tolerance of what the call writes, negative where the bits must be equal."""
        if self.after is None or self.after.dtype != np.float32:
            return -1.0
        return float(ABSOLUTE * np.abs(self.after).max(initial=0.0))


@dataclass(frozen=True)
class Task:
    """A kernel as a call of the model has it. calls: how often the model calls it. lengths: of its parameters that are
    no arrays."""

    name: str
    func: tirx.PrimFunc
    calls: int
    length: int
    arguments: tuple[Argument, ...]

    @functools.cached_property
    def loops(self) -> tirx.PrimFunc:
        """The kernel lowered by the default schedule."""
        return to_loops(schedule(self.func), "kernel")

    def where(self, function: CFunction) -> dict[Var, int]:
        """What the symbolic dimensions of the C function are in this call."""
        found: dict[Var, int] = dict.fromkeys(function.lengths, self.length)
        for buffer, argument in zip(function.buffers, self.arguments, strict=True):
            for formal, actual in zip(buffer.shape, argument.before.shape, strict=True):
                if isinstance(formal, Var):
                    found.setdefault(formal, int(actual))
        return found

    def workspace_bytes(self, function: CFunction) -> list[int]:
        """Bytes of each workspace of the C function."""
        analyzer = sym.Analyzer()
        for var, value in self.where(function).items():
            analyzer.bind(var, tirx.const(value, var.ty.dtype if hasattr(var.ty, "dtype") else "int64"))
        sizes = []
        for workspace in function.workspaces:
            count = 1
            for dim in workspace.shape:
                value = dim if isinstance(dim, int) else analyzer.simplify(dim)
                if not isinstance(value, (int, tirx.IntImm)):
                    raise WorkError(f"{self.name}: the size {dim} of a workspace does not follow from the length")
                count *= int(value)
            sizes.append(count * np.dtype(workspace.dtype).itemsize)
        return sizes


@dataclass
class _Call:
    name: str
    arrays: list[np.ndarray]
    after: list[np.ndarray]


def find_tasks(mod: IRModule, reference: IRModule, ids: Sequence[int]) -> list[Task]:
    """The distinct kernels that `mod` calls, in the order of their first calls, which the arguments are of.

    reference: the same calls of kernels that TVM's LLVM build can run on this machine; their bits are right.
    """
    calls = _kernel_calls(mod)
    recorded = _aligned([value.args[0].name_hint for value in _kernel_calls(reference)], _record(reference, ids))
    if len(calls) != len(recorded):
        raise WorkError(f"the model has {len(calls)} calls of kernels, its reference {len(recorded)}")
    tasks: dict[str, Task] = {}
    for value, call in zip(calls, recorded, strict=True):
        target = value.args[0]
        if call is None:
            continue
        if target.name_hint in tasks:
            known = tasks[target.name_hint]
            tasks[target.name_hint] = Task(known.name, known.func, known.calls + 1, known.length, known.arguments)
            continue
        tensors = [a for a in value.args[1].fields if not isinstance(a.ty, PrimType)]
        inplace = op_name(value) == "call_tir_inplace"
        written = _written(value, len(value.args[1].fields) - len(tensors), len(tensors), inplace)
        arguments = []
        for i, (before, after) in enumerate(zip(call.arrays, call.after, strict=True)):
            fixed = i < len(tensors) and isinstance(tensors[i], GenericConst)
            # The recorded call ran the same values, but a kernel for another ISA may have its weights laid out anew.
            data = np.asarray(constant(tensors[i]), order="C") if fixed else before
            arguments.append(Argument(data, after if i in written else None, fixed))
        tasks[target.name_hint] = Task(
            target.name_hint, mod[target], 1, len(ids), tuple(arguments[: _buffers(mod[target])])
        )
    return list(tasks.values())


def _kernel_calls(mod: IRModule) -> list:
    bindings = Dataflow(mod).bindings
    return [value for _, value in bindings if op_name(value) in ("call_tir", "call_tir_inplace")]


def _aligned(names: Sequence[str], recorded: Sequence[_Call]) -> list[_Call | None]:
    """The recorded call of each called kernel, None where TVM's build found that it can do without."""
    found: list[_Call | None] = []
    rest = list(recorded)
    for name in names:
        if rest and rest[0].name == name:
            found.append(rest.pop(0))
        else:
            found.append(None)
    if rest:
        raise WorkError(f"kernel {rest[0].name} ran out of its turn")
    return found


def _buffers(func: tirx.PrimFunc) -> int:
    return sum(1 for p in func.params if not isinstance(p.ty, PrimType))


def _written(value, lengths: int, tensors: int, inplace: bool) -> set[int]:
    """Which arrays of a call, counted without scalars, it writes."""
    if inplace:
        return {int(i) - lengths for i in value.attrs.inplace_indices}
    outputs = 1 if isinstance(value.ty, relax.TensorType) else len(value.ty.fields)
    return set(range(tensors, tensors + outputs))


def _record(mod: IRModule, ids: Sequence[int]) -> list[_Call]:
    """Every call of a kernel in a run of `mod`, with its arrays before and after."""
    names = {g.name_hint for g in mod.functions if g.name_hint != "main"}
    calls: list[_Call] = []

    def instrument(func, name: str, before: bool, result, *args) -> int:
        if name in names:
            arrays = [a.numpy().copy() for a in args if isinstance(a, tvm.runtime.Tensor)]
            if before:
                calls.append(_Call(name, arrays, []))
            else:
                calls[-1].after = arrays
        return 0

    machine = llvm_machine(mod, tvm.target.Target(UNOPTIMIZED))
    machine.set_instrument(instrument)
    machine["main"](tvm.runtime.tensor(np.asarray([ids], np.int32)))
    return calls


def fingerprints(tasks: Sequence[Task]) -> Mapping[str, str]:
    """Structural hashes of the tasks' kernels by name."""
    return {task.name: f"{tvm_ffi.structural_hash(workload(task.func)):016x}" for task in tasks}


def workload(func: tirx.PrimFunc) -> IRModule:
    """A kernel as MetaSchedule's databases know it."""
    return IRModule({"main": without_spec(func).with_attr("global_symbol", "main")})


def is_ours(func: tirx.PrimFunc) -> bool:
    """Whether it is a kernel of kernels/, whose choices are in its text."""
    return "embbert.kernel" in (func.attrs or {})
