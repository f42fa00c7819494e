"""Counts as milliseconds and millijoules, and the patience that a device's clock and a text's length ask for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embbert_tvm.cycles.rules import RULES
from embbert_tvm.device.device import Device
from embbert_tvm.device.estimate import estimate
from embbert_tvm.device.package import StepRecord
from embbert_tvm.device.protocol import Info
from embbert_tvm.errors import InputError
from embbert_tvm.target import Power, known_cpus, load_board, load_cpu
from embbert_tvm.target_file import board_text

POWER = Power(milliamperes=6.3, at_hz=64_000_000, volts=3.0, source="the data sheet of nRF52840")
NRF = replace(load_board("nrf52840dk"), power=POWER)  # at 64 MHz
M4 = load_cpu("cortex-m4")


def test_instructions_are_an_estimate_that_names_what_it_assumes():
    how = estimate(NRF, M4)
    assert how.cycles_per_count == M4.cycles_per_instruction == 1.12
    assert how.milliseconds(64_000_000) == pytest.approx(1120)
    assert how.millijoules(64_000_000) == pytest.approx(1.12 * 6.3 * 3.0)
    for word in ("cortex-m4 at 64 MHz", "1.12 cycles an instruction", "no wait states", "not measured", "nRF52840"):
        assert word in how.assumptions


def test_cycles_of_a_board_are_taken_as_they_are_by_its_own_clock():
    how = estimate(NRF, M4, 32_000_000)
    assert how.milliseconds(32_000_000) == pytest.approx(1000)
    assert how.millijoules(32_000_000) == pytest.approx(6.3 / 2 * 3.0), "current goes with the clock"
    assert "not measured" not in how.assumptions


@pytest.mark.parametrize("name", [name for name in known_cpus() if name != "host"])
def test_every_core_has_an_estimate(name):
    cpu = load_cpu(name)
    assert cpu.cycles_per_instruction is not None
    assert 0.5 < cpu.cycles_per_instruction < 2
    assert set(cpu.pipelines) <= set(RULES)


def test_nothing_is_estimated_of_what_is_not_known():
    assert estimate(load_board("microbit"), replace(load_cpu("cortex-m0plus"), cycles_per_instruction=None)) is None
    assert estimate(load_board("nucleo_f446re"), M4).millijoules(1) is None


def test_profile_shows_time_and_energy_of_a_board(cli, toy_package):
    arguments = ("profile", toy_package, "--length", "4,16", "--board", "nucleo_h743zi2")
    result = cli(*arguments, "--json")
    assert (result.status, result.err) == (0, "")
    short, long = result.json["lengths"]
    rate = load_cpu("cortex-m7").cycles_per_instruction
    assert long["milliseconds"] == pytest.approx(long["total_instructions"] * rate / 400e3)
    assert (short["millijoules"], result.json["estimate"]["clock_hz"]) == (None, 400_000_000)
    shown = cli(*arguments).out
    assert "milliseconds" in shown
    assert "Estimate for nucleo_h743zi2: cortex-m7 at 400 MHz;" in shown
    refused = cli("profile", toy_package, "--length", "4", "--board", "nrf52840dk")
    assert (refused.status, "nrf52840dk has a cortex-m4" in refused.err) == (2, True)


def test_a_data_sheets_current_becomes_millijoules(cli, toy_package, tmp_path):
    """A board file that its owner filled in, from its text to the figure."""
    power = "power: {milliamperes: 100, at_hz: 200000000, volts: 3.3, source: a data sheet}\n"
    (tmp_path / "mine.yaml").write_text(board_text(load_board("nucleo_h743zi2")) + power)
    arguments = ("profile", toy_package, "--length", "4", "--board", tmp_path / "mine.yaml")
    (one,) = (found := cli(*arguments, "--json").json)["lengths"]
    assert one["millijoules"] == pytest.approx(one["milliseconds"] * 200e-3 * 3.3)  # twice the clock, twice the current
    assert "100 mA at 200 MHz, 3.3 V (a data sheet)" in found["estimate"]["assumptions"]
    shown = cli(*arguments).out
    assert "millijoules" in shown
    assert "(a data sheet)" in shown
    (tmp_path / "mine.yaml").write_text((tmp_path / "mine.yaml").read_text().replace("volts: 3.3, ", ""))
    refused = cli(*arguments)
    assert (refused.status, "volts" in refused.err) == (2, True)


class Silent:
    """A link over which nothing comes."""

    def write(self, data: bytes) -> None: ...
    def read(self, deadline: float) -> bytes:
        return b""

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("clock", "tokens", "seconds"),
    [
        (16_000_000, 1, 10 + (20 * 1_000_000 + 200_000) / 16e6),
        (16_000_000, 16, 10 + 16 * (20 * 1_000_000 + 200_000) / 16e6),
        (16_000_000, 5000, 10 + 16 * (20 * 1_000_000 + 200_000) / 16e6),  # max_length is 16
        (160_000_000, 16, 10 + 16 * (20 * 1_000_000 + 200_000) / 160e6),
        (0, 16, 10 + 16 * (20 * 1_000_000 + 200_000) / 4e6),
    ],
)
def test_patience_follows_clock_and_length(toy, clock, tokens, seconds):
    package = replace(toy, steps=(StepRecord("s", "k", (0, 1_000_000, 0)),))
    with Device(Silent(), package, "serial:x", None) as device:
        device.holds = Info(16, 3, 1000, 64, 0, 64, True, 0, clock)
        assert device.patience(tokens) == pytest.approx(seconds)
    with Device(Silent(), package, "serial:x", 2.5) as device:
        assert device.patience(tokens) == 2.5


@pytest.mark.parametrize("seconds", ["0", "-1", "soon"])
def test_a_timeout_is_a_positive_number(cli, toy_package, seconds):
    result = cli("run", toy_package, "play", "--timeout", seconds)
    assert (result.status, result.out) == (2, "")
    assert "--timeout" in result.err


def test_a_timeout_is_kept(cli, toy_package):
    """One in which no inference of QEMU's ends."""
    result = cli("run", toy_package, "play", "--on", "qemu", "--timeout", "0.000001")
    assert result.status == 1
    assert "did not answer in 1e-06 s" in result.err


def test_no_board_no_estimate(cli, toy_package):
    result = cli("profile", toy_package, "--length", "4", "--json")
    assert result.json["estimate"] is None
    assert result.json["lengths"][0]["milliseconds"] is None
    with pytest.raises(InputError, match="unknown board"):
        load_board("nowhere")
