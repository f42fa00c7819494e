"""Blocks of code on README and the pages of docs: Python runs, C compiles against a package's header.

Blocks that other tests run as they stand are left to those: a board's and an operator's (test_docs.py), a board's file
(tuning/test_new_board.py).
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import small

from embbert_tvm.device.package import load_package
from embbert_tvm.resources import resource

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {"docs/adding-a-board.md": "sh", "docs/adding-an-operator.md": "python", "docs/tuning.md": "yaml"}
# What stands around a block of C in a reader's firmware.
FIRMWARE = """\
#include <string.h>
{includes}
extern const char *text;
void feed_the_watchdog(void);
int firmware(void);
int firmware(void) {{
{body}
    return 0;
}}
"""


def blocks() -> list[tuple[str, str, str]]:
    """(page, language, code) of every fenced block that names its language."""
    found = []
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]):
        page = path.relative_to(ROOT).as_posix()
        fenced = re.findall(r"^```(\w+)\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        found += [(page, language, code) for language, code in fenced if ELSEWHERE.get(page) != language]
    return found


def of(language: str) -> list:
    return [pytest.param(code, id=f"{page}-{n}") for n, (page, lang, code) in enumerate(blocks()) if lang == language]


def test_every_block_is_run_here_or_elsewhere():
    assert {language for _, language, _ in blocks()} == {"python", "c", "text"}


@pytest.mark.parametrize("code", of("python"))
def test_python_runs(code, tmp_path, monkeypatch, capsys):
    (tmp_path / "models").symlink_to(resource("models"))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "block", "exec"), {})
    said = re.findall(r"print\(.*\)  # (.*)", code)  # as the block says itself
    assert capsys.readouterr().out.split() == said


@pytest.mark.parametrize("code", of("c"))
def test_c_compiles(code, tmp_path):
    includes = "\n".join(re.findall(r"^#include.*$", code, re.MULTILINE))
    body = re.sub(r"^#include.*$", "", code, flags=re.MULTILINE)
    known = {"embbert_t model;": "model", "embbert_result_t result;": "result"}
    missing = [declared for declared, name in known.items() if re.search(rf"\b{name}\b", body) and declared not in body]
    source = tmp_path / "firmware.c"
    header = '#include "embbert.h"'
    source.write_text(FIRMWARE.format(includes=includes or header, body="\n".join([*missing, body])))
    folders = [f"-I{path}" for path in load_package(small.package()).includes]
    done = subprocess.run(
        ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", *folders, source],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
