"""The memory plan as text."""

from __future__ import annotations

import json

import small

from embbert_tvm.codegen.memory_report import memory_text
from embbert_tvm.codegen.plan import Allocation

TEXT = """\
Arena: 8 bytes for 4 tensors and workspaces in 3 steps.
Most live at once: 8 bytes, in step 1, conv.

address  the tensor that fills most of each place; . is free
      7 |.cc
      6 |.cc
      5 |.cc
      4 |.cc
      3 |aad
      2 |aad
      1 |aa.
      0 |.b.
   step  0

   offset  bytes  from  to  tensor    last used by
a       1      3     0   1  norm      conv
b       0      1     1   1  conv.row  conv
c       4      4     1   2  conv      logits
d       2      2     2   2  sum       logits
"""


def test_a_small_arena_is_drawn_to_scale():
    blocks = [
        Allocation("norm", 3, 0, 1, 1),
        Allocation("conv", 4, 1, 2, 4),
        Allocation("sum", 2, 2, 2, 2),
        Allocation("conv.row", 1, 1, 1, 0),
    ]
    assert memory_text(blocks, 8, ["norm", "conv", "logits"]) == TEXT


def test_a_large_arena_fits_a_terminal():
    blocks = [Allocation(f"tensor_{n}", 999, n, n + 3, 1024 * (n % 4)) for n in range(200)]
    lines = memory_text(blocks, 4096, [f"step_{n}" for n in range(203)]).splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert len(lines) == 2 + 1 + 1 + 24 + 1 + 1 + 1 + len(blocks)


def test_nothing_to_place_is_said():
    assert memory_text([], 0, []) == "Arena: 0 bytes for 0 tensors and workspaces in 0 steps.\n"


def test_every_tensor_of_a_package_is_in_its_table():
    arena = json.loads((small.package("int8") / "metadata.json").read_text())["arena"]
    blocks = [Allocation(t["name"], t["bytes"], t["first"], t["last"], t["offset"]) for t in arena["tensors"]]
    steps = [f"step_{n}" for n in range(max(b.last for b in blocks) + 1)]
    text = memory_text(blocks, arena["bytes"], steps)
    assert all(f"  {b.name}  " in text for b in blocks)
    assert text.isascii()
