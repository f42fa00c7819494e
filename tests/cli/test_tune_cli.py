"""`embbert-tvm tune` and `farm`: what they print, what `compile` takes of it, and bad input, each refused in a line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import small

pytest.importorskip("xgboost")
TARGET = "cortex-m7"
LOG = Path("schedules", TARGET, "toy-fp32")


SEARCH = ("--target", TARGET, "--precision", "fp32", "--length", 16)
COMPILE = ("--target", TARGET, "--precision", "fp32", "--no-tokenizer", "--json", "-o", "p")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the whole file works, so that one search serves all of it."""
    path = tmp_path_factory.mktemp("tune")
    body = (
        "n = Shape <start = 1> (ids)\nzero = Constant <value_ints = [0]> ()\np = Slice(pos__weight, zero, n, zero)\n"
        "e = Gather(emb__weight, ids)\nx = Add(e, p)\nh = MatMul(x, fc__weight)\nr = Relu(h)\n"
        "rows = Constant <value_ints = [1]> ()\nm = ReduceMean <keepdims = 0> (r, rows)\n"
        "logits = MatMul(m, head__weight)"
    )
    shapes = {"emb": (40, 16), "pos": (20, 16), "fc": (16, 24), "head": (24, 3)}
    weights = {f"{name}__weight": small.normal(*shape) for name, shape in shapes.items()}
    (path / "toy.onnx").write_bytes(small.classifier(body, **weights).SerializeToString())
    return path


@pytest.fixture
def here(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def log(here, cli) -> Path:
    """A log where `tune` puts it by itself, at most one search."""
    if not LOG.is_dir():
        done = cli("tune", "toy.onnx", *SEARCH, "--trials", 12, "--plot", "tune.svg", "--json")
        assert done.status == 0, done.err
        (here / "tune.json").write_text(done.out)
        (here / "tune.err").write_text(done.err)
    return LOG


def test_the_json_is_one_object(log, here):
    out = (here / "tune.json").read_text()
    assert out.count("\n") == 1
    report = json.loads(out)
    assert (report["log"], report["target"], report["objective"], report["runner"]) == (
        str(LOG), TARGET, "instructions", "qemu",
    )  # fmt: skip
    assert (report["trials"], report["failures"], report["length"]) == (12, 0, 16)
    assert 0 < report["after"] < report["before"]
    assert {k: v for k, v in report.items() if k not in ("log", "before", "after")} == json.loads(
        (LOG / "manifest.json").read_text()
    )


def test_a_file_is_told_no_progress(log, here):
    assert (here / "tune.err").read_text() == ""
    assert "<!-- million instructions of an inference -->" in (here / "tune.svg").read_text()


def test_what_is_done_is_told_again_and_pruned(log, here, cli):
    shutil.copytree(LOG, here / "pruned")
    done = cli("tune", "toy.onnx", *SEARCH, "--trials", 12, "--prune", "-o", "pruned")
    assert (done.status, done.err) == (0, "")
    kernel, *_, last = done.out.splitlines()
    assert kernel.startswith("fused_matmul_relu ")
    assert last.startswith("pruned: 12 trials, instructions ")
    report = json.loads((here / "tune.json").read_text())
    improved = [k for k in report["kernels"].values() if k["after"] < k["before"]]
    assert len((here / "pruned" / "database_tuning_record.json").read_text().splitlines()) == len(improved)


def test_compile_takes_the_log_by_itself_but_not_with_no_tuning(log, cli):
    for options, tuned in (((), True), (("--no-tuning",), False)):
        done = cli("compile", "toy.onnx", *COMPILE, *options)
        assert (done.status, done.err) == (0, "")
        assert bool(done.json["tuned"]) == tuned


def test_a_log_of_another_version_is_warned_of_once(log, here, cli, monkeypatch):
    shutil.copytree(LOG, here / "old" / LOG)
    manifest = here / "old" / LOG / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"tvm": "0.1"}))
    monkeypatch.chdir(here / "old")
    done = cli("compile", "../toy.onnx", *COMPILE)
    assert (done.status, done.json["tuned"]) == (0, [])
    (line,) = done.err.splitlines()
    assert line.startswith(f"warning: {LOG}: was tuned with TVM 0.1")


