"""A module run by TVM's LLVM build on this machine."""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Callable, Sequence

import numpy as np
import tvm
from tvm import IRModule, relax
from tvm.ir import GenericConst

from embbert_tvm.cache import cached, digest
from embbert_tvm.graph.dataflow import Dataflow, op_name
from embbert_tvm.graph.passes.cumsum import call_cumsum
from embbert_tvm.progress import stage

# A few runs are not worth LLVM's optimizations, which take most of a minute.
UNOPTIMIZED = {"kind": "llvm", "opt-level": 0}
WORTH_OPTIMIZING = 2**28  # multiplications that LLVM's optimizations, 0.4 s for a small model, pay for


def target_for(mod: IRModule, tokens: int) -> tvm.target.Target:
    """The target of LLVM that builds a module and runs it over so many tokens in the least time.

    A token multiplies by each constant once, as much as is counted; what `take` reads rows of is no factor.
    """
    factors = 0
    for _, value in Dataflow(mod).bindings:
        arguments = list(getattr(value, "args", ()))[op_name(value) == "take" :]
        operands = [part for one in arguments for part in (one, *getattr(one, "fields", ()))]
        factors += sum(int(one.value.numpy().size) for one in operands if isinstance(one, GenericConst))
    return tvm.target.Target("llvm" if factors * tokens > WORTH_OPTIMIZING else UNOPTIMIZED)


def llvm_machine(mod: IRModule, target: tvm.target.Target | str = "llvm") -> relax.VirtualMachine:
    """The functions of a module as TVM's LLVM build runs them on this machine.

    Each kernel would check its arguments' shapes and types in more code than it computes in: relax has checked them.
    """
    with tvm.transform.PassContext(config={"tirx.disable_assert": True}):
        return relax.VirtualMachine(tvm.compile(mod, target=target), tvm.cpu())


def llvm_runner(mod: IRModule, optimized: bool = False) -> Callable[[Sequence[int]], np.ndarray]:
    """A function from token ids to all logits, flat: the module as TVM's LLVM build runs it on this machine.

    optimized: whether LLVM optimizes it, which takes longer than a small model's run. In integers the bits are the
    same; in floating point a model's last ones may be others (a Mamba's are).
    """
    target = tvm.target.Target("llvm" if optimized else UNOPTIMIZED)
    with target:
        machine = llvm_machine(call_cumsum(mod), target)

    def run(ids: Sequence[int]) -> np.ndarray:
        made = machine["main"](tvm.runtime.tensor(np.asarray([ids], np.int32)))
        outputs = [made] if isinstance(made, tvm.runtime.Tensor) else list(made)
        logits: np.ndarray = np.concatenate([output.numpy().reshape(-1) for output in outputs])
        return logits

    return run


class ReferenceRunner:
    """A function from texts of token ids to all logits of each, flat, that builds a module once and where it must.

    What it gives is kept in the user's cache folder (embbert_tvm/cache.py) under a hash of the module with its
    constants, and of the texts: compiling a model again, or for another target, takes it from there.
    """

    def __init__(self, mod: IRModule, optimized: bool) -> None:
        """optimized: as llvm_runner's."""
        stage("reference")
        with tvm.target.Target("llvm"):  # the kernel is ours, which the hash is to cover
            self._mod = call_cumsum(mod)
        self._optimized = optimized

    @functools.cached_property
    def _run(self) -> Callable[[Sequence[int]], np.ndarray]:
        return llvm_runner(self._mod, self._optimized)

    @functools.cached_property
    def _decisive(self) -> str:
        """A hash of all that decides the logits of a text."""
        built = (tvm.__version__, platform.machine(), str(self._optimized))
        return digest(["logits by LLVM", *built, tvm.ir.save_json(self._mod)])

    def __call__(self, texts: Sequence[Sequence[int]]) -> list[np.ndarray]:
        names = [json.dumps([int(token) for token in ids]) for ids in texts]
        kept = cached(
            digest([self._decisive, *names]),
            lambda: {name: self._run(ids).astype(np.float32).tobytes() for name, ids in zip(names, texts, strict=True)},
        )
        return [np.frombuffer(kept[name], np.float32).copy() for name in names]
