"""MVE: what its kernels compute on this machine, in plain C, against their description; and on QEMU each micro-kernel
against its plain C."""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
from pathlib import Path

import embbert_kernels
import kernel_pairs
import numpy as np
import pytest
import small
import tvm
from running import CHECKED, compile_c, extreme_int8
from tvm import IRModule, tirx

from embbert_tvm.codegen import c_files
from embbert_tvm.codegen.c_function import c_function
from embbert_tvm.codegen.lower import schedule, to_loops
from embbert_tvm.codegen.plan import solve
from embbert_tvm.codegen.steps import Program
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.graph.fuse_row_blocks import fuse_row_blocks
from embbert_tvm.kernels.attention import Attention, attention, exp_table, ratio_multiplier, score_multiplier
from embbert_tvm.kernels.epilogues import Requantize
from embbert_tvm.kernels.fixed_point import multiplier
from embbert_tvm.kernels.isa import DSP, MVE, REFERENCE, isa_of
from embbert_tvm.kernels.layouts import pairs_of
from embbert_tvm.kernels.product import Product, ProductInput, product
from embbert_tvm.kernels.row_block.filter import filter_along_text

D = 32
EXP = exp_table()
STEP, RATIO = multiplier(np.array([score_multiplier(1e-3)])), multiplier(np.array([ratio_multiplier(1.0, 1.0)]))


def in_c(func: tirx.PrimFunc, arrays: list[np.ndarray], lengths: dict[str, int], space: int = 4096) -> np.ndarray:
    """The last array, as the C of `func` leaves it. space: elements of each workspace."""
    c = c_function(to_loops(schedule(func.with_attr("global_symbol", "main")), "main"), "kernel")
    program = Program((c,), {}, (), (), solve(()), 1, 1, 1)
    headers = {"t_kernels.h": c_files.kernels_header(program, "test", (), "t")}
    library = compile_c([c_files.kernels(program, "test", "t")], ("-O1", *CHECKED), headers)
    arrays = [a.copy() for a in arrays]
    spaces = [np.full(space, 85, w.dtype) for w in c.workspaces]
    scalars = [ctypes.c_int32(lengths[s.name]) for s in c.scalars]
    ctypes.CDLL(str(library)).kernel(*scalars, *(a.ctypes.data_as(ctypes.c_void_p) for a in (*arrays, *spaces)))
    return arrays[-1]


def in_llvm(func: tirx.PrimFunc, arrays: list[np.ndarray], count: int | None) -> np.ndarray:
    run = tvm.compile(IRModule({"main": func.with_attr("global_symbol", "main")}), target="llvm")["main"]
    tensors = [tvm.runtime.tensor(a) for a in arrays]
    run(*([] if count is None else [count]), *tensors)
    return tensors[-1].numpy()


def words(rng: np.random.Generator, n: int, bits: int) -> np.ndarray:
    return rng.integers(1 << (bits - 1), 1 << bits, n).astype(np.int32)


