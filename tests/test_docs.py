"""The commands of docs/adding-a-board.md, as they stand there."""

from __future__ import annotations

import re
import shlex

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
