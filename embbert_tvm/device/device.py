"""A device that answers: the one interface to every place, over the protocol."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Protocol

import numpy as np

from embbert_tvm.device import protocol
from embbert_tvm.device.package import Package
from embbert_tvm.errors import InputError, WorkError

_ATTEMPTS = 3  # of a request that arrives damaged
_INFO_TIMEOUT = 30.0  # seconds for a device to start and answer


class Link(Protocol):
    """Bytes to and from a device; `read` returns b"" at the deadline (of time.monotonic())."""

    def write(self, data: bytes) -> None: ...
    def read(self, deadline: float) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """Float32 logits (classes,); where the place can tell, the instructions of embbert_run() alone, and the
    bytes of stack that the firmware used at the deepest since its start."""

    logits: np.ndarray
    instructions: int | None
    stack: int | None


class Device:
    """A package at work in some place. Use it as a context manager: leaving ends what was started."""

    def __init__(
        self,
        link: Link,
        package: Package,
        place: str,
        timeout: float,
        instructions_per_tick: float | None = None,
    ) -> None:
        """`timeout` is the most seconds that one request may take."""
        self.place = place
        self.package = package
        self._link = link
        self._timeout = timeout
        self._instructions_per_tick = instructions_per_tick
        longest = max(64, 12 + 4 * package.classes, protocol.profile_bytes(len(package.steps)))
        self._reader = protocol.FrameReader(longest)
        self._sequence = 0

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._link.close()

    def info(self) -> protocol.Info:
        """What the device holds."""
        return protocol.unpack_info(self._request(protocol.INFO, b"", min(self._timeout, _INFO_TIMEOUT)))

    def check(self) -> None:
        """WorkError where the device holds another model than the package."""
        info = self.info()
        package = self.package
        found = (info.max_length, info.classes, info.vocabulary)
        expected = (package.max_length, package.classes, package.vocabulary)
        if found != expected:
            words = f"(max_length, classes, vocabulary) {found}, not {expected}"
            raise WorkError(f"{self.place} holds another model: {words}")

    def run(self, ids: Sequence[int]) -> RunResult:
        """Classify token ids; 1 to max_length of them, each in the vocabulary.

        WorkError where the device refuses, faults or does not answer in time.
        """
        reply = self._request(protocol.RUN, self._payload(ids), self._timeout)
        run = protocol.unpack_run(reply, self.package.classes)
        self._check_status(run.status)
        return RunResult(run.logits, self._instructions(run.ticks), run.stack or None)

    def profile(self, ids: Sequence[int]) -> list[int]:
        """Instructions of each step of the program, in a firmware that is built to tell (device/profile.py).

        Errors are those of `run`, and WorkError where the place counts no instructions.
        """
        if self._instructions_per_tick is None:
            raise WorkError(f"{self.place} counts no instructions: profile on qemu")
        steps = len(self.package.steps)
        reply = self._request(protocol.PROFILE, self._payload(ids), self._timeout)
        status, ticks = protocol.unpack_profile(reply, steps)
        self._check_status(status)
        ends = [self._instructions(end) for end in (0, *ticks)]
        return [end - start for start, end in pairwise(ends)]

    def _payload(self, ids: Sequence[int]) -> bytes:
        if not 1 <= len(ids) <= self.package.max_length:
            raise InputError(f"{len(ids)} token ids: the package takes 1 to {self.package.max_length}")
        if not all(0 <= i < 65536 for i in ids):
            raise InputError("a token id is negative or above 65535: use the package's own tokenizer")
        return protocol.pack_ids(list(ids))

    def _check_status(self, status: int) -> None:
        if status:
            raise WorkError(f"{self.place}: embbert_run gave {protocol.STATUS_NAMES.get(status, status)}")

    def _instructions(self, ticks: int) -> int | None:
        rate = self._instructions_per_tick
        return None if rate is None else round(ticks * rate)

    def _request(self, kind: int, payload: bytes, timeout: float) -> bytes:
        """The reply's payload; asked again where the request arrives damaged."""
        for _ in range(_ATTEMPTS):
            self._sequence = (self._sequence + 1) % 65536
            self._link.write(protocol.pack(protocol.Frame(kind, self._sequence, payload)))
            reply = self._reply(timeout)
            if reply.type == kind | protocol.REPLY:
                return reply.payload
            if reply.type != protocol.ERROR or reply.payload[:1] != bytes([protocol.ERROR_CRC]):
                break
        words = protocol.describe_error(reply.payload) if reply.type == protocol.ERROR else f"type {reply.type:#x}"
        raise WorkError(f"{self.place} answered with an error: {words}")

    def _reply(self, timeout: float) -> protocol.Frame:
        """The reply to the latest request, or the device's word that it faulted; older replies are dropped."""
        deadline = time.monotonic() + timeout
        while data := self._link.read(deadline):
            for frame in self._reader.feed(data):
                fault = frame.type == protocol.ERROR and frame.payload[:1] == bytes([protocol.ERROR_FAULT])
                if fault or frame.sequence == self._sequence:
                    return frame
        raise WorkError(f"{self.place} did not answer in {timeout:g} s and was stopped")
