"""Row-block kernels compute the bits of the row kernels that they are made of: random modules, every instruction set.

The reference is TVM's LLVM build of the module before it is fused. What is fused runs as C on this machine, by gcc and
clang, in the layouts and the plain C of both instruction sets, and on QEMU with their micro-kernels.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil

import numpy as np
import pytest
import small
from random_modules import POSITIONS, VOCABULARY, Maker, random_half_module, random_module, write_package
from small import normal

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.device.package import Package, load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.graph.calibrate import calibrate
from embbert_tvm.graph.fuse_row_blocks import fuse_row_blocks, is_fused
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.graph.precision import PLANS
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.kernels.attention import Attention
from embbert_tvm.kernels.epilogues import Activate, Dequantize, LayerNorm, Requantize, RmsNorm
from embbert_tvm.kernels.isa import DSP, DSP_DUAL, MVE, MVE_FP16, REFERENCE

# GCC takes a third of the time of a CPU's own level, by which the first random module and the calls of every CPU run.
CHEAP = {"host": ("-O0",), "qemu": ("-O1",)}
SEEDS = tuple(range(int(os.environ.get("EMBBERT_RANDOM_MODULES", "6"))))
LENGTHS = (1, 2, 3, 4, 5, 9, 16, 31, 33, 70)

pytestmark = pytest.mark.usefixtures("optimized")


def ids_of(length: int) -> list[int]:
    return np.random.default_rng(length).integers(0, VOCABULARY, length).tolist()


@functools.cache
def expected(seed: int) -> list[bytes]:
    run = llvm_runner(random_module(seed).mod, optimized=False)
    return [run(ids_of(n)).tobytes() for n in LENGTHS]


def level(seed: int, place: str) -> tuple[str, ...]:
    return CHEAP[place] if seed else ()


@contextlib.contextmanager
def both(package: Package, on_host: tuple[str, ...], on_qemu: tuple[str, ...]):
    with open_place("host", package, flags=on_host) as host, open_place("qemu", package, flags=on_qemu) as qemu:
        yield host, qemu


def check(seed: int, target: str, place: str, folder) -> None:
    package = load_package(write_package(random_module(seed), target, folder / "package"))
    with open_place(place, package, flags=level(seed, place)) as device:
        found = [device.run(ids_of(n)).logits.tobytes() for n in LENGTHS]
    assert found == expected(seed)


@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m55"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_c_on_this_machine(seed, target, tmp_path):
    check(seed, target, "host", tmp_path)


def test_the_c_by_clang(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcc").symlink_to(shutil.which("clang"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    check(0, "cortex-m7", "host", tmp_path)


@pytest.mark.parametrize("target", ["cortex-m3", "cortex-m4", "cortex-m7", "cortex-m55"])
@pytest.mark.parametrize("seed", SEEDS[:3])
def test_the_c_on_qemu(seed, target, tmp_path):
    check(seed, target, "qemu", tmp_path)


@pytest.mark.parametrize("isa", [REFERENCE, MVE.reference], ids=["dsp", "mve"])
def test_the_tir_of_an_instruction_set_without_micro_kernels(isa):
    run = llvm_runner(fuse_row_blocks(random_module(1), isa).mod, optimized=False)
    assert [run(ids_of(n)).tobytes() for n in LENGTHS] == expected(1)


def test_every_length(tmp_path):
    run = llvm_runner(random_module(2).mod)
    package = load_package(write_package(random_module(2), "cortex-m7", tmp_path / "package"))
    with open_place("host", package, flags=CHEAP["host"]) as device:
        for n in range(1, POSITIONS):
            assert device.run(ids_of(n)).logits.tobytes() == run(ids_of(n)).tobytes(), f"length {n}"


@pytest.mark.parametrize("seed", SEEDS)
def test_half_precision_is_near_its_rows_and_the_same_on_qemu(seed, tmp_path):
    """Any widths, heads, filters and lengths; the host's C does what MVE's instructions do, operation by operation."""
    module = random_half_module(seed)
    rows = llvm_runner(module.mod, optimized=False)
    loops = llvm_runner(fuse_row_blocks(module, MVE_FP16.reference).mod, optimized=False)
    package = load_package(write_package(module, "cortex-m55", tmp_path / "package", MVE_FP16))
    assert all(c.kernel.startswith(("row_block", "half_to_float")) for c in fuse_row_blocks(module, MVE_FP16).choices)
    with both(package, *(level(seed, place) for place in CHEAP)) as (host, qemu):
        for n in (1, 7, 8, 9, 70):
            expected, found = rows(ids_of(n)), host.run(ids_of(n)).logits
            near = 0.01 * max(1.0, float(np.abs(expected).max()))
            assert np.abs(loops(ids_of(n)) - expected).max() <= near
            assert np.abs(found - expected).max() <= near
            if n in (1, 9):
                assert qemu.run(ids_of(n)).logits.tobytes() == found.tobytes()


def test_a_layer_in_half_precision_writes_over_what_it_reads_for_the_last_time():
    fused = fuse_row_blocks(random_half_module(1), MVE_FP16)
    assert "call_tir_inplace" in fused.mod.script()


@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m55"])
def test_recurrences_and_windows_in_c(target, tmp_path):
    make = Maker(np.random.default_rng(4))

    def build():
        x = make.embedding(20, Requantize(), mapped=True, small_tables=False)
        x = make.recurrence(x, 20, 13, "lstm", backward=False, reset_after=True)
        x = make.filter(x, 13, 4, 2, after=2, dilation=2)
        x = make.recurrence(x, 26, 9, "gru", backward=False, reset_after=False)
        x = make.recurrence(x, 9, 14, "gru", backward=True, reset_after=True)
        x = make.convolve([(x, 14)], 11, (3, 0, 2), skips=True)
        return make.linear([(make.pool(x, 11, "last"), 11)], 3, Dequantize(), one_row=True)

    module = make.finish(build)
    rows = llvm_runner(module.mod, optimized=False)
    package = load_package(write_package(module, target, tmp_path / "package"))
    with both(package, *CHEAP.values()) as (host, qemu):
        for n in (1, 4, 5, 9, 30):
            assert host.run(ids_of(n)).logits.tobytes() == rows(ids_of(n)).tobytes()
            assert qemu.run(ids_of(n)).logits.tobytes() == rows(ids_of(n)).tobytes()


def bert_layer(make: Maker, x, width: int, heads: int):
    each, contexts = width // heads, []
    for _ in range(heads):
        q, k, v = (make.linear([(x, width)], each, Requantize()) for _ in range(3))
        contexts.append((make.attend(q, k, v, Attention(each)), each))
    y = make.linear(contexts, width, LayerNorm(), residual=x)
    return make.linear([(make.linear([(y, width)], 2 * width, Activate()), 2 * width)], width, LayerNorm(), residual=y)


def kernels(build) -> list[str]:
    """The kernels of a module after fusion, for DSP."""
    make = Maker(np.random.default_rng(0))
    fused = fuse_row_blocks(make.finish(lambda: build(make)), DSP)
    assert is_fused(fused)
    return [c.kernel for c in fused.choices]


def test_a_bert_layer_is_two_calls():
    """Keys and values, then everything else; the heads are one operator."""

    def build(make: Maker):
        x = make.embedding(24, LayerNorm(), mapped=False, small_tables=False)
        x = bert_layer(make, x, 24, 2)
        return make.linear([(x, 24)], 3, Dequantize(), one_row=True)

    assert kernels(build) == [
        "row_block_layer_norm_24_residual",
        "row_block_requantize_24x24_requantize_24x24",
        "row_block_requantize_24x24_attend2x12_layer_norm_12_12x24_residual_activate_24x48_layer_norm_48x24_residual",
        "product_interleaved_row_dequantize_24x3_dsp",
    ]


def test_an_embbert_layer_is_a_filter_and_a_call():
    def build(make: Maker):
        x = make.embedding(32, RmsNorm(), mapped=True, small_tables=True)
        context = make.attend(make.linear([(x, 32)], 32, Requantize()), x, x, Attention(32))
        x = make.linear([(context, 32), (make.filter(x, 32, 8), 32)], 32, RmsNorm())
        return make.linear([(x, 32)], 3, Dequantize(), one_row=True)

    assert kernels(build)[1:3] == [
        "row_block_filter_activate_8x32",
        "row_block_requantize_32x32_attend32_rms_norm_32_32x32",
    ]


def test_the_layers_output_lies_in_the_place_of_what_it_reads_for_the_last_time():
    make = Maker(np.random.default_rng(0))

    def build():
        x = make.embedding(24, LayerNorm(), mapped=False, small_tables=False)
        return make.linear([(bert_layer(make, x, 24, 2), 24)], 3, Dequantize(), one_row=True)

    fused = fuse_row_blocks(make.finish(build), DSP)
    assert "call_tir_inplace" in fused.mod.script()


@functools.cache
def wide_module():
    """EmbBERT's layer on 64 columns, and a head of one row, whose attention reads one query."""
    make = Maker(np.random.default_rng(5))

    def build():
        x = make.embedding(64, RmsNorm(), mapped=True, small_tables=True)
        context = make.attend(make.linear([(x, 64)], 64, Requantize()), x, x, Attention(64))
        x = make.linear([(context, 64), (make.filter(x, 64, 32), 64)], 64, RmsNorm())
        return make.linear([(x, 64)], 5, Dequantize(), one_row=True)

    return make.finish(build)


