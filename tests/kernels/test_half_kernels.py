"""The kernels in half precision: rows within rounding of what they compute, micro-kernels that have the bits of their
plain C on QEMU, and whole models that give float's logits. Row blocks: tests/graph/test_fuse_row_blocks.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import kernel_pairs
import numpy as np
import pytest
import small
from test_mve import in_c, in_llvm

from embbert_tvm.compiler import CompileOptions, compile_model, find_source
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.graph.precision import PrecisionPlan
from embbert_tvm.kernels import half
from embbert_tvm.kernels.isa import MVE_FP16, computes_in_half
from embbert_tvm.kernels.isa.mve_fp16 import pack_tiles
from embbert_tvm.kernels.row_block.half import filter_along_text
from embbert_tvm.models.reference import Reference
from embbert_tvm.target import load_cpu

needs_arm = pytest.mark.skipif(
    not (shutil.which("qemu-system-arm") and shutil.which("arm-none-eabi-gcc")),
    reason="qemu-system-arm or arm-none-eabi-gcc is not installed",
)
STEP = 2.0**-11  # of half precision, about 1


def normal(*shape: int, size: float = 1.0, seed: int = 0) -> np.ndarray:
    return small.normal(*shape, seed=seed, scale=size).astype(np.float16)


def close(found: np.ndarray, expected: np.ndarray, steps: float) -> None:
    """Within so many steps of half precision at the size of the largest value."""
    assert np.isfinite(expected).all()
    error = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
    assert error <= steps * STEP, f"{error / STEP:.2f} steps"


def test_quads_hold_each_weight_once():
    weight = small.normal(6, 7)
    packed = pack_tiles(weight)
    assert packed.shape == (2, 4, 2, 4)
    for k in range(6):
        for n in range(7):
            assert packed[n // 4, k // 2, k % 2, n % 4] == np.float16(weight[k, n])
    assert not packed[1, :, :, 3].any()
    assert not packed[:, 3].any()


@pytest.mark.parametrize(("length", "n", "norm"), [(1, 7, None), (11, 12, "rms_norm"), (3, 12, "layer_norm")])
def test_a_product_of_rows_and_tables(length, n, norm):
    rng = np.random.default_rng(length)
    sources = (half.HalfInput(34), half.HalfInput(6, 9, indexed=True), half.HalfInput(4, 16))
    spec = half.HalfProduct(sources, n, (3,), (half.HalfInput(n),), norm, epsilon=1e-5)
    weights = [half.halves(small.normal(s.width, n, seed=i)) for i, s in enumerate(sources)]
    ids, segments = (rng.integers(0, high, (1, length)).astype(np.int32) for high in (9, 3))
    x, tokens, positions = normal(length, 34), normal(9, 6), normal(16, 4)
    bias, table, residual = normal(n), normal(3, n, seed=5), normal(length, n, seed=6)
    gain, shift = normal(n, seed=7), normal(n, seed=8)
    arrays = [x, weights[0], tokens, ids, weights[1], positions, weights[2], bias, table, segments, residual]
    arrays += [gain] * (norm is not None) + [shift] * (norm == "layer_norm")
    found = in_llvm(half.product(spec), [*arrays, np.zeros((length, n), np.float16)], None).astype(np.float64)
    expected = x.astype(float) @ weights[0] + tokens[ids[0]].astype(float) @ weights[1]
    expected = expected + positions[:length].astype(float) @ weights[2] + bias + table[segments[0]] + residual
    if norm == "layer_norm":
        expected = expected - expected.mean(1, keepdims=True)
    if norm:
        expected = expected / np.sqrt((expected**2).mean(1, keepdims=True) + 1e-5) * gain.astype(float)
    close(found, expected + shift if norm == "layer_norm" else expected, 1)


@pytest.mark.parametrize(("length", "one_row"), [(21, False), (9, True)])
def test_attention(length, one_row):
    spec = half.HalfAttention(66, 12, one_row)
    query, key, value = (normal(length, w, seed=i, size=0.7) for i, w in enumerate((66, 66, 12)))
    count = 1 if one_row else length
    arrays = [query, key, value, np.zeros((count, 12), np.float16)]
    found = in_llvm(half.attention(spec), arrays, None).astype(np.float64)
    scores = query[:count].astype(float) @ key.T.astype(float)
    weights = np.exp(scores - scores.max(1, keepdims=True))
    close(found, weights / weights.sum(1, keepdims=True) @ value.astype(float), 1)


@pytest.mark.parametrize("one_row", [False, True])
def test_a_convolution_and_its_activation(one_row):
    taps, length = 9, 21
    spec = half.HalfConv(taps, 4, 2, "relu", one_row)
    x, weight, bias = normal(length, 2), normal(4, taps), normal(4)
    count = 1 if one_row else length
    found = in_llvm(half.conv(spec), [x, weight, bias, np.zeros((count, 4), np.float16)], None).astype(np.float64)
    padded = np.concatenate([np.zeros((taps - 1, 2)), x])
    expected = np.stack([(padded[t : t + taps, [0, 0, 1, 1]].T * weight).sum(1) + bias for t in range(count)])
    close(found, np.maximum(expected, 0), 1)


@pytest.mark.parametrize(
    ("name", "function", "bound"),
    [
        ("silu", lambda x: x / (1 + np.exp(-x)), 1.5e-3),
        ("tanh", np.tanh, 2e-3),
    ],
)
def test_an_activation_at_every_half(name, function, bound):
    """Relative to the value where it is above 1; what is below e^-9.5 counts as nothing."""
    values = np.arange(65536, dtype=np.uint16).view(np.float16)
    x = np.resize(values[np.isfinite(values)], (2048, 4, 8))
    func = filter_along_text(half.HalfConv(1, 4, 1, name), MVE_FP16)
    arrays = [x, np.ones((4, 1), np.float16), np.zeros(4, np.float16), np.zeros_like(x)]
    found = in_c(func, arrays, {"M": len(x)}, space=70000).astype(np.float64)
    with np.errstate(over="ignore"):
        expected = function(x.astype(np.float64))
    assert (np.abs(found - expected) / np.maximum(1, np.abs(expected))).max() <= bound


@pytest.mark.parametrize("length", [1, 13])
def test_rows_to_halves_and_back(length):
    x = small.normal(1, length, 6)
    made = in_c(half.to_half(6, False), [x, np.zeros((length, 6), np.float16)], {"L": length})
    np.testing.assert_array_equal(made, x[0].astype(np.float16))
    back = in_c(half.to_float(6, False), [made, np.zeros((1, length, 6), np.float32)], {"L": length})
    np.testing.assert_array_equal(back, x.astype(np.float16).astype(np.float32))


def test_the_features_choose():
    assert computes_in_half(("dsp", "mve", "fpu", "fp16"))
    assert not computes_in_half(("dsp", "mve"))
    assert not computes_in_half(("dsp", "fpu"))


KERNELS = (
    "product", "scores", "softmax", "context", "rms_norm", "layer_norm", "filter", "add", "activation", "narrow"
)  # fmt: skip


@pytest.fixture(scope="module")
def checks(tmp_path_factory) -> Path:
    return kernel_pairs.write_package(tmp_path_factory.mktemp("half") / "package", "half", KERNELS, "fp16")


@needs_arm
def test_on_qemu_they_give_the_bits_of_their_plain_c(checks):
    with open_place("qemu", load_package(checks), flags=("-O2", "-Werror", "-pedantic")) as device:
        wrong = dict(zip(KERNELS, device.run([1]).logits, strict=True))
    assert wrong == dict.fromkeys(KERNELS, 0)


LENGTHS = (1, 7, 8, 9, 48)


def test_a_whole_model_gives_the_logits_of_float():
    package = load_package(small.package("fp16", "cortex-m55"))
    in_halves = ("row_block_half", "row_block_row_half", "row_block_gather", "half_to_float", "reshape")
    assert all(s.kernel.startswith(in_halves) for s in package.steps if "blocks" in s.name)
    assert not package.steps[-1].kernel.startswith(in_halves)
    reference = Reference(package.reference_model)
    with open_place("host", package) as host:
        for length in LENGTHS:
            ids = small.some_ids(length, package.vocabulary)
            expected = reference(ids)
            assert np.abs(host.run(ids).logits - expected).max() <= 0.01 * max(1.0, np.abs(expected).max())


@needs_arm
def test_a_whole_model_has_the_same_bits_on_the_host_and_on_qemu():
    package = load_package(small.package("fp16", "cortex-m55"))
    with open_place("host", package) as host, open_place("qemu", package) as qemu:
        for length in LENGTHS:
            ids = small.some_ids(length, package.vocabulary)
            np.testing.assert_array_equal(host.run(ids).logits.view(np.uint32), qemu.run(ids).logits.view(np.uint32))


def test_what_lies_in_blocks_says_so():
    package = load_package(small.package("fp16", "cortex-m55"))
    kernels = {output.name: package.steps[output.step].kernel for output in package.outputs}
    in_blocks = {kernels[output.name] for output in package.outputs if output.interleave == 8}
    assert in_blocks == {k for k in kernels.values() if k.startswith("row_block") and "_row_" not in k}


def test_single_operators_in_half_beside_integers(tmp_path):
    source = find_source(small.folder())
    options = CompileOptions(plan=PrecisionPlan("int8", {"blocks_1_*": "fp16"}))
    compile_model(source, load_cpu("cortex-m55"), tmp_path / "package", options)
    package = load_package(tmp_path / "package")
    kernels = [step.kernel for step in package.steps]
    assert any("half_attend" in kernel for kernel in kernels)
    assert any(kernel.startswith("product") for kernel in kernels)
    reference = Reference(package.reference_model)
    with open_place("host", package) as host:
        for length in LENGTHS:
            ids = small.some_ids(length, package.vocabulary)
            expected = reference(ids)
            assert np.abs(host.run(ids).logits - expected).max() <= 0.05 * max(1.0, np.abs(expected).max())
