"""Blocks of eight rows, which read each weight once: the bits of blocks of four, work that can be counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from random_modules import random_module, write_package
from test_fuse_row_blocks import ids_of, two_heads, wide_module

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError
from embbert_tvm.kernels.forms import KernelForms
from embbert_tvm.kernels.isa import isa_of
from embbert_tvm.target import load_cpu

LENGTHS = (1, 3, 4, 5, 8, 9, 12, 16, 31, 70)


def eight(target: str):
    return isa_of(load_cpu(target).features, KernelForms(row_block=8))


@pytest.mark.parametrize(
    ("target", "place", "module"),
    [
        ("cortex-m7", "host", 0), ("cortex-m4", "host", 1), ("cortex-m3", "qemu", 1),
        ("cortex-m4", "qemu", wide_module), ("cortex-m7", "qemu", wide_module), ("cortex-m7", "qemu", two_heads),
    ],
)  # fmt: skip
def test_the_bits_are_those_of_four_rows(target, place, module, tmp_path):
    made = module() if callable(module) else random_module(module)
    run = llvm_runner(made.mod, optimized=False)
    package = load_package(write_package(made, target, tmp_path / "package", eight(target)))
    assert "_of8_" in "".join(path.read_text() for path in package.sources)
    with open_place(place, package) as device:
        for n in LENGTHS:
            assert device.run(ids_of(n)).logits.tobytes() == run(ids_of(n)).tobytes(), f"length {n}"


def test_the_work_is_counted(tmp_path):
    counted = {}
    for name, isa in (("four", None), ("eight", eight("cortex-m7"))):
        package = load_package(write_package(wide_module(), "cortex-m7", tmp_path / name, isa))
        counted[name] = [step["macs"] for step in package.metadata["steps"]]
    assert counted["four"] == counted["eight"]
    assert all(counted["eight"])


def test_helium_has_blocks_of_four():
    with pytest.raises(InputError, match=r"--row-block 8: blocks on this CPU have 4 rows"):
        eight("cortex-m55")
    with pytest.raises(InputError, match="4 or 8 rows"):
        isa_of(load_cpu("cortex-m7").features, KernelForms(row_block=6))
    assert replace(eight("cortex-m4"), together=1) == isa_of(load_cpu("cortex-m4").features)
