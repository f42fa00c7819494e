"""What start-ups and drivers write to registers, against tables of the reference manuals: addresses by peripheral and
offset, values by field; and the clocks and baud rates that follow from them by the manuals' formulas."""

from __future__ import annotations

import struct
from dataclasses import replace
from functools import cache

import pytest
from register_tables import EXPECTED, F1, F4, F7, H7, H7B, NRF53, RA8, RA8_BYTES, RP2350, U5
from registers import Account, account
from toy import write_package

from embbert_tvm.device.build import build
from embbert_tvm.device.elf import flat, loaded
from embbert_tvm.device.package import load_package
from embbert_tvm.target import known_boards, load_board, load_cpu

SERVED = [name for name in known_boards() if (board := load_board(name)).uart and board.uart.driver]
REAL = [name for name in SERVED if load_board(name).qemu is None or load_board(name).start]


def address(tables: dict, name: str) -> int:
    peripheral, register = name.split(".")
    base, offsets = tables[peripheral]
    return base + offsets[register]


@cache
def accounts(name: str) -> Account:
    tables, _, ready = EXPECTED[name]
    bits = {address(tables, key): value for key, value in ready.items()}
    if tables is RP2350:  # what is selected is what is requested
        return without_selected(name, bits)
    if tables is RA8:
        return without_acknowledged(name, bits)
    return account(load_board(name), bits)


def without_selected(name: str, bits: dict[int, int]) -> Account:
    """RP2350's CLK_*_SELECTED are one-hot and change on the way, so their waits are compared by themselves."""
    board = load_board(name)
    selected = {address(RP2350, f"CLOCKS.CLK_{clock}_SELECTED") for clock in ("REF", "SYS")}
    waits = [step for step in board.start if step.wait and step.address in selected]
    assert [(s.address, s.set) for s in waits] == [
        (address(RP2350, "CLOCKS.CLK_REF_SELECTED"), 1 << 2),
        (address(RP2350, "CLOCKS.CLK_SYS_SELECTED"), 1 << 0),
        (address(RP2350, "CLOCKS.CLK_SYS_SELECTED"), 1 << 1),
    ]
    kept = tuple(step for step in board.start if step not in waits)
    return account(replace(board, start=kept), bits)


def without_acknowledged(name: str, bits: dict[int, int]) -> Account:
    """RA8 acknowledges bits by others that fall again, so these waits are compared by themselves."""
    board = load_board(name)
    acknowledging = {address(RA8, "FCACHE.FCACHEIV"), address(RA8, "SYSTEM.SCICKCR")}
    waits = [step for step in board.start if step.wait and step.address in acknowledging]
    assert [(s.address, s.wait, s.set) for s in waits] == [
        (address(RA8, "FCACHE.FCACHEIV"), 1, 0),
        (address(RA8, "SYSTEM.SCICKCR"), 1 << 7, 1 << 7),  # CKSRDY: stopped, it may be changed
        (address(RA8, "SYSTEM.SCICKCR"), 1 << 7, 0),
    ]
    kept = tuple(step for step in board.start if step not in waits)
    return account(replace(board, start=kept), bits)


def test_every_board_that_is_no_model_of_qemus_is_in_the_tables():
    """All but those whose firmware a framework builds, clocks and UART included."""
    assert set(EXPECTED) == set(REAL)
    others = {name for name in known_boards() if not load_board(name).qemu} - set(EXPECTED)
    assert others == {"esp32c3", "esp32c6", "esp8266"}
    assert all(load_board(name).framework for name in others)


def test_registers_are_written_at_their_width():
    """RA8's registers of 8 and 16 bits ignore or refuse other accesses; all others here have 32 bits."""
    for name in EXPECTED:
        tables = EXPECTED[name][0]
        bytes_ = {}
        if tables is RA8:
            of_system = {f"SYSTEM.{register}": 1 for register in RA8["SYSTEM"][1]}
            bytes_ = {address(RA8, key): width for key, width in (of_system | RA8_BYTES).items()}
        assert {at: bytes_.get(at, 4) for at in accounts(name).widths} == {
            at: max(found) for at, found in accounts(name).widths.items()
        }
        assert all(len(found) == 1 for found in accounts(name).widths.values())


def test_high_clocks_get_time_to_settle():
    """Renesas asks for 150 us after each change to or from a high clock: a read takes a cycle of ICLK at least."""
    reads = {step.address: step.reads for step in load_board("ek_ra8m1").start if step.reads}
    assert set(reads) == {address(RA8, "SYSTEM.SCKSCR"), address(RA8, "SYSTEM.SCKDIVCR2")}
    assert all(count / 240e6 >= 150e-6 for count in reads.values())


@pytest.mark.parametrize("name", EXPECTED)
def test_registers_are_left_as_the_manual_asks(name):
    tables, values, ready = EXPECTED[name]
    found = accounts(name)
    # A step that sets bits writes back what else it read, so that ready bits are among them.
    known = {address(tables, key): value for key, value in ready.items()}
    expected = {address(tables, key): value for key, value in values.items()}
    pointers = {address(NRF53, f"UARTE0.{key}PTR") for key in ("RXD", "TXD")}
    left = {at: value & ~known.get(at, 0) for at, value in found.values.items() if at not in pointers}
    assert {f"{at:#x}": f"{v:#x}" for at, v in sorted(left.items())} == {
        f"{at:#x}": f"{v & ~known.get(at, 0):#x}" for at, v in sorted(expected.items())
    }
    assert found.clock_hz == load_board(name).clock_hz


