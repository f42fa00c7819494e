"""The tensors of a float model by the names that compiling gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import runner
from embbert_tvm.graph.dataflow import Dataflow
from embbert_tvm.graph.import_onnx import import_onnx, load_onnx
from embbert_tvm.graph.simplify import simplify


def float_tensors(onnx: Path, names: Iterable[str]) -> Callable[[Sequence[int]], Mapping[str, np.ndarray]]:
    """A function from token ids to the tensors `names` of the simplified model, by TVM's LLVM build of it.

    Raises InputError where the model has no tensor of such a name.
    """
    mod = simplify(import_onnx(load_onnx(onnx)))
    wanted = set(names)
    kept = [var.name for var, _ in Dataflow(mod).bindings if var.name in wanted]
    if missing := sorted(wanted.difference(kept)):
        raise InputError(f"{onnx}: has no tensor {missing[0]}: it is not what the package was compiled from")
    run = runner(mod, kept)
    return lambda ids: dict(zip(kept, run(np.asarray([ids], np.int32)), strict=True))