@functools.cache
def wide_runner():
    return llvm_runner(wide_module().mod, optimized=False)


def wide_answer(length: int) -> bytes:
    return wide_runner()(ids_of(length)).tobytes()


@pytest.mark.parametrize(
    ("target", "calls", "none"),
    [
        ("cortex-m3", "embbert_dsp_dot_4x2", "embbert_dsp_dot_raw embbert_dsp_rows"),
        ("cortex-m4", "embbert_dsp_dot_raw_2x4 embbert_dsp_rows", ""),
        ("cortex-m7", "embbert_dsp_dot_raw_2x2 embbert_dsp_rows", ""),
        ("cortex-m55", "embbert_mve_product embbert_mve_rows", "embbert_dsp_"),
    ],
)
def test_widths_of_whole_rounds_take_the_micro_kernels_of_the_cpu(target, calls, none, tmp_path):
    package = load_package(write_package(wide_module(), target, tmp_path / "package"))
    text = "".join(path.read_text() for path in package.sources)
    assert [f"{name}(" in text for name in calls.split()] == [True] * len(calls.split())
    assert not any(name in text for name in none.split())
    for place, flags in (("host", CHEAP["host"]), ("qemu", ())):
        with open_place(place, package, flags=flags) as device:
            for n in (1, 6, 33):
                assert device.run(ids_of(n)).logits.tobytes() == wide_answer(n), f"{place}, length {n}"


