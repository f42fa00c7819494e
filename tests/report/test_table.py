"""Tables for people."""

from __future__ import annotations

from pathlib import Path

from embbert_tvm.api import CompileReport, Flash, Ram
from embbert_tvm.graph.quantize import KernelSelection
from embbert_tvm.report.compile import document, operators, text
from embbert_tvm.table import table


def test_columns_align_and_those_that_say_nothing_are_left_out():
    rows = [("name", "count", "note"), ("a", "1", ""), ("long name", "1,000", "")]
    assert table(rows, right=(1, 2)) == "name       count\na              1\nlong name  1,000"


def test_each_operator_has_its_kernel_and_the_reason():
    choice = KernelSelection("norm", "rms_norm", "float32", "no int8 kernel for it")
    report = CompileReport("host", None, "int8", 9, Flash(1, 2, 0), Ram(3, None, None), (choice,), ())
    head, row = operators(report).splitlines()
    assert head.split() == ["operator", "kernel", "precision", "why"]
    assert row.split(maxsplit=3) == ["norm", "rms_norm", "float32", "no int8 kernel for it"]


def test_a_sum_is_known_where_its_parts_are():
    report = CompileReport("host", None, "int8", 9, Flash(1, 2000, 0), Ram(3, None, None), (), ())
    assert document(report)["flash_bytes"] == {"code": 1, "weights": 2000, "tokenizer": 0, "total": 2001}
    assert document(report)["ram_bytes"] == {"arena": 3, "stack": None, "static": None, "total": None}
    assert "code 1 + weights 2,000 = 2,001 bytes" in text(report, Path("out"))
