"""No precision's C does what C leaves undefined, by the compiler's sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import small

from embbert_tvm.codegen.c_api import STATUSES
from embbert_tvm.compiler import compile_model, find_source
from embbert_tvm.device.package import load_package
from embbert_tvm.graph.precision import PRECISIONS, PrecisionPlan
from embbert_tvm.options import CompileOptions
from embbert_tvm.target import load_cpu

HERE = Path(__file__).parent
# Unoptimized GCC takes half as long, and no level has dropped a check; warnings are test_builds.py's.
CHECKED = ("-g1", "-O0", "-w", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-ffp-contract=off")
MIXED = PrecisionPlan("int4", {"blocks_0_*": "int8", "head": "fp16"}, {"blocks_1_query": "ternaryb32"})
# int8 on both targets: test_package_c.py.
CASES = [(name, "host") for name in PRECISIONS if name != "int8"]
CASES += [("int4", "cortex-m7"), ("fp16", "cortex-m55"), ("mixed", "host")]


def package(precision: str, target: str, folder: Path) -> Path:
    if precision != "mixed":
        return small.package(precision, target)
    compile_model(find_source(small.folder()), load_cpu(target), folder, CompileOptions("mixed", plan=MIXED))
    return folder


@pytest.mark.parametrize(("precision", "target"), CASES)
def test_every_precision_under_sanitizers(precision, target, tmp_path):
    """The API as a firmware calls it, and as it must not be, with texts and ids of every length."""
    compiled = load_package(package(precision, target, tmp_path / "package"))
    program = tmp_path / "api"
    includes = [f"-I{path}" for path in compiled.includes]
    command = ["gcc", "-std=c99", *CHECKED, *includes, HERE / "api_test.c", *compiled.sources, "-lm", "-o", program]
    subprocess.run(list(map(str, command)), check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith("wrong")]
    assert sum(line.startswith("logits") for line in lines) == 18
    assert sum(line.startswith("status") for line in lines) == len(STATUSES)
