"""`embbert-tvm firmware`: an image in every format, and what flashes it."""

from __future__ import annotations

import os
import struct

import pytest
import small
from toy import write_package

from embbert_tvm.data.files import write_atomically
from embbert_tvm.device import firmware
from embbert_tvm.device.elf import Piece, flat, loaded
from embbert_tvm.device.uf2 import uf2
from embbert_tvm.errors import WorkError
from embbert_tvm.target import known_boards, load_board

FLASHABLE = [name for name in known_boards() if load_board(name).flash]


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Toy packages by CPU."""
    made = {}

    def package(cpu: str):
        if cpu not in made:
            made[cpu] = write_package(tmp_path_factory.mktemp(cpu) / "package", cpu)
        return made[cpu]

    return package


def records(text: str) -> dict[int, int]:
    """Bytes by address of an Intel HEX file, whose checksums must be right."""
    found, base = {}, 0
    for line in text.splitlines():
        data = bytes.fromhex(line.removeprefix(":"))
        assert line[0] == ":"
        assert sum(data) % 256 == 0
        count, offset, kind = data[0], int.from_bytes(data[1:3], "big"), data[3]
        if kind == 4:
            base = int.from_bytes(data[4:6], "big") << 16
        elif kind == 0:
            found |= {base + offset + i: byte for i, byte in enumerate(data[4 : 4 + count])}
    return found


@pytest.mark.parametrize("name", ["nucleo_h743zi2", "nrf5340dk", "raspberry_pi_pico2", "rp2350_riscv"])
def test_every_format_holds_the_same_bytes(cli, packages, tmp_path, name):
    board = load_board(name)
    result = cli("firmware", packages(board.cpu), "--board", name, "-o", tmp_path / "fw", "--json")
    assert (result.status, result.err) == (0, "")
    files = result.json["files"]
    assert set(files) == {"elf", "map", "hex", "bin"} | ({"uf2"} if board.uf2_family else set())
    pieces = loaded(tmp_path / "fw/firmware.elf")
    first = board.region("flash").origin
    assert pieces[0].address == first
    image = (tmp_path / "fw/firmware.bin").read_bytes()
    assert image == flat(pieces)
    assert result.json["flash_bytes"] == sum(len(piece.data) for piece in pieces)
    in_hex = records((tmp_path / "fw/firmware.hex").read_text())
    assert all(image[at - first] == byte for at, byte in in_hex.items())
    assert len(in_hex) == result.json["flash_bytes"]
    for command in result.json["flash_commands"]:
        assert str(tmp_path / "fw/firmware.") in command
    if board.uf2_family:
        blocks = [*struct.iter_unpack("<IIIIIIII476sI", (tmp_path / "fw/firmware.uf2").read_bytes())]
        assert [block[5] for block in blocks] == list(range(len(blocks)))
        for magic, second, flags, at, size, _, count, family, data, end in blocks:
            assert (magic, second, end) == (0x0A324655, 0x9E5D5157, 0x0AB16F30)
            assert (flags, size, count, family) == (0x2000, 256, len(blocks), board.uf2_family)
            there = image[at - first : at - first + 256]
            assert data[: len(there)] == there


def test_the_image_profiles_and_says_its_clock(cli, packages, tmp_path):
    """What is made for a board runs in QEMU's model of it: the same sources, by another clock."""
    from embbert_tvm.device.firmware import make_firmware
    from embbert_tvm.device.package import load_package
    from embbert_tvm.device.places import open_place

    package, board = load_package(packages("cortex-m4")), load_board("netduinoplus2")
    made = make_firmware(package, board, tmp_path / "fw")
    assert b"embbert_step" not in made.files["bin"].read_bytes()
    assert "embbert_step" in made.files["map"].read_text()
    with open_place("qemu:netduinoplus2", package, flags=("-DEMBBERT_PROFILE=2",)) as device:
        assert device.holds.clock_hz == board.clock_hz
        assert len(device.profile([1, 2, 3])) == 2


@pytest.mark.parametrize(
    ("board", "message"),
    [
        ("esp32c3", "esp32c3 has a rv32imc, the package was compiled for cortex-m7"),
        ("ek_ra8m1", "ek_ra8m1 has a cortex-m85"),
        ("none", "unknown board 'none'"),
        (None, "was compiled for cortex-m7, not for a board: give --board"),
    ],
)
def test_what_makes_no_image_is_refused(cli, packages, tmp_path, board, message):
    options = ("--board", board) if board else ()
    result = cli("firmware", packages("cortex-m7"), *options, "-o", tmp_path / "fw")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert message in result.err
    assert not (tmp_path / "fw").exists()


