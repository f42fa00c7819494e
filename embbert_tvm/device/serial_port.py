"""A package on a board behind a serial port. What is on the board stays there: nothing is compiled or flashed."""

from __future__ import annotations

import os
import time

import serial
from serial.tools.list_ports import comports

from embbert_tvm.device.device import Device, PlaceTraits
from embbert_tvm.device.package import Package
from embbert_tvm.errors import InputError, WorkError

BAUD = 115200
WRITE_TIMEOUT = 10.0
ATTEMPTS = 4
_POLL = 0.05  # seconds


class SerialLink:
    """A serial port, 8N1. Bytes that came before it was opened are dropped."""

    def __init__(self, port: str, baud: int = BAUD) -> None:
        """InputError where there is no such port, or none that can be had at this speed."""
        self._port = port
        try:
            self._serial = serial.Serial(port, baud, timeout=_POLL, write_timeout=WRITE_TIMEOUT)
            self._serial.reset_input_buffer()
        except (OSError, ValueError) as error:  # serial.SerialException is an OSError
            raise InputError(f"serial port {port}: cannot be opened ({_reason(error)}): {_advice()}") from error

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except OSError as error:
            raise self._lost(error) from error

    def read(self, deadline: float) -> bytes:
        """What has come, at least one byte; b"" once `deadline` (of time.monotonic()) has passed."""
        try:
            while True:
                if data := bytes(self._serial.read(1)):
                    return data + bytes(self._serial.read(self._serial.in_waiting))
                if time.monotonic() >= deadline:
                    return b""
        except OSError as error:
            raise self._lost(error) from error

    def close(self) -> None:
        self._serial.close()

    def _lost(self, error: OSError) -> WorkError:
        return WorkError(f"serial port {self._port} was lost ({_reason(error)}): is the board still plugged in?")


def open_serial(package: Package, where: str, timeout: float | None = None) -> Device:
    """The device at `where`, PORT or PORT@BAUD. timeout: seconds a request; None for what its clock asks for."""
    port, baud = split(where)
    return Device(
        SerialLink(port, baud),
        package,
        f"serial:{port}",
        timeout,
        PlaceTraits(
            attempts=ATTEMPTS,
            hint=f"is the board powered, and does it run the firmware of {package.path} at {baud} baud?",
        ),
    )


def split(where: str) -> tuple[str, int]:
    port, at, baud = where.rpartition("@")
    if not at:
        return where, BAUD
    if not port or not baud.isascii() or not baud.isdigit() or not int(baud):
        raise InputError(f"serial:{where}: must be serial:PORT or serial:PORT@BAUD, as serial:/dev/ttyACM0@115200")
    return port, int(baud)


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error).splitlines()[0]


def _advice() -> str:
    ports = sorted(port.device for port in comports())
    return f"ports of this machine are {', '.join(ports)}" if ports else "this machine has no serial port"
