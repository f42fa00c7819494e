"""targets/*.yaml as they ship, and files that are wrong."""

from __future__ import annotations

import pytest
import yaml

from embbert_tvm.device.board_header import board_header
from embbert_tvm.device.build import FIRMWARE
from embbert_tvm.errors import InputError
from embbert_tvm.resources import resource
from embbert_tvm.target import known_boards, known_cpus, load_board, load_cpu


@pytest.mark.parametrize("name", known_cpus())
def test_cpus_that_ship(name):
    cpu = load_cpu(name)
    assert cpu.name == name
    if cpu.emulation_board is not None:
        emulated = load_cpu(load_board(cpu.emulation_board).cpu)
        assert (emulated.features, emulated.cflags) == (cpu.features, cpu.cflags)


@pytest.mark.parametrize("name", known_boards())
def test_boards_that_ship(name):
    board = load_board(name)
    assert board.name == name
    assert board.region("flash").kind == "flash"
    assert board.source
    assert board.uart or board.framework
    assert all(region.origin > 0 for region in board.regions("ram")), "data at 0 would have a null pointer"
    if board.uart and board.uart.driver:
        assert (FIRMWARE / "src" / board.uart.driver).is_file()


def test_the_boards_of_the_issue_ship():
    asked = """nucleo_h743zi2 stm32h7b3i_dk stm32f746g_disco portenta_h7 nucleo_f446re nrf52840dk nrf5340dk
    b_u585i_iot02a raspberry_pi_pico2 ek_ra8m1 mps3_an547 netduinoplus2 mps2_an386 mps2_an500"""
    assert set(asked.split()) <= set(known_boards())


def definitions(name: str, **options) -> dict[str, str]:
    """What board.h defines, by name, without what is BOARD_ of it."""
    text = board_header(load_board(name), **options).replace("\\\n", "")
    rows = [line.removeprefix("#define BOARD_") for line in text.splitlines() if line.startswith("#define BOARD_")]
    return dict(row.split(" ", 1) for row in rows)


def test_pins_are_given_to_the_driver():
    uart = {name: value for name, value in definitions("microbit").items() if name.startswith("UART")}
    assert uart["UART_BASE"] == "0x40002000u"
    assert (uart["UART_TX_PIN"], uart["UART_RX_PIN"]) == ("24u", "25u")
    assert definitions("mps2_an500")["UART_BASE"] == "0x40004000u"
    assert "UART_TX_PIN" not in definitions("mps2_an500")


def test_registers_to_set_are_given_to_the_start_up():
    found = definitions("nucleo_f446re")
    assert found["UART_BASE"] == "0x40004400u"
    assert found["UART_SETUP"].split("},")[0].strip() == "{0x40023830u, 0x0u, 0x1u, 0x0u"


def test_qemu_runs_at_the_full_clock_from_the_first_instruction():
    board = definitions("nucleo_f446re")
    assert (board["CLOCK_HZ"], board["RESET_CLOCK_HZ"]) == ("180000000u", "16000000u")
    assert definitions("nucleo_f446re", emulated=True)["RESET_CLOCK_HZ"] == "180000000u"


def test_unknown_names_list_the_known():
    with pytest.raises(InputError, match=r"unknown CPU 'z80': known are cortex-m0plus, .*, host"):
        load_cpu("z80")
    with pytest.raises(InputError, match=r"unknown board '\.\./x': known are .*mps2_an500"):
        load_board("../x")


def test_a_board_given_as_a_cpu_is_pointed_out():
    with pytest.raises(InputError, match=r"unknown CPU 'microbit': .*; it is one of the boards: --board microbit"):
        load_cpu("microbit")


@pytest.mark.parametrize(
    ("features", "closed"),
    [
        ([], ()),
        (["mve"], ("dsp", "mve")),
        (["fp16"], ("fpu", "fp16")),
        (["fp16", "mve"], ("dsp", "mve", "fpu", "fp16")),
        (["dual_issue"], ("dsp", "dual_issue")),
        (["fpu", "fpu"], ("fpu",)),
    ],
)
def test_features_bring_what_they_imply(tmp_path, features, closed):
    assert load_cpu(changed_cpu(tmp_path, features=features)).features == closed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": ["neon"]}, "features: unknown 'neon', known are dsp, mve, dual_issue, fpu, fp16"),
        ({"features": "dsp"}, "features: must be a list"),
        ({"arch": "z80"}, "arch: is 'z80', must be one of arm, riscv, xtensa, host"),
        ({"arch": "riscv", "features": ["mve"]}, "features: 'dsp' is of arm, not of riscv"),
        ({"library": "../x"}, "library: must be a plain name"),
        ({"libraries": "-lm"}, "libraries: must be a list"),
        ({"firmware": ["x.s"]}, "firmware: must name .c files"),
    ],
)
def test_malformed_cpus_name_file_and_key(tmp_path, change, message):
    path = changed_cpu(tmp_path, **change)
    with pytest.raises(InputError, match=message) as caught:
        load_cpu(path)
    assert path in str(caught.value)


