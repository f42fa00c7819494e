"""Models whose layers have the names of what C, its headers and the package have already."""

from __future__ import annotations

import subprocess

import numpy as np
import onnx
import pytest
import small
from onnx import numpy_helper

from embbert_tvm.compiler import compile_model, find_source
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.models.reference import Reference
from embbert_tvm.options import CompileOptions
from embbert_tvm.target import load_cpu

STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")
NAMES = (
    "NULL", "INT32_MAX", "INFINITY", "EMBBERT_OK", "__LINE__", "_Bool", "linux", "int8_t", "memcpy", "expf", "embbert",
    "embbert_run", "embbert.embbert_label", "run", "t", "status_t", "arena", "my.ids", "my.logits", "L", "infer",
    "class", "a.b", "a_b", "a*/b", "a/*b", "a\\", "a??/", "$(touch PWNED)", "☃", " ", "x" * 300,
)  # fmt: skip


def chain(names: tuple[str, ...]) -> onnx.ModelProto:
    """A model with a matrix and a sine a name."""
    lines, last = ["x = Gather(ids__weight, ids)"], "x"
    weights = {"ids__weight": small.normal(40, 8), "logits__weight": small.normal(8, 3)}
    for number in range(len(names)):
        lines += [f"m{number} = MatMul({last}, w{number})", f"s{number} = Sin(m{number})"]
        weights[f"w{number}"] = small.normal(8, 8, seed=number, scale=0.5)
        last = f"s{number}"
    lines += ["z = Constant<value_int=0>()", f"p = Gather<axis=1>({last}, z)", "logits = MatMul(p, logits__weight)"]
    model = small.classifier("\n".join(lines), **weights)
    renamed = {f"w{number}": f"{name}.weight" for number, name in enumerate(names)}
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for tensor in model.graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    return model


@pytest.mark.parametrize("start", range(0, len(NAMES), 8))
def test_names_that_mean_something_compile_and_compute(start, tmp_path):
    path, out = tmp_path / "a\nb *\\ ☃.onnx", tmp_path / "package"
    path.write_bytes(chain(NAMES[start : start + 8]).SerializeToString())
    compile_model(find_source(path), load_cpu("host"), out, CompileOptions("fp32", max_length=9))
    package = load_package(out)
    includes = [f"-I{folder}" for folder in package.includes]
    for source in package.sources:
        command = ["gcc", *STRICT, *includes, "-c", str(source), "-o", str(tmp_path / "x.o")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    ids = [2, 17, 9]
    with open_place("host", package) as device:
        np.testing.assert_allclose(device.run(ids).logits, Reference(path)(ids).reshape(-1), rtol=1e-4, atol=1e-5)


def test_matrices_of_names_that_are_one_in_c_stay_two(tmp_path):
    model = chain(("a.b", "a_b"))
    first, second = (numpy_helper.to_array(t) for t in model.graph.initializer if t.name.startswith("a"))
    assert not np.array_equal(first, second)
    path, out = tmp_path / "m.onnx", tmp_path / "package"
    path.write_bytes(model.SerializeToString())
    compile_model(find_source(path), load_cpu("host"), out, CompileOptions("fp32", max_length=9))
    with open_place("host", load_package(out)) as device:
        np.testing.assert_allclose(device.run([3]).logits, Reference(path)([3]).reshape(-1), rtol=1e-4, atol=1e-5)


def test_every_file_of_a_package_has_its_prefix():
    """So that no header of two packages, or of a package and a firmware, is taken for another."""
    package = small.package(prefix="mine")
    names = [path.name for path in (package / "codegen").rglob("*") if path.is_file()]
    assert len(names) > 8
    assert all(name.startswith("mine_") or name == "mine.h" for name in names)
