"""Frames between host and device, as docs/architecture.md states them; the other end is firmware/src/main.c.

A frame is `0xEB 0xB7 version(1) type(1) sequence(2) length(2) payload crc32(4)`, little-endian; the CRC is
zlib's and covers version to payload.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from embbert_tvm.errors import WorkError

SYNC = b"\xeb\xb7"
VERSION = 1
INFO, RUN, PROFILE, REPLY, ERROR = 0x01, 0x02, 0x03, 0x80, 0xFF
ERROR_CRC, ERROR_TYPE, ERROR_LENGTH, ERROR_VERSION, ERROR_FAULT, ERROR_STACK = range(1, 7)
ERROR_NAMES = {
    ERROR_CRC: "the request arrived damaged",
    ERROR_TYPE: "the request is of a type that it does not know",
    ERROR_LENGTH: "the request has a wrong length",
    ERROR_VERSION: "the protocol's version is another",
    ERROR_FAULT: "it faulted",
    ERROR_STACK: "its stack ran over: give the board file more stack_bytes",
}
# embbert_status_t by value; codegen/c_api.py writes it.
_STATUSES = ("OK", "E_ARGUMENT", "E_LENGTH", "E_TOKEN", "E_ARENA", "E_ALIGN", "E_INIT", "E_TOKENIZER", "E_WORD")
STATUS_NAMES = {value: f"EMBBERT_{name}" for value, name in enumerate(_STATUSES)}

_HEADER = struct.Struct("<2sBBHH")
_INFO = struct.Struct("<HHIIB")
_RUN = struct.Struct("<BxHQ")
_PROFILE = struct.Struct("<BxH")
OVERHEAD = _HEADER.size + 4  # bytes of a frame beside its payload


@dataclass(frozen=True)
class Frame:
    type: int
    sequence: int
    payload: bytes


@dataclass(frozen=True)
class Info:
    """What a device says of the model that it holds; `counts` tells whether it can count at all."""

    max_length: int
    classes: int
    vocabulary: int
    arena_bytes: int
    counts: bool


@dataclass(frozen=True)
class Run:
    """A RUN reply: embbert_status_t, the deepest stack so far in bytes (0 not known), ticks, float32 logits."""

    status: int
    stack: int
    ticks: int
    logits: np.ndarray


def pack(frame: Frame, version: int = VERSION) -> bytes:
    """A frame's bytes."""
    header = _HEADER.pack(SYNC, version, frame.type, frame.sequence, len(frame.payload))
    body = header[2:] + frame.payload
    return SYNC + body + struct.pack("<I", zlib.crc32(body))


class FrameReader:
    """Finds whole and right frames in bytes as they come, and skips what is none.

    A frame whose payload would be longer than `longest` is taken for noise.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes."""
        self._bytes += data
        while (start := self._bytes.find(SYNC)) >= 0:
            del self._bytes[:start]
            if len(self._bytes) < _HEADER.size:
                return
            _, version, kind, sequence, length = _HEADER.unpack_from(self._bytes)
            end = _HEADER.size + length
            if version == VERSION and length <= self._longest:
                if len(self._bytes) < end + 4:
                    return
                if zlib.crc32(self._bytes[2:end]) == int.from_bytes(self._bytes[end : end + 4], "little"):
                    payload = bytes(self._bytes[_HEADER.size : end])
                    del self._bytes[: end + 4]
                    yield Frame(kind, sequence, payload)
                    continue
            del self._bytes[:1]  # not a frame: the next may begin inside it
        del self._bytes[: max(0, len(self._bytes) - 1)]  # the last byte may be half of SYNC


def pack_ids(ids: list[int]) -> bytes:
    """RUN's payload; each id must be below 65536."""
    return np.asarray(ids, dtype="<u2").tobytes()


def unpack_info(payload: bytes) -> Info:
    if len(payload) != _INFO.size:
        raise WorkError(f"the device's INFO reply has {len(payload)} bytes, not {_INFO.size}: rebuild its firmware")
    max_length, classes, vocabulary, arena_bytes, ticks_are = _INFO.unpack(payload)
    return Info(max_length, classes, vocabulary, arena_bytes, ticks_are != 0)


def unpack_run(payload: bytes, classes: int) -> Run:
    if len(payload) != _RUN.size + 4 * classes:
        raise WorkError(f"the device's RUN reply has {len(payload)} bytes: its firmware holds another model")
    status, stack, ticks = _RUN.unpack_from(payload)
    return Run(status, stack, ticks, np.frombuffer(payload, "<f4", offset=_RUN.size).astype(np.float32))


def profile_bytes(steps: int) -> int:
    """The payload of a PROFILE reply."""
    return _PROFILE.size + 8 * steps


def unpack_profile(payload: bytes, steps: int) -> tuple[int, list[int]]:
    """(embbert_status_t, ticks from the start of embbert_run to the end of each step)."""
    if len(payload) != profile_bytes(steps) or _PROFILE.unpack_from(payload)[1] != steps:
        raise WorkError(f"the device's PROFILE reply has {len(payload)} bytes: its firmware holds another model")
    return _PROFILE.unpack_from(payload)[0], np.frombuffer(payload, "<u8", offset=_PROFILE.size).tolist()


def describe_error(payload: bytes) -> str:
    """An error reply in words."""
    code = payload[0] if payload else 0
    words = ERROR_NAMES.get(code, f"error {code}")
    if code == ERROR_FAULT and len(payload) == 9:
        status, address = struct.unpack_from("<II", payload, 1)
        words += f" at {address:#010x} (CFSR {status:#010x})"
    return words