@functools.cache
def two_heads():
    """BERT's layer of two heads of 32 columns."""
    make = Maker(np.random.default_rng(7))

    def build():
        x = make.embedding(64, LayerNorm(), mapped=False, small_tables=False)
        return make.linear([(bert_layer(make, x, 64, 2), 64)], 3, Dequantize(), one_row=True)

    return make.finish(build)


@functools.cache
def answers_of_two_heads() -> list[bytes]:
    run = llvm_runner(two_heads().mod, optimized=False)
    return [run(ids_of(n)).tobytes() for n in LENGTHS]


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m33"])
@pytest.mark.parametrize("flags", [(), ("-Og", "-DEMBBERT_VALUES_FOURS=3")], ids=["at once", "in parts"])
def test_heads_over_keys_and_values_in_offset_binary(target, flags, tmp_path):
    """In parts of twelve rows, as texts of more than 128 tokens are read; with -Og, as firmware that is debugged."""
    package = load_package(write_package(two_heads(), target, tmp_path / "package"))
    assert any("embbert_dsp_values(" in path.read_text() for path in package.sources)
    with open_place("qemu", package, flags=flags) as device:
        assert [device.run(ids_of(n)).logits.tobytes() for n in LENGTHS] == answers_of_two_heads()


@pytest.mark.parametrize("isa", [DSP, DSP_DUAL], ids=["four rows", "two"])
def test_raw_words_in_tir_are_the_bits_of_the_module(isa):
    """As tuning compares a schedule with the kernel that this machine runs."""
    fused = fuse_row_blocks(wide_module(), isa.reference)
    run = llvm_runner(fused.mod, optimized=False)
    assert all(run(ids_of(n)).tobytes() == wide_answer(n) for n in (1, 6, 33))


def test_what_no_group_takes_says_why_and_keeps_its_bits():
    """Two products that want the same two values side by side, in either order."""
    make = Maker(np.random.default_rng(0))

    def build():
        x = make.embedding(24, LayerNorm(), mapped=False, small_tables=False)
        u, v = (make.linear([(x, 24)], 24, Requantize()) for _ in range(2))
        p, q = (make.linear([(a, 24), (b, 24)], 24, Requantize()) for a, b in ((u, v), (v, u)))
        x = make.linear([(p, 24), (q, 24)], 24, RmsNorm())
        return make.linear([(x, 24)], 3, Dequantize(), one_row=True)

    quantized = make.finish(build)
    fused = fuse_row_blocks(quantized, REFERENCE)
    assert not is_fused(fused)
    reasons = [c.reason for c in fused.choices if c.name in fused.unfused]
    assert reasons
    assert all("a row at a time: a value would have to lie beside several others" in r for r in reasons)
    assert llvm_runner(fused.mod)(ids_of(9)).tobytes() == llvm_runner(quantized.mod)(ids_of(9)).tobytes()


