"""The library: three lines from a model to a label, typed, and light to import."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import small

import embbert_tvm
from embbert_tvm import CompileOptions, api, compiler
from embbert_tvm.errors import InputError, WorkError

ROOT = Path(__file__).resolve().parents[1]
TEXT = "turn the lights off and on"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    out = tmp_path_factory.mktemp("api") / "package"
    return embbert_tvm.compile(small.folder(), "host", out, CompileOptions(max_length=16))


def test_the_readmes_lines_run(tmp_path, monkeypatch, capsys):
    """As they stand, with another model and a place that starts faster."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for old, new in (("models/embbert-snips", str(small.folder())), ("cortex-m7", "host"), ('"qemu"', '"host"')):
        assert old in program
        program = program.replace(old, new)
    exec(program, {})
    assert capsys.readouterr().out.rstrip("\n") in small.LABELS


def test_a_report_is_typed_and_adds_up(package):
    report = package.report
    assert (report.target, report.board, report.precision, report.max_length) == ("host", None, "int8", 16)
    assert report.flash.total == report.flash.code + report.flash.weights + report.flash.tokenizer
    assert report.ram.total == report.ram.arena + report.ram.stack + report.ram.static
    assert {o.name for o in report.operators} >= {"head"}
    assert report.warnings == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.target = "other"


def test_a_package_is_opened_again_and_answers_the_same(package):
    again = embbert_tvm.load_package(package.path)
    assert again.report is None
    with package.open() as first, again.open("host") as second:
        found = first.classify(TEXT)
        assert second.classify(TEXT) == found
        logits = first.run([1, 2, 3]).logits
    assert found.label in small.LABELS
    assert sum(found.scores.values()) == pytest.approx(1)
    assert len(logits) == len(small.LABELS)


def test_a_model_is_loaded_once_for_two_targets(tmp_path):
    model = embbert_tvm.load_model(small.folder())
    options = CompileOptions(precision="fp32", max_length=3)
    targets = [embbert_tvm.compile(model, name, tmp_path / name, options).report for name in ("host", "mps2_an500")]
    assert [(r.target, r.board) for r in targets] == [("host", None), ("cortex-m7", "mps2_an500")]


def test_a_plan_is_found_before_the_back_end_and_again_where_it_is_too_large(tmp_path, monkeypatch):
    """A package over the budget makes its chooser choose anew; after some times it is given up, with nothing left."""
    asked = []

    class Chooser:
        def __call__(self, mod, statistics, max_length):
            asked.append(max_length)
            return api.DEFAULTS and __import__("embbert_tvm.graph.precision", fromlist=["PLANS"]).PLANS["int8"]

        def tighten(self, flash, ram):
            return len(asked) < self.enough

    chooser = Chooser()
    monkeypatch.setattr(compiler, "plan_chooser", lambda *_: chooser)
    options = CompileOptions(precision="mixed", budget="flash=1k", max_length=4)
    chooser.enough = 2
    package = embbert_tvm.compile(small.folder(), "host", tmp_path / "p", options)
    assert asked == [4, 4]
    assert package.report.plan.default == "int8"
    chooser.enough = 99
    with pytest.raises(WorkError, match="comes within --budget flash=1k"):
        embbert_tvm.compile(small.folder(), "host", tmp_path / "q", options)
    assert len(asked) == 2 + api._ATTEMPTS
    assert {p.name for p in tmp_path.iterdir()} == {"p"}


def test_what_there_is_not_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such model folder"):
        embbert_tvm.load_model(tmp_path / "none")
    with pytest.raises(InputError, match="cortex-m99"):
        embbert_tvm.compile(small.folder(), "cortex-m99", tmp_path / "p")
    with pytest.raises(InputError, match="is not a compiled package"):
        embbert_tvm.load_package(tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'compiler_of_dreams'"):
        embbert_tvm.compiler_of_dreams  # noqa: B018


def test_every_public_name_is_there():
    assert set(embbert_tvm.__all__) <= set(dir(embbert_tvm))
    for name in set(embbert_tvm.__all__) - {"__version__"}:
        assert getattr(embbert_tvm, name) is getattr(api, name)


def loaded(program: str, *names: str) -> list[bool]:
    """Which modules a Python program of its own has imported in the end."""
    asked = f"\nimport sys\nprint(*(name in sys.modules for name in {names}))"
    done = subprocess.run([sys.executable, "-c", program + asked], capture_output=True, text=True, check=True)
    return [word == "True" for word in done.stdout.split()]


def test_importing_the_library_imports_nothing_heavy():
    assert loaded("import embbert_tvm", "numpy", "tvm", "torch") == [False, False, False]
    assert loaded("import embbert_tvm\nembbert_tvm.CompileOptions", "tvm", "torch") == [False, False]


def test_compiling_imports_no_torch(tmp_path):
    """Where it is installed, too, as it is here. `tune` begins with `load_model`, too."""
    assert loaded(f"import embbert_tvm\nembbert_tvm.load_model({str(small.folder())!r})", "torch") == [False]
    program = f"import embbert_tvm\nembbert_tvm.compile({str(small.folder())!r}, 'host', {str(tmp_path / 'p')!r})"
    assert loaded(program, "tvm", "torch") == [True, False]
