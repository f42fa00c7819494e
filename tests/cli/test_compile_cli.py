"""`embbert-tvm compile`: its JSON, its phases, and bad input, each refused in a line with nothing left behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import small

from embbert_tvm.graph import onnx_export
from embbert_tvm.target_file import DataSheet, board_text, new_board


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def model(tmp_path) -> Path:
    """A copy of the small model's folder, to spoil."""
    return small.copy_of_folder(tmp_path / "m")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """One run of the whole command in a process of its own, as a user has it."""
    import subprocess
    import sys

    out = tmp_path_factory.mktemp("compiled")
    command = ["compile", small.folder(), "--target", "host", "-o", out / "p", "--dump-ir", out / "ir", "--json"]
    program = "import sys; from embbert_tvm.cli import main; main()"
    return out, subprocess.run([sys.executable, "-c", program, *map(str, command)], capture_output=True, text=True)


class TestDone:
    def test_the_json_is_the_contract(self, result):
        _, done = result
        assert done.returncode == 0
        assert done.stdout.count("\n") == 1
        report = json.loads(done.stdout)
        assert list(report) == [
            "target", "board", "precision", "max_length", "flash_bytes", "ram_bytes", "operators", "seconds", "tuned",
            "longest_slice",
        ]  # fmt: skip
        assert list(report["flash_bytes"]) == ["code", "weights", "tokenizer", "total"]
        assert list(report["ram_bytes"]) == ["arena", "stack", "static", "total"]
        assert (report["target"], report["precision"], report["max_length"]) == ("host", "int8", 48)
        for parts in (report["flash_bytes"], report["ram_bytes"]):
            assert parts["total"] == sum(parts.values()) - parts["total"]
            assert all(type(value) is int and value >= 0 for value in parts.values())
        assert report["operators"]
        assert all(set(o) == {"name", "kernel", "precision", "reason"} for o in report["operators"])
        assert 0 < report["seconds"] < 120
        assert 0 < report["longest_slice"] < 0.2

    def test_nothing_is_on_stderr(self, result):
        """Not TVM's own warnings either."""
        assert result[1].stderr == ""

    def test_every_phase_is_dumped(self, result):
        dumped = sorted((result[0] / "ir").iterdir())
        assert [p.stem.split("-")[1] for p in dumped][:3] == ["imported", "simplified", "quantized"]
        assert dumped[-1].stem.endswith("calls")
        assert [int(p.stem.split("-")[0]) for p in dumped] == list(range(1, len(dumped) + 1))
        for path in dumped:
            assert "def main(" in path.read_text()
        assert "R.nn.rms_norm" in dumped[1].read_text()
        assert "R.nn.rms_norm" not in dumped[2].read_text()

    def test_nothing_else_is_left(self, result):
        assert {p.name for p in result[0].iterdir()} == {"p", "ir"}


def test_a_person_reads_lines(cli, tmp_path):
    result = cli("compile", small.folder(), "--target", "host", "--precision", "fp32", "-o", tmp_path / "p")
    assert result.status == 0
    assert "fp32 for host, up to 48 tokens" in result.out
    assert "flash" in result.out
    assert "arena" in result.out


def test_a_package_is_replaced_whole(cli, tmp_path):
    out = tmp_path / "p"
    out.mkdir()
    (out / "metadata.json").write_text("{}")
    (out / "old.c").write_text("")
    options = ("--target", "host", "--precision", "fp32", "--max-length", "5", "-o", out, "--json")
    result = cli("compile", small.folder(), *options)
    assert result.status == 0
    assert result.json["max_length"] == 5
    assert not (out / "old.c").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"p"}
    assert result.err == ""


