"""Budgets: how they are written, and that what is chosen keeps them."""

from __future__ import annotations

import json

import pytest
import small

from embbert_tvm.errors import InputError
from embbert_tvm.mixed import Budget, parse_budget


def test_a_budget_is_read():
    assert parse_budget("flash=300k, ram=64K,drop=0.5") == Budget(300 * 1024, 64 * 1024, 0.5)
    assert parse_budget("flash=1.5M") == Budget(1536 * 1024)


@pytest.mark.parametrize("text", ["flash", "flash=", "speed=3", "drop=1k", "flash=-3", "flash=1,flash=2", "drop=a"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(InputError, match="give flash=BYTES"):
        parse_budget(text)


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    path = tmp_path_factory.mktemp("dev") / "dev.tsv"
    rows = [f"{small.LABELS[n % 3]}\t{text}" for n, text in enumerate(small.TEXTS * 4)]
    path.write_text("\n".join(["label\ttext", *rows]) + "\n")
    return path


def test_the_most_accurate_plan_within_the_flash(cli, tmp_path, dev):
    """Between all in int8 and all in float there is a budget, and what is chosen keeps it."""
    options = ("--target", "host", "--json", "--max-length", "16")
    small_one = cli("compile", small.folder(), *options, "-o", tmp_path / "int8").json["flash_bytes"]["total"]
    large = cli("compile", small.folder(), "--precision", "fp16", *options, "-o", tmp_path / "fp16").json["flash_bytes"]
    limit = (small_one + large["total"]) // 2
    mixed = ("--precision", "mixed", "--budget", f"flash={limit}", "--dev", dev)
    found = cli("compile", small.folder(), *mixed, *options, "-o", tmp_path / "mixed")
    assert found.status == 0, found.err
    assert found.json["flash_bytes"]["total"] <= limit
    plan = json.loads((tmp_path / "mixed" / "plan.json").read_text())
    assert set(plan["operators"].values()) >= {"fp16"}
    measured = plan["measured"]
    assert 0 < measured["error"] < sum(row["error"] for row in measured["operators"] if row["scheme"] == "int8")
    assert {row["scheme"] for row in measured["operators"]} >= {"int8", "fp16"}
    assert all(row["error"] > 0 for row in measured["operators"] if row["scheme"] == "int8")
    again = cli(
        "compile", small.folder(), "--plan", tmp_path / "mixed" / "plan.json", *options, "-o", tmp_path / "again"
    )
    assert again.json["flash_bytes"] == found.json["flash_bytes"]


def test_what_cannot_be_kept_is_refused(cli, tmp_path, dev):
    options = ("--precision", "mixed", "--dev", dev, "--target", "host", "-o", tmp_path / "p")
    result = cli("compile", small.folder(), "--budget", "flash=1k", *options)
    assert result.status == 1
    assert "no plan fits flash=1024" in result.err
    assert not (tmp_path / "p").exists()
    assert cli("compile", small.folder(), *options).status == 2
