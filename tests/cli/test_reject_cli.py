"""`reject` and `evaluate --outside` as a user calls them."""

from __future__ import annotations

import json

import pytest
import small

from embbert_tvm.models.folder import read_folder


@pytest.fixture
def sets(tmp_path):
    known = [f"{small.LABELS[n % 3]}\t{text} {n}" for n, text in enumerate(small.TEXTS * 5)]
    others = [f"?\twhat is the {word}" for word in ("time", "meaning of life", "rest")]
    paths = tmp_path / "dev.tsv", tmp_path / "others.tsv"
    for path, rows in zip(paths, (known, others), strict=True):
        path.write_text("\n".join(["label\ttext", *rows]) + "\n")
    return paths


def test_what_is_fitted_is_written_and_evaluated(sets, tmp_path, cli):
    dev, others = sets
    folder = small.copy_of_folder(tmp_path / "small")
    before = json.loads(cli("evaluate", folder, "--data", dev, "--outside", others, "--json").out)
    assert 0 <= before["confidence"]["ece"] <= 1
    assert set(before["confidence"]["risk"]) == {"1", "0.95", "0.9", "0.8", "0.5"}
    assert before["outside"]["examples"] == 3
    assert before["outside"]["accepted"] is None

    found = json.loads(cli("reject", folder, "--dev", dev, "--outside", others, "--keep", 0.9, "--json").out)
    rejection = read_folder(folder).rejection
    assert (rejection.score, rejection.threshold) == (found["score"], found["threshold"])
    assert found["compared"][found["score"]] == max(found["compared"].values())
    after = json.loads(cli("evaluate", folder, "--data", dev, "--outside", others, "--json").out)
    assert after["value"] == before["value"]
    assert after["outside"] == found["outside"]
    assert after["outside"]["rejected_known"] <= 0.1
    assert after["confidence"]["ece"] == pytest.approx(found["ece"]["after"])
    shown = cli("evaluate", folder, "--data", dev, "--outside", others).out
    assert "ECE" in shown
    assert "3 texts of none of the labels" in shown


def test_bad_use_is_named(sets, tmp_path, cli):
    dev, _ = sets
    for options, words in (
        (["--keep", "0.9", "--accept", "0.1"], "not both"),
        (["--accept", "0.1"], "give --outside TSV"),
        (["--keep", "1.5"], "--keep"),
    ):
        result = cli("reject", small.folder(), "--dev", dev, *options)
        assert (result.status, words in result.err) == (2, True), result.err
    folder = small.copy_of_folder(tmp_path / "small")
    config = json.loads((folder / "config.json").read_text())
    config["none_of_these"] = {"score": "mood"}
    (folder / "config.json").write_text(json.dumps(config))
    result = cli("evaluate", folder, "--data", dev)
    assert (result.status, "choose from max softmax" in result.err) == (2, True)
    assert cli("evaluate", small.folder(), "--data", dev, "--outside", tmp_path / "nowhere.tsv").status == 2


def test_a_vector_is_given_when_asked_for(sets, tmp_path, cli):
    dev, _ = sets
    folder = small.copy_of_folder(tmp_path / "small")
    assert cli("reject", folder, "--dev", dev, "--vector").status == 0
    assert [(head.name, head.head, head.width) for head in read_folder(folder).more] == [("known", "vector", 32)]
    (folder / "model.safetensors").unlink()
    result = cli("reject", folder, "--dev", dev, "--vector")
    assert (result.status, "a vector needs torch" in result.err) == (2, True)