def test_a_plan_is_given_back_edited(cli, tmp_path):
    """The package says what was done; an edit of that is followed, and what it names in vain is refused."""
    options = ("--target", "host", "--max-length", "9", "--json", "-o")
    assert cli("compile", small.folder(), *options, tmp_path / "first").status == 0
    plan = json.loads((tmp_path / "first" / "plan.json").read_text())
    assert set(plan["operators"].values()) == {"int8"}
    again = cli("compile", small.folder(), "--plan", tmp_path / "first" / "plan.json", *options, tmp_path / "same")
    assert again.err == ""
    for name in ("plan.json", "reference.json", "codegen/host/src/embbert_kernels.c"):
        assert (tmp_path / "same" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()

    plan["operators"]["blocks_0_query"] = "fp32"
    (tmp_path / "edited.json").write_text(json.dumps(plan))
    edited = cli("compile", small.folder(), "--plan", tmp_path / "edited.json", *options, tmp_path / "edited")
    assert edited.err == ""
    assert edited.json["precision"] == "mixed"
    floats = [o for o in edited.json["operators"] if o["precision"] == "float32"]
    assert {o["name"] for o in floats} == {"blocks_0_query_matmul", "blocks_0_query"}
    assert {o["reason"] for o in floats} == {"requested"}
    assert json.loads((tmp_path / "edited" / "plan.json").read_text())["operators"] == plan["operators"]

    plan["operators"]["blocks_0_quary"] = "fp32"
    (tmp_path / "edited.json").write_text(json.dumps(plan))
    refused = cli("compile", small.folder(), "--plan", tmp_path / "edited.json", *options, tmp_path / "none")
    assert refused.status == 2
    assert "the model has no blocks_0_quary; it has blocks_0_query" in refused.err
    assert not (tmp_path / "none").exists()


def spoil_onnx(content):
    def spoil(model: Path, monkeypatch) -> None:
        path = model / "model.onnx"
        path.write_bytes(content(path.read_bytes()))

    return spoil


def spoil_weights(model: Path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)  # no torch
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes() + b" ")


def without_onnx(model: Path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    (model / "model.onnx").unlink()


def spoil_calibration(change):
    def spoil(model: Path, monkeypatch) -> None:
        path = model / "calibration.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return spoil


def spoil_config(change):
    def spoil(model: Path, monkeypatch) -> None:
        path = model / "config.json"
        path.write_text(change(path.read_text()))

    return spoil


def unlink(name: str):
    return lambda model, monkeypatch: (model / name).unlink()


def nothing(model: Path, monkeypatch) -> None:
    pass


BAD = [
    ("unknown target", nothing, ["--target", "cortex-x99"], "cortex-x99"),
    ("unknown precision", nothing, ["--precision", "int5"], "int5 is not known: choose one of int8"),
    ("precision and plan", nothing, ["--precision", "int8", "--plan", "p.json"], "give one of them"),
    ("plan missing", nothing, ["--plan", "none.json"], "none.json: cannot be read"),
    ("no length", nothing, ["--max-length", "0"], "--max-length 0: must be at least 1"),
    ("negative length", nothing, ["--max-length", "-4"], "--max-length -4: must be at least 1"),
    ("too long", nothing, ["--max-length", "49"], "--max-length 49: the model knows 48 positions"),
    ("not a number", nothing, ["--max-length", "many"], "many"),
    ("calibration TSV missing", nothing, ["--calibration", "none.tsv"], "none.tsv: cannot be read"),
    ("half an ONNX", spoil_onnx(lambda good: good[: len(good) // 2]), [], "model.onnx: not an ONNX file"),
    ("text as ONNX", spoil_onnx(lambda good: b"once upon a time\n" * 9), [], "model.onnx: not an ONNX file"),
    ("stale ONNX, no torch", spoil_weights, [], "exported from other weights"),
    ("missing ONNX, no torch", without_onnx, [], "run `embbert-tvm export`"),
    ("calibration of another model", spoil_calibration(lambda d: d.update(onnx_sha256="0")), [], "another model.onnx"),
    ("calibration of another version", spoil_calibration(lambda d: d.update(version=9)), [], "version"),
    ("calibration without tensors", spoil_calibration(lambda d: d["tensors"].clear()), [], "know no tensor"),
    ("calibration missing", unlink("calibration.json"), [], "calibration.json is missing"),
    ("config missing", unlink("config.json"), [], "config.json: cannot be read"),
    ("config is no JSON", spoil_config(lambda text: text[:-9]), [], "config.json: not JSON"),
    ("a label too many", spoil_config(lambda t: t.replace('"labels": [', '"labels": ["a",')), [], "4 labels are named"),
]


@pytest.mark.parametrize(("name", "spoil", "options", "message"), BAD, ids=[b[0] for b in BAD])
def test_bad_input_is_refused_in_one_line(cli, model, tmp_path, monkeypatch, name, spoil, options, message):
    spoil(model, monkeypatch)
    before = tree(tmp_path)
    result = cli("compile", model, "--target", "host", *options, "-o", tmp_path / "out", "--json")
    assert result.status == 2
    assert message in result.err
    assert result.out == ""
    if name != "not a number":  # click adds the usage
        assert result.err.count("\n") == 1
    assert tree(tmp_path) == before


def board_file(folder: Path, ram: int) -> Path:
    path = folder / f"ram{ram}.yaml"
    path.write_text(board_text(new_board("small", DataSheet("cortex-m4", ["512k"], [f"{ram}"], "80MHz", "1k"))))
    return path


def test_a_board_that_is_too_small_is_refused_with_what_would_fit(cli, tmp_path):
    board = board_file(tmp_path, 4096)
    before = tree(tmp_path)
    result = cli("compile", small.folder(), "--board", board, "-o", tmp_path / "out", "--json")
    assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
    assert "does not fit small: RAM (4,096 bytes) is " in result.err
    assert tree(tmp_path) == before
    longest = int(re.search(r"--max-length (\d+) is the longest that fits", result.err)[1])
    assert 1 <= longest < 48
    options = ("--json", "-o", tmp_path / "out", "--board")
    fits = cli("compile", small.folder(), "--max-length", longest, *options, board)
    assert (fits.status, fits.json["board"], fits.json["target"]) == (0, "small", "cortex-m4")
    assert fits.json["ram_bytes"]["arena"] + 1024 <= 4096


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "cortex-m7", "--board", "netduinoplus2"), "give one of them; a board says its CPU"),
        (("--target", "netduinoplus2"), "--target netduinoplus2: is a board: give it as --board netduinoplus2"),
        (("--board", "cortex-m7"), "unknown board 'cortex-m7': known are b_u585i_iot02a,"),
        (("--board", "none.yaml"), "none.yaml: cannot be read"),
    ],
)
def test_a_target_that_is_none_is_refused(cli, tmp_path, options, message):
    result = cli("compile", small.folder(), *options, "-o", tmp_path / "out")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert message in result.err
    assert not list(tmp_path.iterdir())