def changed_cpu(tmp_path, **change):
    document = yaml.safe_load(resource("targets", "cpus", "cortex-m3.yaml").read_text()) | change
    path = tmp_path / "cpu.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def changed_board(tmp_path, change):
    document = yaml.safe_load(resource("targets", "boards", "mps2_an500.yaml").read_text())
    change(document)
    path = tmp_path / "board.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_a_path_is_read_as_it_is(tmp_path):
    path = changed_board(tmp_path, lambda d: d.update(name="mine", clock_hz=1000))
    assert (load_board(path).name, load_board(path).clock_hz) == ("mine", 1000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("clock_hz"), "clock_hz: is missing"),
        (lambda d: d.update(clock_hz="fast"), "clock_hz: must be a positive"),
        (lambda d: d.update(clock_hz=True), "clock_hz: must be a positive"),
        (lambda d: d.update(colour="red"), "colour: unknown key"),
        (lambda d: d.update(cpu="z80"), "cpu: unknown 'z80', known: .*cortex-m7, .*host"),
        (lambda d: d.update(cpu=["z80"]), "cpu: must be the name"),
        (lambda d: d.update(memory={}), "memory: must be a list"),
        (lambda d: d.update(memory=[]), "memory: has no flash"),
        (lambda d: d["memory"].pop(), "memory: has no ram region"),
        (lambda d: d["memory"][1].update(origin=16), "memory: FLASH and RAM overlap"),
        (lambda d: d["memory"][1].update(kind="rom"), r"memory\[1\]: kind: is 'rom'"),
        (lambda d: d["memory"][1].update(name="RAM; x"), r"memory\[1\]: name: must be"),
        (lambda d: d["memory"][1].update(bytes=2**32), r"memory\[1\]: bytes: .*beyond 32 bits"),
        (lambda d: d["memory"].append("x"), r"memory\[2\]: must be a mapping"),
        (lambda d: d.update(uart=[]), "uart: must be a mapping"),
        (lambda d: d["uart"].pop("type"), "uart: type: is missing"),
        (lambda d: d["uart"].update(type="a b"), "uart: type: must be a plain name"),
        (lambda d: d["uart"].update(clock_hz=0), "uart: clock_hz: must be a positive"),
        (lambda d: d["uart"].update(setup={}), "uart: setup: must be a list"),
        (
            lambda d: d["uart"].update(setup=[{"address": 2, "set": 1}]),
            r"uart: setup\[0\]: address: must be a multiple",
        ),
        (lambda d: d["uart"].update(setup=[{"address": 4}]), r"uart: setup\[0\]: set: is missing"),
        (lambda d: d.update(source=["x"]), "source: must be a string"),
        (lambda d: d.update(stack_bytes=2**22), "stack_bytes: is 4194304, the largest RAM has 4194304"),
        (lambda d: d["uart"].update(driver="../../x.c"), "uart: driver: must be a .c file"),
        (lambda d: d["uart"].update(tx_pin=-1), "uart: tx_pin: must be"),
        (lambda d: d.update(start=[{"address": 4, "set": 1}]), "start: needs reset_clock_hz"),
        (lambda d: d.update(start=[{"address": 4, "set": 3, "wait": 1}]), r"start\[0\]: wait: must cover the bits"),
        (lambda d: d.update(reset={"address": 4}), "reset: set: is missing"),
        (lambda d: d.update(watchdog={"seconds": 1, "start": [], "feed": []}), "watchdog: start: must not be empty"),
        (lambda d: d.update(image_block=[-1]), "image_block: must be 32-bit numbers"),
        (lambda d: d.update(power={"milliamperes": 1, "at_hz": 1, "volts": 3, "source": ""}), "power: source: must"),
        (lambda d: d.update(flash="openocd"), "flash: must be a list"),
        (lambda d: d["qemu"].update(options="-bios none"), "qemu: options: must be a list"),
        (lambda d: d["qemu"].update(instructions_per_tick=0), "qemu: instructions_per_tick: must be"),
        (
            lambda d: d["qemu"].update(drops_input_until_enabled=1),
            "qemu: drops_input_until_enabled: must be true or false",
        ),
        (lambda d: d["qemu"].update(machine="a,b=c"), "qemu: machine: must be"),
        (lambda d: d.update(stack_bytes=3), "stack_bytes: must be"),
    ],
)
def test_malformed_boards_name_file_and_key(tmp_path, change, message):
    path = changed_board(tmp_path, change)
    with pytest.raises(InputError, match=message) as caught:
        load_board(path)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"a: [", b"- a", b"", b"\xff\xfe\x00", b"!!python/object:os.system {}", b"a: b: c"]
)
def test_what_is_no_yaml_mapping(tmp_path, content):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    for load in (load_cpu, load_board):
        with pytest.raises(InputError, match=r"x\.yaml"):
            load(str(path))


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_cpu(str(tmp_path / "none.yaml"))
