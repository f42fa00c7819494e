"""A board behind a serial port: QEMU's UART on a pseudo-terminal, through a line that spoils what passes."""

from __future__ import annotations

import os
import pty
import random
import re
import subprocess
import sys
import threading
import time
import tty
from contextlib import closing, contextmanager

import pytest
from toy import LABELS, MAX_LENGTH, STEPS, logits, write_package

from embbert_tvm.device import protocol
from embbert_tvm.device.build import build
from embbert_tvm.device.device import Device, PlaceTraits
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.device.qemu import COUNTING
from embbert_tvm.device.serial_port import SerialLink
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.resources import resource
from embbert_tvm.target import load_cpu

sys.path.insert(0, str(resource("benchmarks")))

from noisy_line import FAULTS, PAUSE, BoardOnTerminal, NoisyLine


@contextmanager
def on_host(package):
    """The server on this machine, as (reads, writes)."""
    program = subprocess.Popen(
        [build(package, load_cpu("host"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    try:
        yield program.stdout.fileno(), program.stdin.fileno()
    finally:
        program.kill()
        program.communicate()


@contextmanager
def on_qemu(package, flags=(), options=()):
    with closing(BoardOnTerminal(package, flags, options)) as board:
        yield board.reads, board.writes


@contextmanager
def line_to(opened, seed=0):
    with opened as (reads, writes), closing(NoisyLine(reads, writes, seed=seed)) as line:
        yield line


@pytest.fixture(scope="module")
def board(toy):
    """A line without faults to the toy package on this machine."""
    with line_to(on_host(toy)) as line:
        yield line


@pytest.mark.parametrize(("place", "questions"), [(on_host, 120), (on_qemu, 60)])
def test_no_fault_of_the_line_makes_a_wrong_answer_or_a_hang(toy, place, questions):
    noise = random.Random(3)
    with line_to(place(toy), seed=4) as line:
        with Device(SerialLink(line.port), toy, "the board", 0.2, PlaceTraits(attempts=5)) as device:
            device.check()
            line.rate = 0.006
            right = failed = 0
            for _ in range(questions):
                ids = [noise.randrange(900) for _ in range(noise.randrange(1, MAX_LENGTH + 1))]
                start = time.monotonic()
                try:
                    found = device.run(ids).logits
                    assert list(found) == list(logits(ids))
                    right += 1
                except WorkError:
                    failed += 1
                assert time.monotonic() - start < 4
            line.rate = 0.0
            assert list(device.run([1, 2]).logits) == list(logits([1, 2]))
            assert device.retries > questions / 20
    assert right > 0.9 * questions
    assert right + failed == questions
    assert {way for way, _ in line.faults} == {"to", "from"}
    assert len(line.faults) > len(FAULTS)


@pytest.mark.parametrize("place", [on_host, on_qemu])
def test_a_device_survives_noise_alone(toy, place):
    noise = random.Random(5)
    with place(toy) as (reads, writes):
        for _ in range(40):
            os.write(writes, noise.choice([b"", b"\xeb\xb7", b"\xeb\xb7\x02\x02"]) + noise.randbytes(60))
        with closing(NoisyLine(reads, writes)) as line:
            with Device(SerialLink(line.port), toy, "the board", 5, PlaceTraits(attempts=4)) as device:
                assert list(device.run([1, 2]).logits) == list(logits([1, 2]))


@pytest.mark.parametrize("place", [on_host, on_qemu])
def test_half_a_frame_does_not_swallow_the_next(toy, place):
    with (
        line_to(place(toy)) as line,
        Device(SerialLink(line.port), toy, "the board", 5, PlaceTraits(attempts=4)) as device,
    ):
        device.check()
        for cut in (1, 9, 24):
            device._link.write(protocol.pack(protocol.Frame(protocol.RUN, 5, bytes(20)))[:-cut])
            time.sleep(2 * PAUSE)
            assert list(device.run([4]).logits) == list(logits([4]))


# ---- the commands ----


def test_run_and_profile_in_cycles(cli, toy, toy_package):
    with line_to(on_qemu(toy, (f"-DEMBBERT_PROFILE={len(STEPS)}",), COUNTING)) as board:
        check_run_and_profile(cli, board, toy_package)


def check_run_and_profile(cli, board, toy_package):
    ran = cli("run", toy_package, "--on", f"serial:{board.port}@115200", "--json", "play some music")
    assert (ran.status, ran.err) == (0, "")
    (result,) = ran.json["results"]
    assert result["label"] in LABELS
    assert result["instructions"] is None
    assert result["cycles"] > 0
    on_host = cli("run", toy_package, "--json", "play some music").json["results"][0]
    assert result["scores"] == on_host["scores"]
    profiled = cli("profile", toy_package, "--on", f"serial:{board.port}", "--length", "4,8", "--json")
    assert (profiled.status, profiled.err) == (0, "")
    for length in profiled.json["lengths"]:
        assert length["total_instructions"] is None
        assert length["total_cycles"] > 0
        assert all(layer["cycles"] >= 0 and layer["instructions"] is None for layer in length["layers"])
    shown = cli("profile", toy_package, "--on", f"serial:{board.port}", "--length", "4").out
    assert "cycles" in shown
    assert "QEMU" not in shown


def test_validate(cli, board, toy_package, tsv):
    result = cli("validate", toy_package, "--data", tsv, "--on", f"serial:{board.port}", "--json")
    assert (result.status, result.err) == (0, "")
    assert result.json["bit_exact"] == {"checked": 9, "equal": 9}


# ---- bad input ----


def test_a_port_that_is_not_there(cli, toy_package):
    result = cli("run", toy_package, "--on", "serial:/dev/ttyNONE9", "x")
    assert (result.status, result.out) == (2, "")
    assert re.fullmatch(
        r"embbert-tvm: serial port /dev/ttyNONE9: cannot be opened \(No such file or directory\): "
        r"(this machine has no serial port|ports of this machine are .*)\n",
        result.err,
    )


@pytest.mark.parametrize("where", ["x@fast", "@9600", "x@0", "x@"])
def test_a_baud_rate_that_is_none(toy, where):
    with pytest.raises(InputError, match=r"must be serial:PORT or serial:PORT@BAUD"):
        open_place(f"serial:{where}", toy)


@contextmanager
def terminal(answer=None):
    """A pseudo-terminal's name; `answer`: from what is read to what is written, None for silence."""
    master, slave = pty.openpty()
    tty.setraw(slave)

    def serve() -> None:
        try:
            while data := os.read(master, 4096):
                os.write(master, answer(data))
        except OSError:
            return

    if answer is not None:
        threading.Thread(target=serve, daemon=True).start()
    try:
        yield os.ttyname(slave), lambda: os.close(master)
    finally:
        os.close(slave)


def test_a_device_that_does_not_answer(cli, toy_package, monkeypatch):
    monkeypatch.setattr("embbert_tvm.device.device._START_TIMEOUT", 0.1)
    with terminal() as (name, _):
        result = cli("run", toy_package, "--on", f"serial:{name}@9600", "x")
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        f"embbert-tvm: serial:{name} did not answer in 0.1 s, asked 6 times: is the board powered, and does it run the "
        f"firmware of {toy_package} at 9600 baud?\n"
    )


def test_a_device_that_stops_answering(toy, board, monkeypatch):
    with open_place(f"serial:{board.port}", toy, timeout=0.2) as device:
        assert list(device.run([1]).logits) == list(logits([1]))
        board.rate, fate = 1.0, dict(FAULTS)
        monkeypatch.setitem(FAULTS, "rest lost", fate["rest lost"])
        for kind in fate:
            monkeypatch.setitem(FAULTS, kind, fate["rest lost"])
        with pytest.raises(WorkError, match=r"did not answer in 0\.2 s, asked 4 times"):
            device.run([1])
        board.rate = 0.0


def test_a_port_that_is_unplugged(toy):
    with terminal() as (name, unplug):
        link = SerialLink(name)
        unplug()
        with pytest.raises(WorkError, match=f"serial port {name} was lost .*still plugged in"):
            link.read(time.monotonic() + 5)
        link.close()


def test_a_firmware_of_another_version(cli, toy_package):
    def answer(data: bytes) -> bytes:
        return protocol.pack(protocol.Frame(protocol.ERROR, 0, b"\x04", version=9))

    with terminal(answer) as (name, _):
        result = cli("run", toy_package, "--on", f"serial:{name}", "x")
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        f"embbert-tvm: serial:{name} speaks version 9 of the protocol, this program 2: build its firmware anew with "
        "this version of embbert-tvm\n"
    )


def test_the_firmware_of_another_package(board, tmp_path):
    other = load_package(write_package(tmp_path / "p", hash="12345678"))
    message = r"holds another build of the model: hash 00c0ffee, .*/p has 12345678: put this package's firmware on it"
    with pytest.raises(WorkError, match=message):
        open_place(f"serial:{board.port}", other)
    larger = load_package(write_package(tmp_path / "q", max_length=15))
    with pytest.raises(WorkError, match=r"another model: \(max_length, classes, vocabulary\)"):
        open_place(f"serial:{board.port}", larger)


def test_a_firmware_that_measures_nothing(cli, toy, toy_package, board):
    result = cli("profile", toy_package, "--on", f"serial:{board.port}", "--length", "4")
    assert (result.status, result.out) == (1, "")
    assert "counts nothing: profile on qemu" in result.err
    with line_to(on_qemu(toy)) as line:
        result = cli("profile", toy_package, "--on", f"serial:{line.port}", "--length", "4")
    assert result.status == 1
    assert "does not measure steps: put one of `embbert-tvm firmware` on the board" in result.err
    assert f"or build yours with -DEMBBERT_PROFILE={len(STEPS)}" in result.err
