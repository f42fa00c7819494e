"""The same bits everywhere: TVM's LLVM build of the integer module, its C on this machine by gcc and clang, its C on
every CPU that QEMU emulates.

64 texts of Snips, most as they are, the others joined or cut so that lengths reach from 1 to max_length.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import small

from embbert_tvm.compiler import compile_model, find_source, llvm_runner
from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.tokenizer import encode, load_tokenizer
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.graph.calibrate import load_calibration, sha256
from embbert_tvm.graph.fuse_row_blocks import fuse_row_blocks
from embbert_tvm.graph.import_onnx import import_onnx, load_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.kernels.isa import REFERENCE
from embbert_tvm.resources import resource
from embbert_tvm.target import load_cpu

MODEL = resource("models", "embbert-snips")
EMULATED = ("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
COUNT = 64
# Beside the sentences as they are, which have 4 to 31 tokens.
LENGTHS = (1, 2, 3, 33, 34, 40, 47, 64, 65, 100, 127, 128, 200, 255, 256, 256)

pytestmark = pytest.mark.usefixtures("optimized")
needs_arm = pytest.mark.skipif(
    not (shutil.which("qemu-system-arm") and shutil.which("arm-none-eabi-gcc")),
    reason="qemu-system-arm or arm-none-eabi-gcc is not installed",
)


@pytest.fixture(scope="module")
def texts() -> list[list[int]]:
    tokenizer = load_tokenizer(MODEL / "tokenizer.json")
    sentences = [e.text for e in read_examples(resource("data", "snips", "test.tsv.xz"))]
    found = [encode(tokenizer, sentence) for sentence in sentences[: COUNT - len(LENGTHS)]]
    for n, length in enumerate(LENGTHS):
        found.append(encode(tokenizer, " ".join(sentences[n * 40 : n * 40 + 40]), max_length=length))
        assert len(found[-1]) == length
    assert len(found) == COUNT
    return found


@pytest.fixture(scope="module")
def quantized():
    calibration = load_calibration(MODEL / "calibration.json", sha256(MODEL / "model.onnx"))
    return quantize(simplify(import_onnx(load_onnx(MODEL / "model.onnx"))), calibration)


@pytest.fixture(scope="module")
def expected(quantized, texts) -> list[np.ndarray]:
    """Logits by TVM's LLVM build of the module whose kernels work a row at a time."""
    run = llvm_runner(quantized.mod, optimized=True)
    return [run(ids) for ids in texts]


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    for target in ("host", *EMULATED):
        compile_model(find_source(MODEL), load_cpu(target), folder / target)
    return {target: folder / target for target in ("host", *EMULATED)}


def check(package: Path, place: str, texts: list[list[int]], expected: list[np.ndarray], flags=()) -> None:
    wrong = []
    with open_place(place, load_package(package), flags=flags) as device:
        for number, (ids, logits) in enumerate(zip(texts, expected, strict=True)):
            found = device.run(ids).logits
            if found.tobytes() != logits.tobytes():
                wrong.append(f"text {number} of {len(ids)} tokens: {found}, not {logits}")
    assert not wrong, f"{len(wrong)} of {len(texts)} differ: {wrong[:3]}"


@pytest.mark.parametrize("target", ["host", "cortex-m7", "cortex-m55"])
def test_the_c_on_this_machine(target, packages, texts, expected):
    """Of a Cortex-M: its micro-kernels in their plain C."""
    check(packages[target], "host", texts, expected)


@pytest.mark.skipif(not shutil.which("clang"), reason="clang is not installed")
def test_the_c_by_clang(packages, texts, expected, tmp_path, monkeypatch):
    package = shutil.copytree(packages["cortex-m7"], tmp_path / "package", ignore=shutil.ignore_patterns("build"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcc").symlink_to(shutil.which("clang"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    check(package, "host", texts, expected)


@needs_arm
@pytest.mark.parametrize("target", EMULATED)
def test_the_c_on_qemu(target, packages, texts, expected):
    check(packages[target], "qemu", texts, expected)


@needs_arm
@pytest.mark.parametrize("level", ["-O0", "-Os"])
def test_the_c_on_qemu_at_other_levels(level, packages, texts, expected):
    """A firmware is not always built as ours is, and the micro-kernels name their registers."""
    check(packages["cortex-m7"], "qemu", texts[-16:-7], expected[-16:-7], [level])


def test_the_texts_tell_models_apart(expected):
    """Bits that are the same for every text would prove nothing."""
    assert len({logits.tobytes() for logits in expected}) >= COUNT - 2
    assert len({int(logits.argmax()) for logits in expected}) >= 5


def test_row_blocks_compute_the_same_at_every_length():
    """What the micro-kernels stand for, in TIR: whole and broken blocks, odd lengths, one token."""
    quantized = small.quantized()
    blocked = fuse_row_blocks(quantized, REFERENCE)
    assert any("attend" in choice.kernel for choice in blocked.choices)
    assert not blocked.unfused
    rows, blocks = (llvm_runner(one.mod) for one in (quantized, blocked))
    for length in range(1, 49):
        ids = small.some_ids(length, 70, length)
        assert rows(ids).tobytes() == blocks(ids).tobytes(), f"length {length}"
