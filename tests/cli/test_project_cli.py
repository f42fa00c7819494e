"""`embbert-tvm project`: what it writes, and what makes none."""

from __future__ import annotations

import pytest
from toy import write_package

from embbert_tvm.device.package import load_package
from embbert_tvm.device.project import load_template, write_project
from embbert_tvm.errors import InputError


@pytest.mark.parametrize("name", ["arduino", "bare", "cmake", "esp-idf", "platformio", "zephyr"])
def test_the_command(cli, toy_package, tmp_path, name):
    out = tmp_path / "fw"
    out.mkdir()
    result = cli("project", toy_package, "--template", name, "-o", out, "--json")
    assert (result.status, result.json["template"]) == (0, name)
    assert all((out / path).is_file() for path in result.json["files"])
    before = sorted(out.rglob("*"))
    again = cli("project", toy_package, "--template", name, "-o", out)
    assert (again.status, again.err.count("\n")) == (2, 1)
    assert "fw: is not empty: name a folder that is" in again.err
    assert sorted(out.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--template", "cobol"), "unknown template 'cobol': known are arduino, bare, cmake, esp-idf, platformio, "),
        (("--template", "bare", "--board", "ek_ra8m1"), "ek_ra8m1 has a cortex-m85, the package was compiled for"),
        (("--template", "bare", "--board", "none"), "unknown board 'none'"),
    ],
)  # fmt: skip
def test_what_makes_no_project_is_refused(cli, toy_package, tmp_path, options, message):
    result = cli("project", toy_package, *options, "-o", tmp_path / "fw")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert message in result.err
    assert not list(tmp_path.iterdir())


def test_a_template_for_a_board_needs_one(tmp_path):
    package = load_package(write_package(tmp_path / "p", "host"))
    with pytest.raises(InputError, match="was compiled for host, and the template cmake needs a board"):
        write_project(package, load_template("cmake"), tmp_path / "fw")
