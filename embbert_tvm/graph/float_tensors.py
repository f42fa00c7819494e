"""The tensors of a float model, by the names that compiling gives them: as they are, and as statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import calibrate, runner, save_calibration, sha256
from embbert_tvm.graph.dataflow import Dataflow
from embbert_tvm.graph.import_onnx import load_onnx
from embbert_tvm.graph.pipeline import front, run


def float_tensors(onnx: Path, names: Iterable[str]) -> Callable[[Sequence[int]], Mapping[str, np.ndarray]]:
    """A function from token ids to the tensors `names` of the simplified model, by TVM's LLVM build of it.

    Raises InputError where the model has no tensor of such a name.
    """
    mod = run(front(load_onnx(onnx)))
    wanted = set(names)
    kept = [var.name for var, _ in Dataflow(mod).bindings if var.name in wanted]
    if missing := sorted(wanted.difference(kept)):
        raise InputError(f"{onnx}: has no tensor {missing[0]}: it is not what the package was compiled from")
    runs = runner(mod, kept)
    return lambda ids: dict(zip(kept, runs(np.asarray([ids], np.int32)), strict=True))


def calibrate_folder(folder: Path, ids: Sequence[Sequence[int]], with_second_moments: bool = True) -> None:
    """Write `calibration.json` of the model folder, from token id sequences and its model.onnx."""
    path = folder / "model.onnx"
    mod = run(front(load_onnx(path)))
    save_calibration(calibrate(mod, ids, sha256(path), with_second_moments), folder / "calibration.json")