MODEL = "<model>"
BAD = {
    "unknown board": ((MODEL, "--target", "nowhere"), "unknown CPU 'nowhere'"),
    "a CPU that nothing emulates": ((MODEL, "--target", "host"), "QEMU emulates no board of it"),
    "missing model": (("missing", "--target", TARGET), "missing"),
    "place": ((MODEL, "--target", TARGET, "--on", "usb"), "tuning knows qemu and serial:PORT"),
    "key alone": ((MODEL, "--target", TARGET, "--key", "k"), "--key k: is of a farm: needs --tracker"),
    "flash alone": ((MODEL, "--target", TARGET, "--flash", "f {image}"), "needs --on serial:PORT"),
    "serial alone": ((MODEL, "--target", TARGET, "--on", "serial:/dev/none"), "needs --flash COMMAND"),
    "instructions of a board": (
        (MODEL, "--target", TARGET, "--on", "serial:p", "--flash", "{image}", "--objective", "mca"),
        "a board counts cycles",
    ),
    "cycles of QEMU": ((MODEL, "--target", TARGET, "--objective", "cycles"), "QEMU counts instructions"),
    "tracker's address": ((MODEL, "--target", TARGET, "--tracker", "nine"), "must be HOST:PORT"),
    "no tracker": ((MODEL, "--target", TARGET, "--tracker", "127.0.0.1:9"), "no tracker answers there"),
    "mca over a farm": (
        (MODEL, "--target", TARGET, "--tracker", "127.0.0.1:9", "--objective", "mca"),
        "leave --tracker out",
    ),
    "a farm and a port": (
        (MODEL, "--target", TARGET, "--tracker", "127.0.0.1:9", "--on", "serial:p"),
        "leave --on serial:p out",
    ),
    "precision": ((MODEL, "--target", TARGET, "--precision", "int9"), "int9"),
    "length": ((MODEL, *SEARCH[:-1], "21"), "--length 21: the model takes 1 to 20 tokens"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_a_line_and_leaves_nothing(cli, folder, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    done = cli("tune", *(folder / "toy.onnx" if a is MODEL else a for a in arguments))
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert line.startswith("embbert-tvm: ")
    assert words in line
    assert done.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--trials", 0), "0 is not in the range"),
        (("--objective", "speed"), "'speed' is not one of"),
        (("--length", "many"), "'many' is not a valid integer"),
    ],
)
def test_options_that_are_none(cli, here, option, words):
    done = cli("tune", "toy.onnx", "--target", TARGET, *option)
    assert done.status == 2
    assert words in done.err
    assert done.out == ""


FARM = {
    "unknown board": (("127.0.0.1:9", "nowhere"), "unknown board 'nowhere'"),
    "address": (("nine", "mps2_an500"), "must be HOST:PORT"),
    "no tracker": (("127.0.0.1:9", "mps2_an500"), "no tracker answers there"),
    "not emulated": (("127.0.0.1:9", "nucleo_h743zi2"), "give --serial PORT and --flash COMMAND"),
    "no flash": (("127.0.0.1:9", "mps2_an500", "--serial", "p"), "needs --flash COMMAND"),
    "no serial": (("127.0.0.1:9", "mps2_an500", "--flash", "f"), "is of a board behind --serial PORT"),
}


@pytest.mark.parametrize(("arguments", "words"), FARM.values(), ids=FARM)
def test_a_farm_refuses_what_it_cannot_serve(cli, arguments, words):
    tracker, board, *rest = arguments
    done = cli("farm", "serve", "--tracker", tracker, "--board", board, *rest)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert words in line