def test_a_missing_model_is_refused(cli, tmp_path):
    result = cli("compile", tmp_path / "none", "--target", "host", "-o", tmp_path / "out")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "none: no such model folder or ONNX file" in result.err
    assert not list(tmp_path.iterdir())


def test_an_operator_that_tvm_does_not_know_is_refused(cli, tmp_path):
    path = tmp_path / "model.onnx"
    model = small.classifier("x = Gather(emb__weight, ids)\nlogits = Neg(x)", emb__weight=small.normal(40, 4))
    model.graph.node[1].op_type = "Det"
    path.write_bytes(model.SerializeToString())
    result = cli("compile", path, "--target", "host", "-o", tmp_path / "out")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "TVM cannot import this ONNX model: " in result.err
    assert "Det" in result.err
    assert result.out == ""


@pytest.mark.parametrize("content", [b"", b"once upon a time\n" * 9, b"\x08\x07\x12\xff\xff"])
def test_a_bad_onnx_file_is_refused(cli, tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    result = cli("compile", path, "--target", "host", "-o", tmp_path / "out")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "model.onnx is not a valid ONNX model" in result.err
    assert {p.name for p in tmp_path.iterdir()} == {"model.onnx"}


@pytest.mark.parametrize(
    ("kind", "message"),
    [("file", "holds something that is not a package"), ("folder", "holds something that is not a package"),
     ("below a file", "cannot be written")],
)  # fmt: skip
def test_an_output_that_cannot_be_is_refused(cli, tmp_path, kind, message):
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
    else:
        out.write_text("years of work")
        out = out / "p" if kind == "below a file" else out
    before = tree(tmp_path)
    result = cli("compile", small.folder(), "--target", "host", "--precision", "fp32", "-o", out)
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert message in result.err
    assert result.out == ""
    assert tree(tmp_path) == before


def test_an_ir_folder_that_cannot_be_is_refused(cli, tmp_path):
    (tmp_path / "ir").write_text("")
    result = cli("compile", small.folder(), "--target", "host", "-o", tmp_path / "out", "--dump-ir", tmp_path / "ir")
    assert result.status == 2
    assert "ir: cannot be written" in result.err
    assert {p.name for p in tmp_path.iterdir()} == {"ir"}


def test_an_operator_without_c_fails_with_its_name(cli, tmp_path):
    """Status 1: the input is right, the work cannot be done."""
    path = tmp_path / "m.onnx"
    model = small.classifier(
        "x = Gather(emb__weight, ids)\nv, i = TopK<axis=-1>(x, k__weight)\nz = Constant<value_int=0>()\n"
        "logits = Gather<axis=1>(v, z)",
        emb__weight=small.normal(40, 8), k__weight=small.np.array([3]),
    )  # fmt: skip
    path.write_bytes(model.SerializeToString())
    result = cli("compile", path, "--target", "host", "--precision", "fp32", "-o", tmp_path / "out")
    assert result.status == 1
    assert "operator topk: the C printer knows no intrinsic" in result.err
    assert result.err.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx"}
