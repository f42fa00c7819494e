"""Tables for people."""

from __future__ import annotations

from embbert_tvm.report.compile import operators
from embbert_tvm.report.table import table


def test_columns_align_and_those_that_say_nothing_are_left_out():
    rows = [("name", "count", "note"), ("a", "1", ""), ("long name", "1,000", "")]
    assert table(rows, right=(1, 2)) == "name       count\na              1\nlong name  1,000"


def test_each_operator_has_its_kernel_and_the_reason():
    choice = {"name": "norm", "kernel": "rms_norm", "precision": "float32", "reason": "no int8 kernel for it"}
    head, row = operators({"operators": [choice]}).splitlines()
    assert head.split() == ["operator", "kernel", "precision", "why"]
    assert row.split(maxsplit=3) == ["norm", "rms_norm", "float32", "no int8 kernel for it"]
