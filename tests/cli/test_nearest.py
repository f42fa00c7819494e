"""A name that is not known is answered with the nearest that is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from embbert_tvm.errors import nearest


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["complie"], "compile"),
        (["targets", "show", "cortex-m77"], "cortex-m7"),
        (["compile", "x", "--target", "cortexm4", "-o", "y"], "cortex-m4"),
        (["compile", "x", "--board", "nucleo_f44re", "-o", "y"], "nucleo_f446re"),
        (["footprint", "bert2mb"], "bert-2mb"),
        (["compile", "embert-snips", "-o", "y"], "embbert-snips"),
        (["evaluate", "models/embbert-snip", "--data", "x.tsv"], "embbert-snips"),
    ],
)
def test_the_nearest_name_is_suggested(arguments, meant, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli(*arguments)
    assert done.status == 2
    assert f"did you mean {meant}?" in done.err


def test_nothing_is_suggested_where_nothing_is_alike():
    assert nearest("zebra", ["compile", "run"]) == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell):
    """As `eval "$(_EMBBERT_TVM_COMPLETE=bash_source embbert-tvm)"` asks for them."""
    code = "from embbert_tvm.cli import group; group.main(prog_name='embbert-tvm', complete_var='COMPLETE')"
    words = {"COMP_WORDS": "embbert-tvm comp", "COMP_CWORD": "1" if shell != "fish" else "comp"}
    environment = {**words, "COMPLETE": f"{shell}_complete", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "compile" in done.stdout
