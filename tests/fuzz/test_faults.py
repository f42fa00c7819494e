"""Writes that fail, by fuzz/faults.py: every third of two commands."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).resolve().parents[2] / "fuzz" / "faults.py"


def test_faults_leave_nothing_half_written():
    command = [sys.executable, str(FAULTS), "--command", "board,project", "--step", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, last = done.stdout.splitlines()
    count, faults, wrong, _ = last.replace(",", "").split()
    assert (faults, wrong) == ("faults", "0")
    assert int(count) >= 3


@pytest.mark.parametrize(
    ("status", "said", "after"),
    [
        (1, "embbert-tvm: unforeseen OSError", {}),
        (1, "", {}),
        (0, "", {"out/a": "old"}),
        (1, "embbert-tvm: x", {"out/a": "half"}),
        (1, "embbert-tvm: x", {"out/a": "old", ".out.new.0123abcd": "x"}),
        (-9, "embbert-tvm: x", {}),
    ],
)
def test_what_counts_as_wrong(status, said, after):
    spec = importlib.util.spec_from_file_location("faults", FAULTS)
    faults = importlib.util.module_from_spec(spec)
    sys.modules["faults"] = faults
    spec.loader.exec_module(faults)
    before, whole = {"out/a": "old"}, {"out/a": "new"}
    assert faults.complaint(status, said, before, after, whole)
    assert not faults.complaint(1, "embbert-tvm: x: cannot be written", before, before, whole)
    assert not faults.complaint(0, "", before, whole, whole)
    assert faults.complaint(1, "embbert-tvm: x", before, before | {".p": "1"}, whole)
    assert not faults.complaint(1, "embbert-tvm: x", before, before | {".p": "1"}, whole, r"\.p")
