"""A device that answers: the one interface to every place, over the protocol."""

from __future__ import annotations

import math
import secrets
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

_INFO_TIMEOUT = 30.0  # seconds for a device to start and answer
_START_ATTEMPTS, _START_TIMEOUT = 6, 2.0  # where bytes may be lost: opening a serial port resets many a board
_DROPPED_TIMEOUT = 0.25  # where what comes before the firmware listens is lost, which is soon
# Of one request, where none is given: cores without multiplier or FPU take so many cycles, and what has no products
# (tables, the tokenizer, the line) some more; twice that is still patience.
_LEAST_PATIENCE = 10.0  # seconds
_CYCLES_A_PRODUCT, _CYCLES_A_PRODUCT_FLOATING, _CYCLES_A_TOKEN = 20, 400, 200_000
_SLOW_CLOCK_HZ = 4_000_000  # where the firmware does not tell its clock
_QUIET = 0.1  # seconds: what came damaged is not going to end when nothing has followed for that long


class Link(Protocol):
    """Bytes to and from a device; `read` returns b"" at the deadline (of time.monotonic())."""

    def write(self, data: bytes) -> None: ...
    def read(self, deadline: float) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """Float32 logits (classes,), of a model of tokens (tokens, classes); where the place can tell, the instructions or
    the cycles of embbert_run() alone, and the bytes of stack that the firmware used at the deepest since its start."""

    logits: np.ndarray
    instructions: int | None
    cycles: int | None
    stack: int | None


@dataclass(frozen=True)
class TextResult:
    """What the device said of a text: its run, the index of the label, how many tokens the model was given, and
    whether the text has more."""

    run: RunResult
    label: int
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class TagResult:
    """What the device said of a text, with the label's logits alone, and (begin, end, kind) of each slot: bytes of the
    text, and the number of the slot's name."""

    text: TextResult
    slots: list[tuple[int, int, int]]


@dataclass(frozen=True)
class Slices:
    """An inference in slices: how many there were, and the instructions, or where the place cannot tell them cycles, of
    the longest and of all."""

    count: int
    longest: int
    total: int
    logits: np.ndarray


@dataclass(frozen=True)
class PlaceTraits:
    """What is peculiar to a place.

    Args:
        instructions_per_tick: of its clock, None where ticks are cycles.
        attempts: how often a request is sent before the device is given up, 1 for a link that loses nothing.
        hint: what a user is asked then.
        drops_input_until_enabled: what is sent before the firmware listens is lost.
    """

    instructions_per_tick: float | None = None
    attempts: int = 1
    hint: str = ""
    drops_input_until_enabled: bool = False


PLAIN = PlaceTraits()