RESIDUAL = (
    "e = Gather(emb__weight, ids)\nn = LayerNormalization<axis=-1>(e, g__weight, g__bias)\nm = MatMul(n, w__weight)\n"
    "r = Relu(m)\nv = MatMul(r, v__weight)\ns = Add(v, n)\no = LayerNormalization<axis=-1>(s, g__weight, g__bias)\n"
    "rows = Constant<value_ints=[1]>()\np = ReduceMean<keepdims=0>(o, rows)\nlogits = MatMul(p, head__weight)"
)


@pytest.mark.parametrize("isa", [REFERENCE, MVE.reference], ids=["dsp", "mve"])
def test_weights_of_four_bits_beside_a_residual_path(isa):
    weights = {
        "emb__weight": normal(small.VOCABULARY, 32), "g__weight": normal(32), "g__bias": normal(32, seed=1),
        "w__weight": normal(32, 64, scale=0.3), "v__weight": normal(64, 32, scale=0.2), "head__weight": normal(32, 3),
    }  # fmt: skip
    mod = simplify(import_onnx(small.classifier(RESIDUAL, **weights)))
    quantized = quantize(mod, calibrate(mod, [small.some_ids(n) for n in range(4, 20)], "x"), PLANS["int4"])
    made = fuse_row_blocks(quantized, isa)
    assert is_fused(made)
    assert any(made_of.format.bits == 4 for made_of in quantized.blocks.values() if made_of.levels.shape == (32, 64))
    fused, rows = llvm_runner(made.mod), llvm_runner(quantized.mod)
    for length in (1, 5, 18):
        ids = small.some_ids(length, seed=1)
        assert fused(ids).tobytes() == rows(ids).tobytes(), length


CONVOLUTIONS = (
    "x = Gather(emb__weight, ids)\ne = MatMul(x, w__weight)\nt = Transpose<perm=[0,2,1]>(e)\n"
    "c = Conv<pads=[1,1]>(t, a__weight)\nr = Relu(c)\nd = Conv<pads=[1,1],group=32>(r, d__weight)\n"
    "s = Sigmoid(d)\nv = Conv(s, v__weight)\nu = Transpose<perm=[0,2,1]>(v)\nm = MatMul(u, w__weight)\n"
    "g = Tanh(m)\nrows = Constant<value_ints=[1]>()\np = ReduceMax<keepdims=0>(g, rows)\n"
    "q = ReduceMean<keepdims=0>(e, rows)\nj = Concat<axis=1>(p, q)\nlogits = MatMul(j, head__weight)"
)


@pytest.mark.parametrize("isa", [REFERENCE, MVE.reference], ids=["dsp", "mve"])
def test_convolutions_that_read_ahead_or_leave_rows_out(isa):
    """Through windows of what is all there; without the rows that are left out, to the pooling."""
    weights = {
        "emb__weight": normal(small.VOCABULARY, 32), "w__weight": normal(32, 32, scale=0.3),
        "a__weight": normal(32, 32, 3, scale=0.2), "d__weight": normal(32, 1, 3),
        "v__weight": normal(32, 32, 4, scale=0.2), "head__weight": normal(64, 3),
    }  # fmt: skip
    mod = simplify(import_onnx(small.classifier(CONVOLUTIONS, **weights)))
    quantized = quantize(mod, calibrate(mod, [small.some_ids(n) for n in range(4, 20)], "x"))
    assert {c.precision for c in quantized.choices} == {"int8"}
    made = fuse_row_blocks(quantized, isa)
    assert is_fused(made)
    assert any("_without3_" in c.kernel and "pool_max" in c.kernel for c in made.choices)
    fused, rows = llvm_runner(made.mod), llvm_runner(quantized.mod)
    for length in (1, 3, 4, 5, 8, 19):
        ids = small.some_ids(length, seed=1)
        assert fused(ids).tobytes() == rows(ids).tobytes(), length
