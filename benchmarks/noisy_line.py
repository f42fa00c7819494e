"""A serial line that loses, repeats and changes bytes: a pseudo-terminal in front of a device."""

from __future__ import annotations

import os
import pty
import random
import re
import select
import threading
import time
import tty
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from embbert_tvm.device.link import ProcessLink
from embbert_tvm.device.package import Package
from embbert_tvm.device.qemu import emulation

PAUSE = 0.08  # seconds inside of a frame, more than a device waits


def _damage(noise: random.Random, byte: int) -> bytes:
    return bytes([byte ^ noise.randrange(1, 256)])


def _burst(noise: random.Random, byte: int) -> bytes:
    """Random bytes, or what begins like a frame of any length."""
    start = b"\xeb\xb7\x02" if noise.random() < 0.5 else b""
    return start + noise.randbytes(noise.randrange(1, 12)) + bytes([byte])


# What becomes of one byte; None: it and the rest of what came with it are lost.
FAULTS = {
    "dropped": lambda noise, byte: b"",
    "repeated": lambda noise, byte: bytes([byte, byte]),
    "changed": _damage,
    "noise before": _burst,
    "rest lost": lambda noise, byte: None,
    "paused": lambda noise, byte: bytes([byte]),
}


class NoisyLine:
    """Carries bytes between the pseudo-terminal `port` and a device's file descriptors, in a thread.

    rate: the share of bytes that meet a fault; it may be changed at any time. faults: how many of each there were, by
    (direction, kind), the direction being `to` or `from` the device.
    """

    def __init__(self, reads: int, writes: int, rate: float = 0.0, seed: int = 0) -> None:
        """reads, writes: what the device says comes from `reads`, what it is told goes to `writes`."""
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self.rate = rate
        self.faults: Counter[tuple[str, str]] = Counter()
        self._noise = random.Random(seed)
        self._ways = {self._master: (writes, "to"), reads: (self._master, "from")}
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.write(self._end, b"x")
        self._thread.join()
        for descriptor in (self._master, self._slave, self._ended, self._end):
            os.close(descriptor)

    def _carry(self) -> None:
        with suppress(OSError):  # the device has gone
            while True:
                ready, _, _ = select.select([*self._ways, self._ended], [], [])
                if self._ended in ready:
                    return
                for source in ready:
                    if not (data := os.read(source, 4096)):
                        return
                    self._pass_on(data, *self._ways[source])

    def _pass_on(self, data: bytes, target: int, direction: str) -> None:
        out = bytearray()
        for byte in data:
            if self._noise.random() >= self.rate:
                out.append(byte)
                continue
            kind = self._noise.choice(list(FAULTS))
            self.faults[direction, kind] += 1
            replaced = FAULTS[kind](self._noise, byte)
            if replaced is None:
                break
            out += replaced
            if kind == "paused":
                os.write(target, out)
                out.clear()
                time.sleep(PAUSE)
        os.write(target, out)


class BoardOnTerminal:
    """A package on the board that QEMU emulates, its UART on a pseudo-terminal: `reads` and `writes`.

    options: of QEMU; without COUNTING the board's clock is the real one, by which a short text may take no tick.
    """

    def __init__(self, package: Package, flags: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        _, command = emulation(package, flags=flags, serial="pty")
        self._link = ProcessLink([*command, *options], "QEMU")
        said = b""
        deadline = time.monotonic() + 30
        while not (found := re.search(rb"redirected to (/\S+) \(", said)):
            piece = self._link.read(deadline)
            if not piece:
                raise RuntimeError(f"QEMU names no pseudo-terminal: {said!r}")
            said += piece
        self.reads = self.writes = os.open(found[1], os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.reads)

    def close(self) -> None:
        os.close(self.reads)
        self._link.close()
