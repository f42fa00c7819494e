"""Instruction counts of QEMU: exact, repeatable, past the 24 bits of SysTick."""

from __future__ import annotations

import pytest
from toy import LOOP

from embbert_tvm.device.footprint import footprint
from embbert_tvm.device.places import open_place
from embbert_tvm.target import load_board, load_cpu


@pytest.fixture(scope="module")
def device(toy):
    with open_place("qemu", toy) as opened:
        yield opened


def loop(device, factor: int, shift: int) -> int:
    """Instructions of a run with a loop of 2 * (factor << shift) instructions, without the rest of the run."""
    return device.run([LOOP, factor, shift]).instructions - device.run([LOOP, 1, 0]).instructions


def test_a_loop_of_two_million_instructions_counts_within_a_tick(device):
    assert loop(device, 500, 11) == pytest.approx(
        2 * (500 << 11), abs=load_board("mps2_an500").qemu.instructions_per_tick
    )


def test_the_same_work_counts_the_same(device):
    assert len({device.run([LOOP, 123, 5]).instructions for _ in range(10)}) == 1


def test_another_start_counts_the_same(device, toy):
    with open_place("qemu", toy) as other:
        assert other.run([LOOP, 321, 7]).instructions == device.run([LOOP, 321, 7]).instructions


@pytest.mark.parametrize("factor", [640, 641])  # SysTick wraps at 671,088,640 instructions, 640 << 20
def test_counts_past_the_wrap_of_systick(device, factor):
    expected = factor << 20
    # Each wrap costs the interrupt that counts it.
    assert loop(device, factor, 19) == pytest.approx(expected, abs=200)


def test_stack_is_measured(device):
    assert 0 < device.run([3]).stack < 1024


def test_the_stack_in_use_stays_below_what_footprint_says(device, toy):
    cpu = load_cpu("cortex-m7")
    server = 128  # main() and what it keeps over a run
    assert device.run([5, 6]).stack <= footprint(toy, cpu).stack + server