def test_the_same_package_gives_the_same_files(cli, packages, tmp_path):
    for name in ("one", "two"):
        package = small.copy_of_package(packages("cortex-m4"), tmp_path / f"package-{name}")
        assert cli("firmware", package, "--board", "nrf52840dk", "-o", tmp_path / name).status == 0
    for path in (tmp_path / "one").iterdir():
        assert path.suffix == ".elf" or path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("there", [False, True])
def test_a_disk_that_is_full_midway_leaves_whole_files(there, cli, packages, tmp_path, monkeypatch):
    """None where there was no folder; the old ones or the new ones in one that was there."""
    written, out = [], tmp_path / "fw"
    if there:
        out.mkdir()
        (out / "mine").write_text("mine")

    def write(path, content):
        if len(written) == 2:
            raise WorkError(f"{path}: cannot be written (No space left on device)")
        written.append(path.name)
        write_atomically(path, content)

    monkeypatch.setattr(firmware, "write_atomically", write)
    result = cli("firmware", packages("cortex-m4"), "--board", "nrf52840dk", "-o", out)
    assert (result.status, result.err.count("\n")) == (1, 1)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == (sorted([*written, "mine"]) * there)


def test_a_file_in_the_place_of_the_folder_is_refused(cli, packages, tmp_path):
    (tmp_path / "fw").write_text("mine")
    result = cli("firmware", packages("cortex-m4"), "--board", "nrf52840dk", "-o", tmp_path / "fw")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "fw: is a file: name a folder" in result.err
    assert (tmp_path / "fw").read_text() == "mine"


def test_a_board_that_a_framework_serves_names_the_template(cli, packages, tmp_path):
    result = cli("firmware", packages("rv32imc"), "--board", "esp32c3", "-o", tmp_path / "fw")
    assert result.status == 2
    assert "esp-idf builds its firmware: `embbert-tvm project" in result.err


def test_flash_runs_what_is_installed(cli, packages, tmp_path, monkeypatch):
    """The second of three tools is there; its arguments survive blanks in the path."""
    tools, out = tmp_path / "tools", tmp_path / "my firmware"
    tools.mkdir()
    (tools / "openocd").write_text(f'#!/bin/sh\nfor a; do echo "$a"; done >"{tmp_path}/said"\n')
    (tools / "openocd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    result = cli("firmware", packages("cortex-m4"), "--board", "nucleo_f446re", "-o", out, "--flash", "--json")
    assert (result.status, result.err) == (0, "")
    assert result.json["flashed_by"].startswith("openocd -f board/st_nucleo_f4.cfg")
    said = (tmp_path / "said").read_text()
    assert said.splitlines()[:2] == ["-f", "board/st_nucleo_f4.cfg"]
    assert f"program {{{out / 'firmware.elf'}}} verify reset exit" in said.splitlines()


def test_a_tool_that_fails_and_no_tool_at_all(cli, packages, tmp_path, monkeypatch):
    arguments = ("firmware", packages("cortex-m4"), "--board", "nrf52840dk", "-o", tmp_path / "fw", "--flash")
    result = cli(*arguments)
    assert result.status == 2
    assert "nothing that flashes nrf52840dk is installed: it takes one of nrfjprog, openocd" in result.err
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nrfjprog").write_text("#!/bin/sh\necho no emulator >&2\nexit 41\n")
    (tools / "nrfjprog").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    result = cli(*arguments)
    assert (result.status, result.err.count("\n")) == (1, 1)
    assert "failed with status 41: no emulator: is the board connected?" in result.err


def test_gaps_are_filled_as_erased_flash_is():
    pieces = [Piece(0x100, b"ab"), Piece(0x105, b"c")]
    assert flat(pieces) == b"ab\xff\xff\xffc"
    (block,) = struct.iter_unpack("<IIIIIIII476sI", uf2(pieces, 1))
    assert block[3:5] == (0x100, 256)
    assert block[8][:256] == b"ab\xff\xff\xffc" + b"\xff" * 250


@pytest.mark.parametrize("name", FLASHABLE)
def test_commands_name_files_that_are_made(name):
    board = load_board(name)
    made = {"elf", "hex", "bin"} | ({"uf2"} if board.uf2_family else set())
    for command in board.flash:
        assert any("{" + kind + "}" in command for kind in made) or board.framework
