"""embbert-tvm targets."""

from __future__ import annotations

import pytest
import yaml


def test_list(cli):
    result = cli("targets", "list", "--json")
    assert {"cortex-m7", "host"} <= {cpu["name"] for cpu in result.json["cpus"]}
    assert "mps2_an500" in {board["name"] for board in result.json["boards"]}
    assert "mps2_an500" in cli("targets", "list").out


@pytest.mark.parametrize("name", ["cortex-m7", "mps2_an500"])
def test_show(cli, name):
    assert yaml.safe_load(cli("targets", "show", name).out) == cli("targets", "show", name, "--json").json


def test_unknown(cli):
    result = cli("targets", "show", "z80")
    assert result.status == 2
    assert "known are cortex-m0plus, cortex-m3, " in result.err
    assert ", host, microbit, mps2_an385, " in result.err
