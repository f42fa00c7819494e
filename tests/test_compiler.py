"""The compiler as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import small

from embbert_tvm.compiler import CompileOptions, compile_model, find_source, front_end, llvm_runner
from embbert_tvm.device.package import load_package, load_vectors
from embbert_tvm.device.places import open_place
from embbert_tvm.target import load_cpu


def test_a_package_carries_its_reference():
    """The vectors are TVM's, and the C on this machine gives their bits."""
    package = load_package(small.package())
    vectors, run = load_vectors(package), llvm_runner(small.quantized().mod)
    lengths = [len(v.ids) for v in vectors]
    assert (lengths[0], lengths[-1]) == (1, 48)
    assert lengths == sorted(set(lengths))
    with open_place("host", package) as device:
        for vector in vectors:
            assert run(vector.ids).tobytes() == vector.logits.tobytes() == device.run(vector.ids).logits.tobytes()


def test_float_c_is_near_onnx():
    package, session = load_package(small.package("fp32")), session_of(small.folder() / "model.onnx")
    with open_place("host", package) as device:
        for length in (1, 2, 17, 48):
            ids = small.some_ids(length, 70)
            np.testing.assert_allclose(device.run(ids).logits, session(ids), rtol=1e-3, atol=1e-4)


def session_of(path: Path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda ids: session.run(None, {"ids": np.asarray([ids], np.int64)})[0][0]


def test_an_onnx_file_of_another_model_compiles_and_runs(tmp_path):
    """Int8 kernels around operators in float, an infinite constant among them: the C against onnxruntime."""
    body = """
    x = Gather(emb__weight, ids)
    m = MatMul(x, fc__weight)
    b = Max(m, floor__weight)
    s = Sin(b)
    n = MatMul(s, sq__weight)
    g = Sigmoid(n)
    pool = Constant<value_ints=[1]>()
    p = ReduceMean<keepdims=0>(g, pool)
    logits = Gemm<transB=1>(p, head__weight, head__bias)
    """
    floor = np.where(np.arange(8) % 2 == 0, -np.inf, -0.5).astype(np.float32)
    model = small.classifier(
        body, emb__weight=small.normal(40, 16, scale=0.4), fc__weight=small.normal(16, 8, scale=0.5),
        sq__weight=small.normal(8, 8), floor__weight=floor, head__weight=small.normal(3, 8), head__bias=small.normal(3),
    )  # fmt: skip
    path = tmp_path / "other.onnx"
    path.write_bytes(model.SerializeToString())
    calibrated(path)
    source = find_source(path)
    compiled = compile_model(source, load_cpu("host"), tmp_path / "p", CompileOptions(max_length=30))
    assert {c.precision for c in compiled.choices} == {"int8", "float32"}
    reference = session_of(path)
    with open_place("host", load_package(tmp_path / "p")) as device:
        for length in (1, 5, 30):
            ids = small.some_ids(length)
            np.testing.assert_allclose(device.run(ids).logits, reference(ids), atol=0.15)


def test_round_takes_ties_to_the_even_number(tmp_path):
    """ONNX Round: the C, TVM's reference in the package and onnxruntime."""
    body = """
    x = Gather(emb__weight, ids)
    r = Round(x)
    one = Constant<value_ints=[1]>()
    logits = ReduceSum<keepdims=0>(r, one)
    """
    ties = np.float32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 0.49999997, 8388607.5, -0.3])
    model = small.classifier(body, emb__weight=np.stack([ties, -ties, ties + 2]))
    path = tmp_path / "round.onnx"
    path.write_bytes(model.SerializeToString())
    compile_model(find_source(path), load_cpu("host"), tmp_path / "p", CompileOptions(precision="fp32", max_length=2))
    with open_place("host", load_package(tmp_path / "p")) as device:
        for token in range(3):
            found = device.run([token]).logits
            np.testing.assert_array_equal(found, session_of(path)([token]))
            np.testing.assert_array_equal(found, np.rint(np.stack([ties, -ties, ties + 2])[token]))


def calibrated(path: Path) -> None:
    from embbert_tvm.graph.calibrate import calibrate, save_calibration, sha256
    from embbert_tvm.graph.import_onnx import import_onnx, load_onnx
    from embbert_tvm.graph.pipeline import simplify

    mod = simplify(import_onnx(load_onnx(path)))
    texts = [small.some_ids(1 + n % 30, seed=n) for n in range(60)]
    save_calibration(calibrate(mod, texts, sha256(path)), path.with_name("calibration.json"))


def test_a_tsv_calibrates_in_place_of_the_folder(tmp_path):
    tsv = tmp_path / "set.tsv"
    tsv.write_text("label\ttext\n" + "".join(f"x\t{text}\n" for text in small.TEXTS))
    folder = small.copy_of_folder(tmp_path / "m")
    (folder / "calibration.json").unlink()
    compile_model(find_source(folder), load_cpu("host"), tmp_path / "p", CompileOptions(calibration=tsv))
    document = json.loads((tmp_path / "p" / "metadata.json").read_text())
    assert document["precision"] == "int8"
    assert not (folder / "calibration.json").exists()


def test_a_set_sorted_by_label_calibrates_as_export_does(tmp_path):
    """`compile --calibration` took the first 256 texts, which in a sorted set are of one class."""
    from embbert_tvm.data.dataset import CALIBRATION_TEXTS, read_examples
    from embbert_tvm.graph.calibrate import load_calibration, sha256
    from embbert_tvm.models.folder import read_folder
    from embbert_tvm.training.job import calibrate

    tsv, folder = tmp_path / "sorted.tsv", small.copy_of_folder(tmp_path / "m")
    rows = [f"{label}\t{text}\n" for label, text in zip("abcd", small.TEXTS, strict=True) for _ in range(100)]
    tsv.write_text("label\ttext\n" + "".join(rows))
    used = front_end(find_source(folder), CompileOptions(calibration=tsv)).statistics
    assert calibrate(read_folder(folder), read_examples(tsv)) == used.examples == CALIBRATION_TEXTS
    assert load_calibration(folder / "calibration.json", sha256(folder / "model.onnx")) == used


def test_a_shorter_max_length_needs_less_memory(tmp_path):
    short = compile_model(find_source(small.folder()), load_cpu("host"), tmp_path / "p", CompileOptions(max_length=8))
    long = json.loads((small.package() / "metadata.json").read_text())
    assert short.program.arena_bytes < long["arena"]["bytes"] / 2
    assert short.program.weights_bytes == long["weights_bytes"]
    run = llvm_runner(small.quantized().mod)
    with open_place("host", load_package(tmp_path / "p")) as device:
        ids = small.some_ids(8, 70)
        assert device.run(ids).logits.tobytes() == run(ids).tobytes()