class Device:
    """A package at work in some place. Use it as a context manager: leaving ends what was started."""

    def __init__(
        self, link: Link, package: Package, place: str, timeout: float | None, traits: PlaceTraits = PLAIN
    ) -> None:
        """timeout: the most seconds that one request may take, None for as long as the device's clock and the text's
        length ask for."""
        self.place = place
        self.package = package
        self._link = link
        self._timeout = timeout
        self._instructions_per_tick = traits.instructions_per_tick
        self._attempts, self._hint = traits.attempts, f": {traits.hint}" * bool(traits.hint)
        self._id_bytes = protocol.id_bytes(package.vocabulary)
        logits = package.logits_of(package.max_length)
        longest = max(64, 20 + 4 * logits, 4 + protocol.profile_bytes(len(package.steps)))
        longest = max(longest, protocol.TRACE_BYTES + 16, 8 + self._id_bytes * package.max_length)
        self._reader = protocol.FrameReader(longest)
        # Zeros that end what a device without a clock may still hold of a request that came damaged.
        self._flush = bytes(2 * self._id_bytes * package.max_length + 8 + protocol.OVERHEAD)
        self._drops_input_until_enabled = traits.drops_input_until_enabled
        self._sequence = secrets.randbelow(65536)
        self.holds: protocol.Info | None = None
        self._restarted = False  # after a fault the firmware begins anew, and may not listen yet
        self.retries = 0  # requests that were sent again since the device was opened

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
        limit = min(self._timeout or _INFO_TIMEOUT, _INFO_TIMEOUT)
        if self._drops_input_until_enabled:
            reply = self._request(protocol.INFO, b"", _DROPPED_TIMEOUT, math.ceil(limit / _DROPPED_TIMEOUT))
        elif self._attempts == 1:
            reply = self._request(protocol.INFO, b"", limit)
        else:
            reply = self._request(protocol.INFO, b"", _START_TIMEOUT, _START_ATTEMPTS)
        return protocol.unpack_info(reply)

    def check(self) -> None:
        """Ask what the device `holds`; WorkError where that is another model than the package."""
        self.holds = info = self.info()
        package = self.package
        found = (info.max_length, info.classes, info.vocabulary)
        expected = (package.max_length, package.classes, package.vocabulary)
        if found != expected:
            words = f"(max_length, classes, vocabulary) {found}, not {expected}"
            raise WorkError(f"{self.place} holds another model: {words}")
        if info.hash != package.hash:
            words = f"hash {info.hash:08x}, {package.path} has {package.hash:08x}"
            raise WorkError(
                f"{self.place} holds another build of the model: {words}: put this package's firmware on it"
            )

    def run(self, ids: Sequence[int]) -> RunResult:
        """Classify token ids; 1 to max_length of them, each in the vocabulary.

        WorkError where the device refuses, faults or does not answer in time.
        """
        ids = self.package.filled(ids)
        reply = self._request(protocol.RUN, self._payload(ids), self.patience(len(ids)))
        run = protocol.unpack_run(reply, self.package.logits_of(len(ids)))
        self._check_status(run.status)
        instructions = self._instructions(run.ticks)
        cycles = run.ticks or None if instructions is None else None
        return RunResult(self.package.shaped(run.logits), instructions, cycles, run.stack or None)

    def takes(self, text: str, pair: str | None = None) -> bool:
        """Whether the device tokenizes by itself and has room for such a text."""
        if self.holds is None or not self.holds.features & protocol.FEATURE_TEXT:
            return False
        sizes = [len(part.encode()) for part in (text, pair) if part is not None]
        return protocol.texts_bytes(sizes) <= self.holds.payload

    def classify(self, text: str, pair: str | None = None) -> TextResult:
        """Classify a text that the device `takes`: tokenizer and model run there. Errors are those of `run`."""
        packed = _packed(text, pair)
        reply = self._request(protocol.TEXT, packed, self.patience(len(packed)))
        return self._text_result(protocol.unpack_text(reply, self.package.logits_of))

    def request(self, kind: int, payload: bytes) -> bytes:
        """The payload of the reply to a request about a text or nothing. Errors are those of `run`."""
        return self._request(kind, payload, self.patience(len(payload)))

    @property
    def can_tag(self) -> bool:
        """Whether it finds slots in texts by itself."""
        return self.holds is not None and bool(self.holds.features & protocol.FEATURE_TAG)

    def tag(self, text: str) -> TagResult:
        """Classify a text that the device `takes`, and find its slots: both run there. Errors are those of `run`."""
        packed = _packed(text, None)
        reply = self._request(protocol.TAG, packed, self.patience(len(packed)))
        found, slots = protocol.unpack_tag(reply, self.package.classes)
        return TagResult(self._text_result(found), slots)

    def _text_result(self, found: protocol.Text) -> TextResult:
        self._check_status(found.status)
        instructions = self._instructions(found.ticks)
        cycles = found.ticks or None if instructions is None else None
        run = RunResult(self.package.shaped(found.logits), instructions, cycles, found.stack or None)
        labels = self.package.classes + (self.package.rejection is not None)
        most = 65535 if self.package.streams else self.package.max_length
        if not (found.label < labels and 1 <= found.tokens <= most):
            words = f"label {found.label} of {found.tokens} tokens, which its model does not have"
            raise WorkError(f"{self.place} answered with {words}: build its firmware anew")
        return TextResult(run, found.label, found.tokens, found.truncated)

    def tokenize(self, text: str, pair: str | None = None) -> list[int]:
        """The token ids that the device makes of a text that it `takes`."""
        packed = _packed(text, pair)
        reply = self._request(protocol.TOKENIZE, packed, self.patience(len(packed)))
        status, _, ids = protocol.unpack_tokenize(reply, self._id_bytes)
        self._check_status(status)
        return ids

    @property
    def can_trace(self) -> bool:
        """Whether its firmware is built to show what each step makes."""
        return self.holds is not None and bool(self.holds.features & protocol.FEATURE_TRACE)

    def digests(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """(bytes, CRC) of what each output of the package's program is, in a firmware that is built to trace."""
        packed = protocol.pack_trace(protocol.EVERY, 0, self._payload(ids))
        reply = self._request(protocol.TRACE, packed, self.patience(len(ids)))
        status, found = protocol.unpack_digests(reply, len(self.package.outputs))
        self._check_status(status)
        return found

    def output(self, number: int, ids: Sequence[int]) -> np.ndarray:
        """An output of the program, flat; one run of the model for every protocol.TRACE_BYTES of it."""
        payload, found, total = self._payload(ids), b"", 1
        while len(found) < total:
            packed = protocol.pack_trace(number, len(found), payload)
            reply = self._request(protocol.TRACE, packed, self.patience(len(ids)))
            status, total, piece = protocol.unpack_piece(reply)
            self._check_status(status)
            if not piece:
                raise WorkError(f"{self.place}: its firmware has no output {number}: build it anew")
            found += piece
        return np.frombuffer(found, np.dtype(self.package.outputs[number].dtype).newbyteorder("<"))

    def self_test(self, ids: Sequence[int]) -> protocol.SelfTest:
        """Run token ids twice over an arena full of different bytes; errors are those of `run`."""
        result = protocol.unpack_self_test(
            self._request(protocol.SELF_TEST, self._payload(ids), 2 * self.patience(len(ids)))
        )
        self._check_status(result.status)
        return result

    def slices(self, ids: Sequence[int], budget: int = 0) -> Slices:
        """Run token ids by embbert_begin_ids() and embbert_continue(), `budget` multiplications a slice, about. Errors
        are those of `run`."""
        payload = protocol.pack_budget(budget) + self._payload(ids)
        reply = self._request(protocol.SLICES, payload, 2 * self.patience(len(ids)))
        status, count, longest, ticks, logits = protocol.unpack_slices(reply, self.package.logits_of(len(ids)))
        self._check_status(status)
        rate = self._instructions_per_tick or 1
        return Slices(count, round(longest * rate), round(ticks * rate), self.package.shaped(logits))

    def profile(self, ids: Sequence[int]) -> list[int]:
        """Instructions, or where the place cannot tell them cycles, of each step of the program, in a firmware that is
        built to count them (device/profile.py). Errors are those of `run`.
        """
        steps = len(self.package.steps)
        reply = self._request(protocol.PROFILE, self._payload(ids), self.patience(len(ids)))
        status, ticks = protocol.unpack_profile(reply, steps)
        self._check_status(status)
        rate = self._instructions_per_tick or 1
        ends = [round(end * rate) for end in (0, *ticks)]
        return [end - start for start, end in pairwise(ends)]

    def patience(self, tokens: int) -> float:
        """Seconds that a request about a text of so many tokens, or fewer, may take."""
        if self._timeout is not None:
            return self._timeout
        tokens = min(tokens, self.package.max_length)
        products = sum(step.macs_at(tokens) or 0 for step in self.package.steps)
        rate = _CYCLES_A_PRODUCT_FLOATING if self.package.floating else _CYCLES_A_PRODUCT
        cycles = products * rate + tokens * _CYCLES_A_TOKEN
        clock = self.holds.clock_hz if self.holds is not None else 0
        return _LEAST_PATIENCE + cycles / (clock or _SLOW_CLOCK_HZ)

    def _payload(self, ids: Sequence[int]) -> bytes:
        if not self.package.min_length <= len(ids) <= self.package.max_length:
            some = f"{self.package.min_length} to {self.package.max_length}"
            raise InputError(f"{len(ids)} token ids: the package takes {some}")
        most = 256**self._id_bytes
        if not all(0 <= i < most for i in ids):
            raise InputError(f"a token id is negative or above {most - 1}: use the package's own tokenizer")
        return protocol.pack_ids(list(ids), self._id_bytes)

    def _check_status(self, status: int) -> None:
        if status:
            raise WorkError(f"{self.place}: embbert_run gave {protocol.STATUS_NAMES.get(status, status)}")

    def _instructions(self, ticks: int) -> int | None:
        rate = self._instructions_per_tick
        return None if rate is None else round(ticks * rate)

    def _request(self, kind: int, payload: bytes, timeout: float, attempts: int | None = None) -> bytes:
        """The reply's payload. What the link may have lost or damaged is asked again, under the same number."""
        if self._restarted:
            self._restarted = False
            if self._drops_input_until_enabled:
                self.info()
            else:
                self._request(protocol.INFO, b"", _START_TIMEOUT, _START_ATTEMPTS)
        self._sequence = (self._sequence + 1) % 65536
        packed = protocol.pack(protocol.Frame(kind, self._sequence, payload))
        attempts, trouble = attempts or self._attempts, ""
        for attempt in range(attempts):
            if attempt:
                self.retries += 1
                self._reader.reset()
                if self.holds is None or not self.holds.counts:
                    self._link.write(self._flush)
            self._link.write(packed)
            reply = self._reply(packed[-4:], timeout)
            if isinstance(reply, str):
                trouble = reply
            elif reply.type == kind | protocol.REPLY:
                return reply.payload[4:]
            else:
                self._restarted = protocol.ends_in_restart(reply.payload[4:])
                raise WorkError(f"{self.place} answered with an error: {protocol.describe_error(reply.payload[4:])}")
        raise WorkError(f"{self.place} {trouble}{f', asked {attempts} times{self._hint}' if attempts > 1 else ''}")

    def _reply(self, asked: bytes, timeout: float) -> protocol.Frame | str:
        """The reply to the request of CRC `asked`, or the device's word that it faulted; or what went wrong on the way.

        Replies to other requests are dropped.
        """
        deadline = time.monotonic() + timeout
        while True:
            patience = time.monotonic() + _QUIET if self._attempts > 1 and self._reader.noise else deadline
            data = self._link.read(min(patience, deadline))
            if not data:
                return (
                    f"did not answer in {timeout:g} s" if not self._reader.noise else "gave an answer that is damaged"
                )
            for frame in self._reader.feed(data):
                if (found := self._sorted(frame, asked)) is not None:
                    return found

    def _sorted(self, frame: protocol.Frame, asked: bytes) -> protocol.Frame | str | None:
        """What a frame means to who asked; None where it means nothing."""
        if frame.version != protocol.VERSION:
            raise WorkError(
                f"{self.place} speaks version {frame.version} of the protocol, this program {protocol.VERSION}: "
                "build its firmware anew with this version of embbert-tvm"
            )
        if frame.type == protocol.ERROR and frame.payload[4:5] == bytes([protocol.ERROR_FAULT]):
            return frame
        if frame.sequence != self._sequence:
            return None
        if frame.payload[:4] == asked:
            return frame
        if frame.type == protocol.ERROR and frame.payload[:4] == bytes(4):
            return f"answered with an error: {protocol.describe_error(frame.payload[4:])}"
        return None


def _packed(text: str, pair: str | None) -> bytes:
    return protocol.pack_texts(text.encode(), None if pair is None else pair.encode())
