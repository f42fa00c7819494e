"""Whether a package fits a board, and where its data go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy import HEADER, write_package

from embbert_tvm.device.fit import Need, Places, check_fit, missing, places, weights_region
from embbert_tvm.device.linker import memory_script
from embbert_tvm.device.package import load_package, load_vectors
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.target import load_board
from embbert_tvm.target_file import DataSheet, board_text, new_board

F405 = load_board("netduinoplus2")
SRAM, CCM = F405.regions("ram")


@pytest.mark.parametrize(
    ("arena", "data", "expected"),
    [
        (73_728, 4_096, Places(SRAM, SRAM)),
        (131_072 - 4_096, 4_096, Places(SRAM, SRAM)),
        (131_072, 4_096, Places(CCM, SRAM)),
        (65_536, 131_072, Places(SRAM, CCM)),
        (131_073, 0, None),
        (131_072, 65_537, None),
    ],
)
def test_one_region_or_two(arena, data, expected):
    assert places(F405, arena, data) == expected


# Drawing is slow where other work has the processors.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(5000, 50_000), min_size=1, max_size=4), st.integers(1, 60_000), st.integers(1, 60_000))
def test_places_hold_what_they_are_given(sizes, arena, data):
    board = new_board("b", DataSheet("cortex-m4", ["1M"], [f"{n}" for n in sizes], "80MHz", "8"))
    found = places(board, arena, data)
    apart = any(
        arena <= a and data <= d for i, a in enumerate(sizes) for j, d in enumerate(sizes) if i != j
    )  # fmt: skip
    assert (found is not None) == (apart or arena + data <= max(sizes))
    if found is not None:
        shared = found.data == found.arena
        assert found.arena.bytes >= arena + (data if shared else 0)
        assert found.data.bytes >= data
    assert (missing(board, Need(1, arena, data)) == []) == (found is not None)


@pytest.mark.parametrize(
    ("flash", "weights", "code", "region", "words"),
    [
        (["512k", "2M"], 393_216, 131_072, 0, []),
        (["512k", "2M"], 393_217, 131_072, 1, []),
        (["512k", "2M"], 500_000, 524_289, 1, ["FLASH (524,288 bytes) is 1 bytes too small for code"]),
        (["512k", "256k"], 400_000, 124_289, 0, ["FLASH (524,288 bytes) is 1 bytes too small for code and weights"]),
        (["512k"], 524_288 - 1000, 1000, 0, []),
    ],
)
def test_weights_that_leave_code_no_room_go_apart(flash, weights, code, region, words):
    board = new_board("b", DataSheet("cortex-m4", flash, ["64k"], "80MHz", "8"))
    where = board.regions("flash")[region]
    assert weights_region(board, weights) == where
    found = missing(board, Need(weights + code, 8, 8, weights))
    assert [word.rsplit(" (", 1)[0] for word in found] == words
    script = memory_script(board, 8, 8, weights)
    assert f".weights : {{ *(.rodata*) . = ALIGN(4); }} > {where.name}" in script


@given(st.integers(1, 400), st.integers(1, 1000), st.integers(0, 3000))
def test_the_longest_length_that_fits_is_named(length, slope, base):
    board = new_board("b", DataSheet("cortex-m4", ["64k"], ["64k"], "80MHz", "8"))

    def need_at(n: int) -> Need:
        return Need(1000, base + slope * n, 8)

    longest = max((n for n in range(401) if base + slope * n + 8 <= 65536), default=0)
    if length <= longest:
        check_fit(board, need_at(length), length, need_at)
        return
    with pytest.raises(WorkError, match=rf"; --max-length {longest} is the longest that fits$"):
        check_fit(board, need_at(length), length, need_at)


def test_the_missing_bytes_are_named():
    words = missing(F405, Need(2**20 + 5, 131_072 + 7, 4_096))
    assert words == [
        "FLASH (1,048,576 bytes) is 5 bytes too small for code and weights (1,048,581 bytes)",
        "SRAM (131,072 bytes) is 7 bytes too small for the arena (131,079 bytes)",
    ]
    with pytest.raises(WorkError, match=r"does not fit netduinoplus2: FLASH .* no --max-length fits"):
        check_fit(F405, Need(2**20 + 5, 9, 9), 8, lambda n: Need(2**20 + 1, n, 9))


def test_a_firmware_whose_arena_needs_a_region_of_its_own(tmp_path):
    """RAM of 8 KB beside one of 100 KB that the arena fills but for 2,400 bytes, in what QEMU has as one."""
    folder = write_package(tmp_path / "p", "cortex-m4", arena={"bytes": 100_000, "align": 16, "tensors": []})
    header = folder / "codegen/host/include/embbert.h"
    header.write_text(HEADER.replace("ARENA_BYTES 64u", "ARENA_BYTES 100000u"))
    text = board_text(F405)
    start, end = text.index("  - {name: SRAM"), text.index("stack_bytes")
    rows = [f"  - {{name: {n}, kind: ram, origin: {o:#x}, bytes: {b}}}" for n, o, b in (
        ("BIG", 0x20002000, 102_400), ("SMALL", 0x20000000, 8192))]  # fmt: skip
    (tmp_path / "apart.yaml").write_text(text[:start] + "\n".join(rows) + "\n" + text[end:])
    package = load_package(folder)
    with open_place(f"qemu:{tmp_path / 'apart.yaml'}", package) as device:
        for vector in load_vectors(package):
            assert np.array_equal(device.run(vector.ids).logits.view("u4"), vector.logits.view("u4"))
    (script,) = folder.glob("build/*/*/link.ld")
    assert ".arena (NOLOAD) : { *(.bss.embbert_arena) } > BIG" in script.read_text()


def test_a_board_without_a_driver_says_so(tmp_path):
    package = load_package(write_package(tmp_path / "p", "cortex-m85"))
    with pytest.raises(InputError, match="QEMU does not emulate ek_ra8m1"):
        open_place("qemu:ek_ra8m1", package)
    from embbert_tvm.device.build import build
    from embbert_tvm.target import load_cpu

    board = load_board("ek_ra8m1")
    with pytest.raises(InputError, match="ek_ra8m1: its board file names no driver for its serial port"):
        build(package, load_cpu("cortex-m85"), replace(board, uart=replace(board.uart, driver=None)))


def test_a_request_that_comes_before_the_firmware_listens_is_asked_again(tmp_path):
    """As on QEMU's STM32, whose USART drops it."""
    from embbert_tvm.device.device import Device, PlaceTraits
    from embbert_tvm.device.host import open_host

    package = load_package(write_package(tmp_path / "p", "host"))

    class Deaf:
        """Passes on what is written after the first request."""

        def __init__(self, link) -> None:
            self.link, self.heard = link, False

        def write(self, data: bytes) -> None:
            if self.heard:
                self.link.write(data)
            self.heard = True

        def read(self, deadline: float) -> bytes:
            return self.link.read(deadline)

        def close(self) -> None:
            self.link.close()

    with Device(
        Deaf(open_host(package)._link), package, "deaf", 12.0, PlaceTraits(drops_input_until_enabled=True)
    ) as device:
        device.check()
        assert device.retries == 1
