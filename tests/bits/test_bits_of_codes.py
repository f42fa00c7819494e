"""The same bits of weights of fewer than 8 bits: TVM's LLVM build of the module that holds them as int8, the C that
unpacks their codes on this machine, the C on emulated CPUs with and without DSP and MVE."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import small

from embbert_tvm.compiler import CompileOptions, compile_model, find_source, llvm_runner
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.graph.calibrate import load_calibration, sha256
from embbert_tvm.graph.import_onnx import import_onnx, load_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.precision import PLANS
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.kernels.low_bits import FORMATS
from embbert_tvm.resources import resource
from embbert_tvm.target import load_cpu

SNIPS = resource("models", "embbert-snips")
LOW = tuple(name for name, plan in PLANS.items() if plan.tables("", "") != "int8" and plan.tables("", "") in FORMATS)
LENGTHS = (1, 2, 3, 17, 48)  # of the small model's texts

pytestmark = pytest.mark.usefixtures("optimized")
needs_arm = pytest.mark.skipif(
    not (shutil.which("qemu-system-arm") and shutil.which("arm-none-eabi-gcc")),
    reason="qemu-system-arm or arm-none-eabi-gcc is not installed",
)


@functools.cache
def simplified(folder: Path):
    calibration = load_calibration(folder / "calibration.json", sha256(folder / "model.onnx"))
    return simplify(import_onnx(load_onnx(folder / "model.onnx"))), calibration


@functools.cache
def reference(folder: Path, precision: str) -> Callable[[Sequence[int]], np.ndarray]:
    """What the int8 module of a model gives. Of a small one LLVM's optimizations take longer than its runs."""
    mod, calibration = simplified(folder)
    return llvm_runner(quantize(mod, calibration, PLANS[precision]).mod, optimized=folder == SNIPS)


def check(package: Path, place: str, run: Callable, lengths: tuple[int, ...], vocabulary: int) -> None:
    """Assert that a package gives at each length what `run` gives."""
    with open_place(place, load_package(package)) as device:
        for length in lengths:
            ids = small.some_ids(length, vocabulary, length)
            assert device.run(ids).logits.tobytes() == run(ids).tobytes(), f"{length} tokens"


@pytest.mark.parametrize("precision", LOW)
def test_the_c_on_this_machine(precision):
    check(small.package(precision, "cortex-m7"), "host", reference(small.folder(), precision), LENGTHS, 70)


@needs_arm
@pytest.mark.parametrize(
    ("precision", "target"),
    [("int4", "cortex-m4"), ("int6", "cortex-m4"), ("binary", "cortex-m7"), ("int3", "cortex-m55")],
)
def test_the_c_on_qemu(precision, target):
    check(small.package(precision, target), "qemu", reference(small.folder(), precision), LENGTHS, 70)


@needs_arm
@pytest.mark.parametrize(("precision", "target"), [("int4", "cortex-m7"), ("int4", "cortex-m55")])
def test_a_whole_model_on_qemu(precision, target, tmp_path):
    """Its matrices have several blocks a row."""
    options = CompileOptions(precision=precision, experimental=True)
    compile_model(find_source(SNIPS), load_cpu(target), tmp_path / "package", options)
    check(tmp_path / "package", "qemu", reference(SNIPS, precision), (1, 31, 64, 255), 8192)