def layer_arrays(rng: np.random.Generator, pairs: int) -> list[np.ndarray]:
    return [
        extreme_int8(rng, pairs, D, 2), extreme_int8(rng, D // 2, D, 2), words(rng, D, 12), words(rng, D, 24),
        EXP, STEP, RATIO, extreme_int8(rng, D // 2, 2 * D, 2), words(rng, D, 12), words(rng, D, 29),
        np.array([9], np.int32), words(rng, D, 18), extreme_int8(rng, pairs, D, 2),
    ]  # fmt: skip


def conv_arrays(rng: np.random.Generator, pairs: int, taps: int) -> list[np.ndarray]:
    return [
        extreme_int8(rng, pairs, D, 2), extreme_int8(rng, D // 2, taps, 2), words(rng, D, 12), words(rng, D, 23),
        extreme_int8(rng, 256), np.zeros((pairs, D, 2), np.int8),
    ]  # fmt: skip


def embedding_arrays(rng: np.random.Generator, length: int) -> list[np.ndarray]:
    return [
        extreme_int8(rng, 9, 16), rng.integers(0, 9, (1, length)).astype(np.int32), extreme_int8(rng, 64, 16),
        extreme_int8(rng, D // 2, 32, 2), words(rng, D, 12), rng.integers(-9999, 9999, (3, D)).astype(np.int32),
        rng.integers(0, 3, (1, length)).astype(np.int32), words(rng, D, 29), np.array([9], np.int32),
        words(rng, D, 18), np.zeros((pairs_of(length), D, 2), np.int8),
    ]  # fmt: skip


def rows_of(pairs: np.ndarray, count: int) -> np.ndarray:
    """The first rows of an interleaved matrix: those past the length hold anything."""
    return pairs.transpose(0, 2, 1).reshape(-1, pairs.shape[1])[:count]


@pytest.mark.parametrize("length", [1, 2, 5, 16, 17, 31, 45])
def test_a_layer_computes_what_is_described(length):
    pairs = pairs_of(length)
    arrays = layer_arrays(np.random.default_rng(length), pairs)
    expected = rows_of(in_llvm(embbert_kernels.layer(D, REFERENCE), arrays, length), length)
    np.testing.assert_array_equal(
        rows_of(in_c(embbert_kernels.layer(D, MVE), arrays, {"L": length, "M": pairs}), length), expected
    )
    np.testing.assert_array_equal(
        rows_of(in_llvm(embbert_kernels.layer(D, MVE.reference), arrays, length), length), expected
    )
    assert len(np.unique(expected)) > 15


@pytest.mark.parametrize("taps", [8, 16, 32])
@pytest.mark.parametrize("length", [1, 18, 45])
def test_a_convolution_computes_what_is_described(taps, length):
    pairs = pairs_of(length)
    arrays = conv_arrays(np.random.default_rng([taps, length]), pairs, taps)
    expected = in_llvm(filter_along_text(taps, D, REFERENCE), arrays, None)
    assert MVE.filters_by_channel
    arrays[1] = np.ascontiguousarray(arrays[1].transpose(0, 2, 1).reshape(D, taps))
    np.testing.assert_array_equal(in_c(filter_along_text(taps, D, MVE), arrays, {"M": pairs}), expected)


@pytest.mark.parametrize("length", [1, 6, 19])
def test_the_embedding_computes_what_is_described(length):
    arrays = embedding_arrays(np.random.default_rng(length), length)

    def made(isa):
        return embbert_kernels.embedding((9, 16), (64, 16), D, 3, isa)

    expected = rows_of(in_llvm(made(REFERENCE), arrays, length), length)
    np.testing.assert_array_equal(rows_of(in_c(made(MVE), arrays, {"L": length}), length), expected)


@pytest.mark.parametrize("length", [1, 15, 33])
def test_one_row_of_attention_is_the_attention_of_one_row(length):
    rng, pairs = np.random.default_rng(length), pairs_of(length)
    key, value = extreme_int8(rng, pairs, D, 2), extreme_int8(rng, pairs, D, 2)
    arrays = [extreme_int8(rng, 1, D), key, value, EXP, STEP, RATIO, np.zeros((1, D), np.int8)]
    expected = in_llvm(attention(Attention(D, one_row=True, interleaved=True)), arrays, length)
    found = in_c(embbert_kernels.attention_row(D, MVE), arrays, {"L": length, "M": pairs})
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("k", "n"), [(32, 7), (40, 3), (128, 12)])
def test_one_row_of_a_product(k, n):
    rng, spec = np.random.default_rng([k, n]), Product((ProductInput(k),), n, Requantize(), one_row=True)
    arrays = [extreme_int8(rng, 1, k), extreme_int8(rng, n, k), words(rng, n, 12), words(rng, n, 24)]
    arrays.append(np.zeros((1, n), np.int8))
    np.testing.assert_array_equal(in_c(product(spec, MVE), arrays, {}), in_llvm(product(spec), arrays, None))


def test_the_features_choose():
    assert isa_of(("dsp", "mve", "fpu")) is MVE
    assert isa_of(("dsp", "fpu")) is DSP


KERNELS = (
    "product", "context", "softmax", "widen", "requantize", "rescale", "scale", "normalize", "filter", "rows",
    "transpose", "context_transposed", "product_codes", "add_row", "unpack",
)  # fmt: skip


@pytest.fixture(scope="module")
def checks(tmp_path_factory) -> Path:
    return kernel_pairs.write_package(tmp_path_factory.mktemp("mve") / "package", "mve", KERNELS, "int8")


@pytest.mark.skipif(
    not (shutil.which("qemu-system-arm") and shutil.which("arm-none-eabi-gcc")),
    reason="qemu-system-arm or arm-none-eabi-gcc is not installed",
)
@pytest.mark.parametrize("level", ["-O1", "-O2", "-O3", "-Os"])
def test_the_micro_kernels_on_qemu_compute_what_their_plain_c_does(level, checks):
    with open_place("qemu", load_package(checks), flags=(level, "-Werror", "-pedantic")) as device:
        wrong = dict(zip(KERNELS, device.run([1]).logits, strict=True))
    assert wrong == dict.fromkeys(KERNELS, 0)


def test_a_filter_that_is_too_long_for_registers_is_a_stage():
    refused = fuse_row_blocks(small.quantized(), dataclasses.replace(MVE, most_taps=4))
    assert not any(choice.kernel.startswith("row_block_filter") for choice in refused.choices)
    assert any("window8" in choice.kernel for choice in refused.choices)
