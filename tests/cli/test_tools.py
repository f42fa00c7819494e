"""What `compile` and others do with a compiler that is missing, fails or hangs, and `run` with a package that lies."""

from __future__ import annotations

import ast
import json
import os
import shutil
import stat
import time
from pathlib import Path

import pytest
import small

import embbert_tvm
from embbert_tvm.cycles.llvm_mca import Mca
from embbert_tvm.cycles.tool import find_mca
from embbert_tvm.device.toolchain import SECONDS_VARIABLE, MissingTool, call
from embbert_tvm.errors import WorkError
from embbert_tvm.target import load_cpu


@pytest.fixture
def model(tmp_path) -> Path:
    """Two lines of ONNX that compile in a moment."""
    body = (
        "x = Gather(ids__weight, ids)\nz = Constant<value_int=0>()\np = Gather<axis=1>(x, z)\n"
        "logits = MatMul(p, head__weight)"
    )
    weights = {"ids__weight": small.normal(40, 8), "head__weight": small.normal(8, 3)}
    path = tmp_path / "m.onnx"
    path.write_bytes(small.classifier(body, **weights).SerializeToString())
    return path


def gcc(folder: Path, script: str) -> str:
    """A PATH on which gcc is a shell script, and nothing but what it needs is beside it."""
    folder.mkdir()
    program = folder / "gcc"
    program.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    for name in ("sleep", "size"):
        os.symlink(shutil.which(name), folder / name)
    return str(folder)


def compiled(cli, model: Path, out: Path):
    return cli("compile", model, "--target", "host", "--precision", "fp32", "--max-length", 9, "-o", out)


def test_a_compiler_that_is_missing_is_a_warning(cli, model, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    result = compiled(cli, model, tmp_path / "p")
    assert result.status == 0
    (line,) = result.err.splitlines()
    assert line.startswith("warning: code size and stack are not known: gcc is not installed")
    assert (tmp_path / "p" / "metadata.json").is_file()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'x.c:1:1: error: no such thing' >&2; exit 1", "gcc could not make"),
        ("kill -SEGV $$", "gcc could not make"),
        ("sleep 60", "did not make embbert_kernels.c in 1 s and was ended"),
        ("sleep 60 & wait", "and was ended: set EMBBERT_TVM_TOOL_SECONDS"),
    ],
)
def test_a_compiler_that_fails_is_a_failure_and_leaves_no_package(script, message, cli, model, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", gcc(tmp_path / "bin", script))
    monkeypatch.setenv(SECONDS_VARIABLE, "1")
    start = time.monotonic()
    result = compiled(cli, model, tmp_path / "p")
    assert (result.status, result.out) == (1, "")
    (line,) = result.err.splitlines()
    assert message in line or (message.startswith("did not") and "and was ended" in line)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["bin", "m.onnx"]
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("target", ["host", "cortex-m7"])
@pytest.mark.parametrize(
    ("include", "error", "message"),
    [
        ('"embbert_gone.h"', WorkError, r"x\.c includes embbert_gone\.h, which is missing: compile the package again"),
        ("<gone.h>", MissingTool, r"the C library for \S+ is not installed \(.*gone\.h: No such file.*apt-get install"),
    ],
)
def test_a_missing_header_is_told_from_a_missing_c_library(include, error, message, target, tmp_path):
    (tmp_path / "x.c").write_text(f"#include {include}\n")
    with pytest.raises(error, match=message) as raised:
        call(load_cpu(target), "gcc", ["-c", tmp_path / "x.c", "-o", tmp_path / "x.o"], "x.c")
    assert type(raised.value) is error


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf"])
def test_seconds_that_are_none(seconds, cli, model, tmp_path, monkeypatch):
    monkeypatch.setenv(SECONDS_VARIABLE, seconds)
    result = compiled(cli, model, tmp_path / "p")
    assert result.status == 2
    assert f"{SECONDS_VARIABLE}={seconds}: must be a number of seconds" in result.err


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("target", "../../evil.yaml", "target: unknown"),
        ("prefix", "x\ny", "prefix 'x\\ny'"),
        ("prefix", "stdint", "is a header of C"),
        ("sources", ["codegen/host/src/$(touch x).c"], "is not a path of letters"),
        ("sources", ["../x.c"], "lies outside the package"),
        ("includes", [7], "is not a path of letters"),
        ("labels", ["a\nb", "c", "d"], "labels: must be null or a list"),
    ],
)
def test_metadata_that_names_what_it_must_not(key, value, message, cli, toy_package, tmp_path):
    package = Path(shutil.copytree(toy_package, tmp_path / "p"))
    path = package / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    result = cli("run", package, "play")
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("script", ["sleep 60", "sleep 60 & wait"])
def test_llvm_mca_has_a_time_out_too(script, tmp_path, monkeypatch):
    program = tmp_path / "llvm-mca"
    program.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv(SECONDS_VARIABLE, "0.5")
    for ask in (find_mca, lambda: Mca(load_cpu("cortex-m7"), str(program)).cycles([((2, "nop"),)])):
        with pytest.raises(WorkError, match=r"llvm-mca did not make .* in 0\.5 s and was ended"):
            ask()


def test_no_program_is_started_without_a_time_out():
    """Each by `run_tool`, or with one of its own; Popen where the protocol or the farm ends it."""
    root = Path(embbert_tvm.__file__).parent
    waiting, started = [], set()
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("subprocess."):
                where = str(path.relative_to(root))
                if ast.unparse(node.func) == "subprocess.Popen":
                    started.add(where)
                elif not (
                    ast.unparse(node.func) == "subprocess.CompletedProcess"
                    or any(keyword.arg == "timeout" for keyword in node.keywords)
                ):
                    waiting.append(f"{where}:{node.lineno}")
    assert waiting == []
    assert started == {"device/link.py", "device/toolchain.py"}