@pytest.mark.parametrize("name", [name for name in EXPECTED if load_board(name).watchdog])
def test_the_watchdog_is_fed_by_what_reloads_it(name):
    tables, values, _ = EXPECTED[name]
    at = {"IWDG": "IWDG.KR", "WATCHDOG": "WATCHDOG.LOAD"}
    (fed,) = accounts(name).fed
    if "WDT" in tables:
        assert fed == (tables["WDT"][0] + 0x600, 0x6E524635)  # RR[0]
    else:
        key = next(key for peripheral, key in at.items() if peripheral in tables)
        assert fed == (address(tables, key), values[key])


STM32 = {name: row[0] for name, row in EXPECTED.items() if row[0] in (F1, F4, F7, H7, U5) and load_board(name).start}


@pytest.mark.parametrize("name", STM32)
def test_the_fields_come_to_the_clock_that_the_board_names(name):
    """By the formula of the PLL in the manual's chapter RCC, from the oscillator that it starts with."""
    tables, board = STM32[name], load_board(name)
    values = accounts(name).values
    if tables is F1:
        clock = 8_000_000 / 2 * ((values[address(tables, "RCC.CFGR")] >> 18 & 15) + 2)
    elif "PLLCKSELR" in tables["RCC"][1]:
        select, divide = (values[address(tables, f"RCC.{key}")] for key in ("PLLCKSELR", "PLL1DIVR"))
        clock = 64_000_000 / (select >> 4 & 63) * ((divide & 511) + 1) / ((divide >> 9 & 127) + 1)
        assert 192e6 <= clock * 2 <= 836e6  # the wide VCO
    elif "PLL1DIVR" in tables["RCC"][1]:
        configured, divide = (values[address(tables, f"RCC.{key}")] for key in ("PLL1CFGR", "PLL1DIVR"))
        clock = 4_000_000 / ((configured >> 8 & 15) + 1) * ((divide & 511) + 1) / ((divide >> 24 & 127) + 1)
    else:
        configured = values[address(tables, "RCC.PLLCFGR")]
        vco = 16_000_000 / (configured & 63) * (configured >> 6 & 511)
        assert 100e6 <= vco <= 432e6
        clock = vco / (2 * (configured >> 16 & 3) + 2)
    assert clock == board.clock_hz
    assert board.reset_clock_hz in (4_000_000, 8_000_000, 16_000_000, 64_000_000)


def test_the_pll_of_ra8_comes_to_the_clock_and_the_baud_rate():
    """20 MHz / 2 must lie within 6 and 12 MHz, the VCO within 640 and 1440, the SCI's clock at 120 at most."""
    values, board = accounts("ek_ra8m1").values, load_board("ek_ra8m1")
    configured, divide, bits = (values[address(RA8, key)] for key in ("SYSTEM.PLLCCR", "SYSTEM.PLLCCR2", "SCI9.CCR2"))
    reference = 20e6 / ((configured & 3) + 1)
    vco = reference * ((configured >> 8) + 1)
    assert 6e6 <= reference <= 12e6
    assert 640e6 <= vco <= 1440e6
    clock = vco / ((divide & 15) + 1)
    assert clock == board.clock_hz
    sci = clock / {0: 1, 1: 2, 2: 4}[values[address(RA8, "SYSTEM.SCICKDIVCR")]]
    assert sci == board.clock_hz / board.uart.clock_divider == 120e6
    assert sci / 8 / ((bits >> 8 & 255) + 1) == pytest.approx(115200, rel=0.005)


@pytest.mark.parametrize("name", [name for name in EXPECTED if EXPECTED[name][0] in (F1, F4, F7, H7, H7B, U5)])
def test_the_divisor_comes_to_115200_baud(name):
    tables, board = EXPECTED[name][0], load_board(name)
    values = accounts(name).values
    dividers = {base + offsets["BRR"] for key, (base, offsets) in tables.items() if key.startswith("USART")}
    (divisor,) = (value for at, value in values.items() if at in dividers)
    feeding = board.uart.clock_hz or board.clock_hz // board.uart.clock_divider
    assert feeding / divisor == pytest.approx(115200, rel=0.005)


def test_a_clock_that_does_not_start_is_given_up_and_said():
    """Without the PLL's ready bit the core stays at its reset clock, for which the baud rate is set."""
    board = load_board("netduinoplus2")
    found = account(board, {})
    assert found.clock_hz == board.reset_clock_hz == 16_000_000
    assert found.values[address(F4, "USART1.BRR")] == 139
    assert address(F4, "RCC.CFGR") not in found.values


@pytest.mark.parametrize(("name", "kind"), [("raspberry_pi_pico2", 0x1021), ("rp2350_riscv", 0x1101)])
def test_the_boot_rom_of_rp2350_finds_its_block(name, kind, tmp_path):
    """RP2350 Datasheet, chapter Bootrom: a loop of one block in the first 4 KB, an executable for its cores."""
    board = load_board(name)
    package = load_package(write_package(tmp_path / "p", board.cpu))
    image = flat(loaded(build(package, load_cpu(board.cpu), board)))
    at = image.index(struct.pack("<I", 0xFFFFDED3))
    assert at % 4 == 0
    assert at + 20 <= 4096
    words = struct.unpack_from("<5I", image, at)
    assert words == (0xFFFFDED3, kind << 16 | 1 << 8 | 0x42, 1 << 8 | 0xFF, 0, 0xAB123579)
