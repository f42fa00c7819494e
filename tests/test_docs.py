"""The commands of docs/adding-a-board.md and the operator of docs/adding-an-operator.md, as they stand there."""

from __future__ import annotations

import re
import shlex
import sys
import types

import yaml

from embbert_tvm.device.package import load_package
from embbert_tvm.resources import resource
from embbert_tvm.target import board_of, known_boards


def test_adding_a_board(cli, tmp_path, monkeypatch):
    (block,) = re.findall(r"```sh\n(.*?)```", resource("docs", "adding-a-board.md").read_text(), re.DOTALL)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [command[1:2] for command in commands] == [["targets"], ["targets"], ["compile"], ["run"]]
    (tmp_path / "models").symlink_to(resource("models"))
    monkeypatch.chdir(tmp_path)
    for program, *arguments in commands:
        assert program == "embbert-tvm"
        result = cli(*arguments)
        assert (result.status, result.err) == (0, ""), arguments
    assert "play some jazz" in result.out
    board = board_of(yaml.safe_load((tmp_path / "nucleo_l476rg.yaml").read_text()))
    assert board.name not in known_boards()
    assert load_package(tmp_path / "build" / "l476").board == board


def test_adding_an_operator(monkeypatch):
    import numpy as np
    import onnxruntime
    from small import classifier, normal, some_ids

    from embbert_tvm.compiler import llvm_runner
    from embbert_tvm.graph import quantize
    from embbert_tvm.graph.calibrate import calibrate
    from embbert_tvm.graph.import_onnx import import_onnx
    from embbert_tvm.graph.pipeline import simplify

    kernel, operator = re.findall(
        r"```python\n(.*?)```", resource("docs", "adding-an-operator.md").read_text(), re.DOTALL
    )
    names = ("embbert_tvm.kernels.lookup", "embbert_tvm.graph.quantize.sine")
    modules = [types.ModuleType(name) for name in names]
    for module, text in zip(modules, (kernel, operator), strict=True):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(text, module.__name__, "exec"), module.__dict__)
    monkeypatch.setattr(quantize, "INT8_OPERATORS", (modules[1], *quantize.INT8_OPERATORS))

    body = "x = Gather(emb__weight, ids)\nm = MatMul(x, fc__weight)\ns = Sin(m)\nrows = Constant<value_ints=[1]>()\n"
    body += "p = ReduceMean<keepdims=0>(s, rows)\nlogits = MatMul(p, head__weight)"
    model = classifier(
        body, emb__weight=normal(40, 16, scale=0.5), fc__weight=normal(16, 8, scale=0.5), head__weight=normal(8, 3)
    )
    mod = simplify(import_onnx(model))
    texts = [some_ids(1 + n % 20, seed=n) for n in range(24)]
    quantized = quantize.quantize(mod, calibrate(mod, texts, "x"))
    assert "lookup_8" in [choice.kernel for choice in quantized.choices]
    assert {choice.precision for choice in quantized.choices} == {"int8"}
    run, session = llvm_runner(quantized.mod), onnxruntime.InferenceSession(model.SerializeToString())
    pairs = [(run(ids), session.run(None, {"ids": np.array([ids])})[0].reshape(-1)) for ids in texts]
    largest = max(np.abs(theirs).max() for _, theirs in pairs)
    assert max(np.abs(mine - theirs).max() for mine, theirs in pairs) <= 0.05 * largest
