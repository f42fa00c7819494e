"""Running an image of candidates (bench.py) in some place: QEMU, a board at a serial port, or one of a farm (farm.py).

This file needs neither TVM nor torch: a bench machine serves a board with it.
"""

from __future__ import annotations

import shlex
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embbert_tvm.device import protocol
from embbert_tvm.device.device import Link
from embbert_tvm.device.qemu import start_qemu
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.target import Board

TRIAL = 0x10
TIMEOUT = 30.0  # seconds that a trial may take
_START_ATTEMPTS = 8  # a board that was just flashed may not listen yet
_REPLY = struct.Struct("<IIQ")


@dataclass(frozen=True)
class Reading:
    """What came of a trial. error: why there is no figure: it was wrong, crashed, hung, or its place was lost.
    lost: whether the place was, so that the candidate may be as good as another."""

    instructions: int | None = None
    cycles: int | None = None
    error: str | None = None
    lost: bool = False


class Session(Protocol):
    """An image at work."""

    def run(self, number: int) -> Reading: ...
    def close(self) -> None: ...


class Place(Protocol):
    """Where images run. `open` raises WorkError where it cannot."""

    name: str

    def open(self, image: Path) -> Session: ...


class LinkSession:
    """Trials over the protocol."""

    def __init__(self, link: Link, instructions_per_tick: float | None, timeout: float, attempts: int = 1) -> None:
        self._link, self._rate, self._timeout, self._attempts = link, instructions_per_tick, timeout, attempts
        self._reader = protocol.FrameReader(256)
        self._sequence = 0
        self.broken = False  # nothing more can be had from it

    def run(self, number: int) -> Reading:
        self._sequence += 1
        payload = number.to_bytes(2, "little")
        packed = protocol.pack(protocol.Frame(TRIAL, self._sequence % 65536, payload))
        try:
            for attempt in range(self._attempts):
                self._link.write(packed)
                wait = self._timeout if attempt == self._attempts - 1 else min(self._timeout, 2.0 + attempt)
                reading = self._reply(packed[-4:], time.monotonic() + wait)
                if reading is not None:
                    self._attempts = 1 if self._rate is not None else self._attempts
                    return reading
        except WorkError as error:
            self.broken = True
            return Reading(error=str(error), lost=True)
        self.broken = True
        return Reading(error=f"did not end in {self._timeout:g} s")

    def _reply(self, asked: bytes, deadline: float) -> Reading | None:
        while data := self._link.read(deadline):
            for frame in self._reader.feed(data):
                if frame.type == protocol.ERROR and frame.payload[4:5] == bytes([protocol.ERROR_FAULT]):
                    self.broken = True
                    return Reading(error=f"crashed: {protocol.describe_error(frame.payload[4:])}")
                if frame.payload[:4] != asked:
                    continue
                if frame.type == protocol.ERROR:
                    return Reading(error=protocol.describe_error(frame.payload[4:]))
                return self._read(frame.payload[4:])
        return None

    def _read(self, payload: bytes) -> Reading:
        wrong, cycles, ticks = _REPLY.unpack(payload)
        if wrong:
            return Reading(error=f"{wrong} elements are wrong")
        if self._rate is not None:
            return Reading(instructions=round(ticks * self._rate))
        return Reading(cycles=cycles or ticks)

    def close(self) -> None:
        self._link.close()


def find_qemu(board: Board) -> str:
    """The path of the QEMU that emulates a board; InputError where there is none."""
    if board.qemu is None:
        raise InputError(f"QEMU does not emulate {board.name}: its board file has no qemu section")
    program = shutil.which(board.qemu.program)
    if program is None:
        raise InputError(f"{board.qemu.program} is not installed: `apt-get install {board.qemu.package}`, or make demo")
    return program


@dataclass(frozen=True)
class QemuPlace:
    """QEMU's model of a board; each image boots anew, and instructions are counted exactly."""

    board: Board
    timeout: float = TIMEOUT
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"qemu:{self.board.name}"

    def open(self, image: Path) -> LinkSession:
        program, qemu = find_qemu(self.board), self.board.qemu
        assert qemu is not None
        command = [program, "-M", qemu.machine, *qemu.options, "-display", "none", "-monitor", "none"]
        link = start_qemu([*command, "-serial", "stdio", "-kernel", str(image), *self.options], qemu.machine)
        return LinkSession(link, qemu.instructions_per_tick, self.timeout, 4 if qemu.drops_input_until_enabled else 1)


@dataclass(frozen=True)
class SerialPlace:
    """A board at a serial port, PORT or PORT@BAUD, which counts cycles. flash: the command that puts an image on it,
    with {image} for the path of the ELF file."""

    where: str
    flash: str
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        """InputError for a command that is none, or puts nothing on the board."""
        try:
            parts = shlex.split(self.flash)
        except ValueError as error:
            raise InputError(f"--flash {self.flash}: is not a command line ({str(error).lower()})") from error
        if not any("{image}" in part for part in parts):
            raise InputError(f"--flash {self.flash!r}: has no {{image}}, the place of the file to put on the board")

    @property
    def name(self) -> str:
        return f"serial:{self.where}"

    def open(self, image: Path) -> LinkSession:
        from embbert_tvm.device.serial_port import SerialLink, split

        command = [part.replace("{image}", str(image)) for part in shlex.split(self.flash)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"--flash: {command[0]} cannot be run ({error})") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise WorkError(f"--flash: {command[0]} failed: {said[-1] if said else done.returncode}")
        port, baud = split(self.where)
        return LinkSession(SerialLink(port, baud), None, self.timeout, _START_ATTEMPTS)


def measure(place: Place, image: Path, numbers: Sequence[int]) -> Iterator[tuple[int, Reading]]:
    """The reading of each candidate of an image. After one that crashes or hangs the image is started again."""
    session: Session | None = None
    try:
        for number in numbers:
            if session is None:
                session = place.open(image)
            reading = session.run(number)
            yield number, reading
            if reading.error is not None:
                session.close()
                session = None
            if reading.lost:
                return
    finally:
        if session is not None:
            session.close()
