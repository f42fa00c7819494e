"""Budgets: how they are written, and that what is chosen keeps them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import small

from embbert_tvm import mixed
from embbert_tvm.device.build import HOST_FLAGS_VARIABLE
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import load_calibration, sha256
from embbert_tvm.kernels.isa import DSP
from embbert_tvm.mixed import Budget, parse_budget
from embbert_tvm.sensitivity import Texts, Trials, measure


def test_a_budget_is_read():
    assert parse_budget("flash=300k, ram=64K,drop=0.5") == Budget(300 * 1024, 64 * 1024, 0.5)
    assert parse_budget("flash=1.5M") == Budget(1536 * 1024)


@pytest.mark.parametrize("text", ["flash", "flash=", "speed=3", "drop=1k", "flash=-3", "flash=1,flash=2", "drop=a"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(InputError, match="give flash=BYTES"):
        parse_budget(text)


@pytest.fixture(scope="module")
def measured():
    """Every operator of the small EmbBERT in int8 and fp16."""
    mod, ids = small.simplified(), [small.some_ids(n, 70) for n in (5, 17)]
    statistics = load_calibration(small.folder() / "calibration.json", sha256(small.folder() / "model.onnx"))
    return measure(mod, statistics, Texts(mod, ids), DSP, Trials(("int8", "fp16")))


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    path = tmp_path_factory.mktemp("dev") / "dev.tsv"
    rows = [f"{small.LABELS[n % 3]}\t{text}" for n, text in enumerate(small.TEXTS * 4)]
    path.write_text("\n".join(["label\ttext", *rows]) + "\n")
    return path


def test_the_most_accurate_plan_within_the_flash(cli, tmp_path, dev, measured, monkeypatch):
    """Between all in int8 and all in float there is a budget, and what is chosen keeps it."""
    monkeypatch.setattr(mixed, "measure", lambda *_: measured)
    monkeypatch.delenv(HOST_FLAGS_VARIABLE)  # Flash is that of a user's programs.
    options = ("--target", "host", "--json", "--max-length", "16")
    small_one = cli("compile", small.folder(), *options, "-o", tmp_path / "int8").json["flash_bytes"]["total"]
    large = cli("compile", small.folder(), "--precision", "fp16", *options, "-o", tmp_path / "fp16").json["flash_bytes"]
    limit = (small_one + large["total"]) // 2
    asked = ("--precision", "mixed", "--budget", f"flash={limit}", "--choices", "int8,fp16", "--dev", dev)
    found = cli("compile", small.folder(), *asked, *options, "-o", tmp_path / "mixed")
    assert found.status == 0, found.err
    assert found.json["flash_bytes"]["total"] <= limit
    plan = json.loads((tmp_path / "mixed" / "plan.json").read_text())
    assert set(plan["operators"].values()) >= {"fp16"}
    account = plan["measured"]
    assert 0 < account["error"] < sum(row["error"] for row in account["operators"] if row["precision"] == "int8")
    assert {row["precision"] for row in account["operators"]} >= {"int8", "fp16"}
    assert all(row["error"] > 0 for row in account["operators"] if row["precision"] == "int8")
    # What stays in integers is in row blocks all the same.
    assert all(row["blocked"] for row in account["operators"])
    assert account["blocked"] is True
    assert any(o["kernel"].startswith("row_block") for o in found.json["operators"])
    again = cli(
        "compile", small.folder(), "--plan", tmp_path / "mixed" / "plan.json", *options, "-o", tmp_path / "again"
    )
    assert again.json["flash_bytes"] == found.json["flash_bytes"]


def test_the_smallest_plan_where_any_loss_is_allowed(cli, tmp_path, dev, measured, monkeypatch):
    """Every product in the fewest bytes; what has none is as exact as it can be, and leaves row blocks as they are."""
    products = [row for row in measured if row.precision == "fp16" and row.flash > 0]
    fewer = [replace(r, precision="int4", error=1e-3, flash=-r.flash // 4, blocked=True) for r in products]
    assert any(row.precision == "fp16" and row.flash == 0 for row in measured)
    monkeypatch.setattr(mixed, "measure", lambda *_: [*measured, *fewer])
    asked = ("--precision", "mixed", "--budget", "drop=100", "--choices", "int8,int4,fp16", "--dev", dev)
    found = cli("compile", small.folder(), *asked, "--target", "host", "--json", "-o", tmp_path / "mixed")
    assert found.status == 0, found.err
    assert json.loads((tmp_path / "mixed" / "plan.json").read_text())["measured"]["blocked"] is True
    assert any(o["kernel"].startswith("row_block") for o in found.json["operators"])
    chosen = found.json["plan"]["operators"]
    smaller = {row.operator for row in fewer}
    assert {name for name, precision in chosen.items() if precision == "int4"} == smaller
    assert "int4" not in {precision for name, precision in chosen.items() if name not in smaller}


def test_what_cannot_be_kept_is_refused(cli, tmp_path, dev, measured, monkeypatch):
    monkeypatch.setattr(mixed, "measure", lambda *_: [row for row in measured if row.precision == "int8"])
    options = ("--precision", "mixed", "--dev", dev, "--target", "host", "-o", tmp_path / "p")
    result = cli("compile", small.folder(), "--budget", "flash=1k", "--choices", "int8", *options)
    assert result.status == 1
    assert "no plan fits flash=1024" in result.err
    assert not (tmp_path / "p").exists()
    assert cli("compile", small.folder(), *options).status == 2
    for choices, message in (("int8,int5", "precision int5 is not known"), ("int4", "int8 must be among them")):
        result = cli("compile", small.folder(), "--budget", "drop=1", "--choices", choices, *options)
        assert (result.status, message in result.err) == (2, True)
