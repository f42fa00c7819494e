"""embbert-tvm targets."""

from __future__ import annotations

import pytest
import yaml

from embbert_tvm.target import board_of, load_board


def test_list(cli):
    result = cli("targets", "list", "--json")
    assert {"cortex-m7", "host"} <= {cpu["name"] for cpu in result.json["cpus"]}
    assert "mps2_an500" in {board["name"] for board in result.json["boards"]}
    assert "mps2_an500" in cli("targets", "list").out


def test_list_says_what_a_board_has(cli):
    (board,) = (b for b in cli("targets", "list", "--json").json["boards"] if b["name"] == "netduinoplus2")
    assert board["ram_bytes"] == [131_072, 65_536]
    assert (board["flash_bytes"], board["cpu"], board["serial"], board["qemu"]) == ([2**20], "cortex-m4", True, True)
    (row,) = (line for line in cli("targets", "list").out.splitlines() if line.startswith("netduinoplus2"))
    assert row.split()[1:10] == ["cortex-m4", "168", "1024", "K", "128", "+", "64", "K", "yes"]


def test_every_board_has_its_firmware(cli):
    """Thirteen real boards with a Cortex-M and one with RISC-V get an image, three of Espressif a project."""
    boards = cli("targets", "list", "--json").json["boards"]
    real = {b["name"]: b for b in boards if load_board(b["name"]).flash or load_board(b["name"]).framework}
    by = {name: sum(b["firmware"] == name for b in real.values()) for name in ("embbert-tvm", "esp-idf", "arduino")}
    assert by == {"embbert-tvm": 14, "esp-idf": 2, "arduino": 1}
    assert sum(not b["cpu"].startswith("cortex-m") for b in real.values()) == 4
    assert all(b["firmware"] for b in boards)
    rows = {line.split()[0]: line for line in cli("targets", "list").out.splitlines() if line}
    assert all(f" {b['firmware']} " in rows[b["name"]] for b in boards)


def test_show_a_cpu(cli):
    assert yaml.safe_load(cli("targets", "show", "cortex-m7").out) == cli("targets", "show", "cortex-m7", "--json").json


def test_show_a_board(cli):
    """What is printed can be kept as a board file."""
    shown = cli("targets", "show", "netduinoplus2")
    assert board_of(yaml.safe_load(shown.out)) == load_board("netduinoplus2")
    assert "{name: CCM, kind: ram, origin: 0x10000000, bytes: 0x10000}" in shown.out
    assert board_of(cli("targets", "show", "netduinoplus2", "--json").json) == load_board("netduinoplus2")


NEW = ("--cpu", "cortex-m4", "--flash", "512k@0x08000000", "--ram", "96k", "--clock", "80MHz")


def test_new(cli, tmp_path):
    path = tmp_path / "mine.yaml"
    result = cli("targets", "new", path, *NEW, "--ram", "32k@0x10000000", "--json")
    assert result.json["name"] == "mine"
    assert board_of(result.json) == load_board(str(path))
    assert cli("targets", "show", path).out == path.read_text()
    again = cli("targets", "new", path, *NEW)
    assert (again.status, "mine.yaml: exists already" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cpu", "z80"), "cpu: unknown 'z80'"),
        (("--stack", "big"), "--stack: 'big' is not a size"),
        (("--clock", "fast"), "--clock fast: give it as in 80MHz"),
    ],
)
def test_new_refuses_what_is_no_board(cli, tmp_path, options, message):
    result = cli("targets", "new", tmp_path / "mine.yaml", *NEW, *options)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert message in result.err
    assert not list(tmp_path.iterdir())


def test_new_wants_a_yaml_file(cli, tmp_path):
    assert "must end in .yaml" in cli("targets", "new", tmp_path / "mine.txt", *NEW).err


def test_unknown(cli):
    result = cli("targets", "show", "z80")
    assert result.status == 2
    assert "known are cortex-m0plus, cortex-m3, " in result.err
    assert ", host, lx106, rv32imac, rv32imc, b_u585i_iot02a, " in result.err
