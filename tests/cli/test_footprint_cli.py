"""`footprint` as a user calls it."""

import json

import pytest
import small

from embbert_tvm.models.config import PRESETS


def test_a_preset(cli):
    found = cli("footprint", "bert-2mb", "--json")
    assert found.status == 0
    (row,) = found.json["models"]
    assert (row["model"], row["architecture"], row["parameters"], row["length"]) == ("bert-2mb", "bert", 288_720, 256)
    assert row["formula"]["weights"] + row["formula"]["activations"] == row["formula"]["total"] == 2_006_848
    assert row["planned"] is None


def test_all_presets(cli):
    found = cli("footprint", "--all")
    assert found.status == 0
    head, *lines = found.out.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)
    assert "arena" not in head
    shorter = cli("footprint", "--all", "--length", "32", "--json").json["models"]
    assert {row["length"] for row in shorter} == {32}


def test_a_folder_has_what_compile_plans_beside_it(cli):
    found = cli("footprint", small.folder(), "--target", "host", "--json")
    assert found.status == 0, found.err
    (row,) = found.json["models"]
    plan = json.loads((small.package("int8", "host") / "metadata.json").read_text())
    assert (row["planned"]["arena"], row["planned"]["weights"]) == (plan["arena"]["bytes"], plan["weights_bytes"])
    assert row["planned"]["total"] == row["planned"]["arena"] + row["planned"]["weights"]


def test_a_preset_is_planned_from_a_new_model(cli, monkeypatch):
    from embbert_tvm.models.config import EmbedderConfig

    monkeypatch.setitem(PRESETS, "quick", EmbedderConfig(300, 16, 16, 4))
    found = cli("footprint", "quick", "--planned", "--target", "cortex-m0plus", "--json")
    assert found.status == 0, found.err
    plan = found.json["models"][0]["planned"]
    assert (plan["target"], plan["precision"], plan["length"]) == ("cortex-m0plus", "int8", 16)
    assert 300 * 4 + 16 * 4 < plan["weights"] < 4096  # a byte a number, scales and a segment table beside them
    assert 16 * 4 < plan["arena"] < 16 * 16 * 4  # ids and a block of rows: rows are pooled as they come


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["enormous"], "no such model folder; presets are nano"),
        ([], "one model folder or preset, or --all"),
        (["base", "--all"], "one model folder or preset, or --all"),
        (["base", "--length", "300"], "is not in 1 to 256"),
        (["base", "--target", "z80"], "z80"),
    ],
)
def test_bad_input(arguments, message, cli):
    found = cli("footprint", *arguments)
    assert found.status == 2
    assert message in found.err
    assert len(found.err.splitlines()) == 1
    assert not found.out
