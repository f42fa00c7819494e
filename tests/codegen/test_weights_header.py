"""The declarations of the weights: by operator, and what each constant is."""

from __future__ import annotations

import re

import small

from embbert_tvm.codegen.c_files import _ROLES


def test_every_constant_stands_under_its_operator_with_what_it_is():
    text = (small.package() / "codegen/host/src/embbert_weights.h").read_text()
    groups = re.findall(r"^/\* (\w+) \*/\n((?:extern .*\n)+)", text, re.MULTILINE)
    rows = [(owner, *row) for owner, body in groups for row in re.findall(r"embbert_(\w+)\[\d+\] (.*)", body)]
    assert len(rows) == text.count("extern ")
    for owner, name, rest in rows:
        suffix = name.removeprefix(f"{owner}_")
        assert _ROLES[suffix] in rest, name
    assert {"blocks_0_query", "head"} <= {owner for owner, _ in groups}
