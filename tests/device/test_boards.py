"""Every board that QEMU emulates: it boots, gives the reference bits, counts exactly, notices what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest
from toy import DEEP, LOOP, MAX_LENGTH, logits, write_package

from embbert_tvm.device.package import load_package, load_vectors
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import WorkError
from embbert_tvm.target import known_boards, known_cpus, load_board, load_cpu

EMULATED = [name for name in known_boards() if load_board(name).qemu]


@pytest.fixture(scope="module", params=EMULATED)
def board(request):
    return load_board(request.param)


@pytest.fixture(scope="module")
def device(board, tmp_path_factory):
    folder = write_package(tmp_path_factory.mktemp(board.name) / "package", target=board.cpu)
    with open_place(f"qemu:{board.name}", load_package(folder), flags=("-Werror", "-pedantic")) as opened:
        yield opened


def test_the_cpus_that_the_kernels_are_made_for_are_emulated():
    emulated = {name for name in known_cpus() if load_cpu(name).emulation_board}
    cortex = {f"cortex-{m}" for m in ("m0plus", "m3", "m4", "m7", "m33", "m55", "m85")}
    assert emulated == cortex | {"rv32imc", "rv32imac", "lx106"}
    assert {load_cpu(name).emulation_board for name in emulated} <= set(EMULATED)


def count(device, factor, shift):
    """Of 2 * (factor << shift) instructions, without those around them."""
    return device.run([LOOP, factor, shift]).instructions - device.run([LOOP, 1, 0]).instructions


# A board, the ticks after which its SysTick wraps, and how often: on every board few ticks, and on the one whose clock
# is fastest all that the counter's 24 bits hold.
WRAPS = [(name, 2**16, (1, 16)) for name in EMULATED if load_board(name).cpu.startswith("cortex")]
WRAPS += [("netduinoplus2", 2**24, (1, 2))]


# Before those that keep an emulator open, which takes a processor while it waits.
@pytest.mark.parametrize(("name", "ticks", "often"), WRAPS)
def test_wraps_of_systick_are_counted(name, ticks, often, tmp_path):
    """Before the last wrap, about where it is, and behind it. Each costs the interrupt that counts it."""
    board = load_board(name)
    rate = board.qemu.instructions_per_tick
    package = load_package(write_package(tmp_path / "package", target=board.cpu))
    with open_place(f"qemu:{name}", package, flags=(f"-DPORT_SYSTICK_RELOAD={ticks - 1}u",)) as device:
        for wraps in often:
            half = int(wraps * ticks * rate / 2)
            shift = half.bit_length() - 9
            for factor in range((half >> shift) - 1, (half >> shift) + 2):
                room = max(2 * rate, 100) + 50 * wraps
                assert count(device, factor, shift) == pytest.approx(2 * (factor << shift), abs=room)


def test_gives_the_reference_bits(device):
    for vector in load_vectors(device.package):
        assert np.array_equal(device.run(vector.ids).logits.view("u4"), vector.logits.view("u4"))
    assert np.array_equal(device.run(range(MAX_LENGTH)).logits, logits(list(range(MAX_LENGTH))))
    assert device.info().counts


@pytest.mark.parametrize(("factor", "shift"), [(500, 11), (999, 10), (640, 15)])
def test_a_tick_is_as_many_instructions_as_the_board_says(device, board, factor, shift):
    """Two million instructions to 42 million."""
    counted = count(device, factor, shift)
    assert counted == pytest.approx(2 * (factor << shift), abs=max(2 * board.qemu.instructions_per_tick, 100))


def test_the_same_work_counts_the_same(device, board):
    """Xtensa's counter cannot be set to 0 at a tick: a count begins anywhere within one."""
    counts = [device.run([LOOP, 123, 5]).instructions for _ in range(3)]
    apart = board.qemu.instructions_per_tick if board.name == "qemu_lx106" else 0
    assert max(counts) - min(counts) <= apart


def test_the_stack_is_measured_and_its_end_guarded(board, device):
    assert 0 < device.run([3]).stack < board.stack_bytes
    with open_place(f"qemu:{board.name}", device.package, flags=("-Werror", "-pedantic")) as doomed:
        with pytest.raises(WorkError, match=r"stack ran over|faulted"):
            doomed.run([DEEP])
        assert 0 < doomed.run([3]).stack < board.stack_bytes, "the firmware begins anew after it has reported"
