"""A board that nobody has tuned for, as docs/tuning.md has it: its file, a search by its flash's cost, its code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from embbert_tvm.cycles.tool import find_mca
from embbert_tvm.errors import InputError
from embbert_tvm.resources import resource
from tests import small

pytest.importorskip("xgboost")


def board_file() -> str:
    """The board of docs/tuning.md."""
    return re.search(r"```yaml\n(name: slow_flash\n.*?)```", resource("docs", "tuning.md").read_text(), re.S)[1]


def test_a_board_with_slow_flash_start_to_end(tmp_path, monkeypatch, cli):
    try:
        find_mca()
    except InputError as error:
        pytest.skip(str(error))
    monkeypatch.chdir(tmp_path)
    Path("slow_flash.yaml").write_text(board_file())
    body = (
        "x = Gather(emb__weight, ids)\nh = MatMul(x, fc__weight)\nr = Relu(h)\n"
        "logits = ReduceMax <keepdims = 0> (r, rows)"
    )
    weights = {"emb__weight": small.normal(40, 32), "fc__weight": small.normal(32, 24), "rows": small.np.array([1])}
    Path("toy.onnx").write_bytes(small.classifier(body, **weights).SerializeToString())
    options = ("--precision", "fp32")
    search = ("--target", "slow_flash.yaml", "--objective", "mca", "--length", 16, "--trials", 12, "--json")

    found = cli("tune", "toy.onnx", *options, *search).json
    assert found["log"] == "schedules/slow_flash/toy-fp32"
    assert (found["objective"], found["runner"], found["trials"]) == ("mca", "qemu+mca", 12)
    assert found["after"] < found["before"]
    manifest = json.loads(Path(found["log"], "manifest.json").read_text())

    better = {k["name"] for k in manifest["kernels"].values() if k["after"] < k["before"]}
    counts = []
    for more, used in (((), better), (("--no-tuning",), set())):
        compile_ = (
            "compile",
            "toy.onnx",
            *options,
            "--board",
            "slow_flash.yaml",
            "--max-length",
            16,
            "-o",
            "p",
            "--json",
        )
        compiled = cli(*compile_, *more)
        assert (compiled.status, compiled.err, set(compiled.json["tuned"])) == (0, "", used)
        profiled = cli("profile", "p", "--on", "qemu", "--length", 16, "--json")
        counts.append(profiled.json["lengths"][0]["total_instructions"])
    assert counts[0] < counts[1]
