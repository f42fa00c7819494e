"""embbert-tvm validate --against, on a package that was compiled: a kernel's constant that was spoilt is found."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import small


@pytest.fixture
def spoilt(tmp_path):
    """A copy of the small package, the gain of whose second layer's norm is another from the first column on."""
    package = shutil.copytree(small.package(), tmp_path / "p", ignore=shutil.ignore_patterns("build"))
    (weights,) = package.glob("codegen/host/src/*weights.c")
    text = weights.read_text()
    start = text.index("{", text.index("blocks_1_norm_gain[")) + 1
    end = text.index("}", start)
    spoiled = re.sub(r"-?\d+", lambda found: str(-(int(found[0]) // 2)), text[start:end])
    weights.write_text(text[:start] + spoiled + text[end:])
    return package


def test_a_sound_package_is_near_its_float_model(cli):
    result = cli("validate", small.package(), "--against", "float", "--json")
    assert (result.status, result.json["first"]) == (0, None)
    assert result.json["outputs"] > 5
    assert 0 < result.json["worst"]["rms"] < 0.5


def test_a_spoilt_constant_is_found_where_it_is(cli, spoilt):
    result = cli("validate", spoilt, "--against", "float", "--json")
    assert result.status == 1
    assert result.json["first"]["step"] == "blocks_1_norm"
    assert result.json["first"]["lsb"] > 1
    assert "the first operator that differs from float is blocks_1_norm" in result.err


def test_every_step_says_what_it_makes():
    document = json.loads((small.package() / "metadata.json").read_text())
    assert [o["step"] for o in document["outputs"]] == list(range(len(document["steps"])))
    assert document["outputs"][-1]["name"] == "logits"
    assert sum(o["float"] is not None for o in document["outputs"]) > 5
