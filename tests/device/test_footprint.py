"""Bytes that a package costs, read from what the linker made."""

from __future__ import annotations

import subprocess

import pytest

from embbert_tvm.device.build import build
from embbert_tvm.device.footprint import footprint
from embbert_tvm.target import load_board, load_cpu


@pytest.mark.parametrize("cpu", ["host", "cortex-m7"])
def test_footprint(toy, cpu):
    measured = footprint(toy, load_cpu(cpu))
    assert measured.weights == 12
    assert 100 < measured.code < 2000
    assert measured.stack > 256  # deep()'s row
    assert measured.stack_unknown == ()


def test_flash_and_ram_of_the_image_hold_the_package(toy):
    cpu, board = load_cpu("cortex-m7"), load_board("mps2_an500")
    elf = build(toy, cpu, board)
    printed = subprocess.run(["arm-none-eabi-size", "-A", "-d", elf], capture_output=True, text=True, check=True)
    lines = [line.split() for line in printed.stdout.splitlines() if line.startswith(".")]
    sections = {words[0]: int(words[1]) for words in lines}
    measured = footprint(toy, cpu)
    assert sections[".weights"] == measured.weights
    assert sections[".text"] > measured.code
    assert sections[".stack"] == board.stack_bytes
    assert sections[".bss"] >= toy.arena_bytes
