"""`train`, `evaluate` and `export` as a user calls them: exit status, streams, nothing half-written."""

import json
import re
import subprocess
import sys

import pytest

from embbert_tvm.cli import main

LINES = [
    f"{label}\t{text.format(thing)}"
    for label, text in [("on", "turn the {} on"), ("off", "turn the {} off"), ("on", "switch on the {}")]
    for thing in ("lights", "heating", "radio", "fan", "kettle", "oven")
]
OPTIONS = ["--preset", "nano", "--max-length", "16", "--epochs", "2", "--batch-size", "4", "--no-measure"]


@pytest.fixture
def tsv(tmp_path):
    path = tmp_path / "lights.tsv"
    path.write_text("\n".join(["label\ttext", *LINES]) + "\n")
    return path


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line in this process; gives exit status, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["embbert-tvm", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        return status, *capsys.readouterr()

    return run


def test_train_export_evaluate(tsv, tmp_path, call):
    model = tmp_path / "model"
    status, out, err = call("train", tsv, *OPTIONS, "--json", "--plot", tmp_path / "curves.png", "-o", model)
    assert status == 0, err
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(out)
    assert len(out.splitlines()) == 1
    assert {"model", "task", "metric", "value", "examples", "seed"} <= set(found)
    assert {"accuracy", "baseline", "classes", "confused"} <= set(found)
    assert "epoch 2" in err
    files = sorted(x.name for x in model.iterdir())
    assert files == [
        "README.md", "calibration.json", "config.json", "model.onnx", "model.safetensors", "texts-read.xz",
        "tokenizer.json", "training.json",
    ]  # fmt: skip
    assert str(sys.prefix) not in (model / "README.md").read_text()

    status, out, _ = call("evaluate", model, "--data", tsv, "--json")
    assert status == 0
    found = json.loads(out)
    assert (found["task"], found["metric"], found["examples"]) == ("lights", "accuracy", len(LINES))
    assert 0 <= found["value"] <= 1
    assert [x["label"] for x in found["classes"]] == ["off", "on"]

    tsv.write_text(tsv.read_text() + "dim\tturn the lights down\n")
    status, out, err = call("evaluate", model, "--data", tsv, "-o", tmp_path / "answers.tsv")
    assert status == 0
    assert re.search(r"was trained on \d+ of these texts", err)
    assert "the model does not know dim (1): 1 texts count as wrong" in err
    assert "class" in out.splitlines()[0]
    header, *answers = (tmp_path / "answers.tsv").read_text().splitlines()
    assert header == "label\tpredicted\tprobability\ttext"
    assert len(answers) == len(LINES) + 1
    assert answers[-1].startswith("dim\t")
    assert answers[-1].endswith("\tturn the lights down")
    assert 0.5 <= float(answers[-1].split("\t")[2]) <= 1
    tsv.write_text("\n".join(["label\ttext", *LINES]) + "\n")

    before = {x.name: x.read_bytes() for x in model.iterdir()}
    (model / "model.onnx").unlink()
    status, out, _ = call("export", model, "--json", "--calibration", tsv)
    assert status == 0
    found = json.loads(out)
    assert set(found["lengths"]) == {"1", "7", "16"}
    assert found["calibration_texts"] == len(LINES)
    assert (model / "model.onnx").read_bytes() == before["model.onnx"]


def test_without_torch_it_says_how_to_get_it(tsv, tmp_path, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    status, out, err = call("train", tsv, "-o", tmp_path / "m")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "make test-venv" in err
    assert f"{sys.executable} -m pip install torch==" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "none.tsv", "-o", "out"], "none.tsv"),
        (["train", "bad.tsv", "-o", "out"], "line 1"),
        (["train", "set.tsv", "--epochs", "0", "-o", "out"], "epochs"),
        (["train", "set.tsv", "--preset", "huge", "-o", "out"], "choose from nano"),
        (["train", "set.tsv", "--base", "nowhere", "-o", "out"], "no such model folder"),
        (["train", "set.tsv", "--tokenizer", "bad.tsv", "-o", "out"], "tokenizer"),
        (["evaluate", "nowhere", "--data", "set.tsv"], "no such model folder"),
        (["export", "nowhere"], "no such model folder"),
        (["train", "set.tsv"], "--output"),
    ],
)
def test_bad_input_exits_with_2_and_one_line(tsv, tmp_path, call, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    tsv.rename("set.tsv")
    (tmp_path / "bad.tsv").write_text("nothing of the kind")
    status, out, err = call(*arguments)
    assert status == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert sorted(x.name for x in tmp_path.iterdir()) == ["bad.tsv", "set.tsv"]


def test_a_killed_command_resumes_and_leaves_no_model(tsv, tmp_path):
    model = tmp_path / "model"
    code = "from embbert_tvm.cli import main; main()"
    command = [sys.executable, "-c", code, "train", str(tsv), *OPTIONS, "--epochs", "5000", "-o", str(model)]

    def run_until(text: str) -> None:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert any(text in line for line in process.stderr), f"never said {text}"
        finally:
            process.kill()
            process.communicate()

    run_until("epoch 2:")
    assert (tmp_path / ".model.training.safetensors").exists()
    assert not model.exists()
    run_until("resuming after epoch")
    assert not model.exists()
