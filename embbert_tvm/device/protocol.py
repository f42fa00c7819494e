"""Frames between host and device, as docs/protocol.md states them; the other end is firmware/src/frames.c.

A frame is `0xEB 0xB7 version(1) type(1) sequence(2) length(2) payload crc32(4)`, little-endian; the CRC is
zlib's and covers version to payload. A reply's payload begins with the CRC of the request that it answers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.errors import WorkError

SYNC = b"\xeb\xb7"
VERSION = 2
INFO, RUN, PROFILE, TEXT, SELF_TEST, TOKENIZE, TRACE, SLICES, TAG, EXAMPLES = range(1, 11)
REPLY, ERROR = 0x80, 0xFF
ERROR_DAMAGED, ERROR_TYPE, ERROR_LENGTH, ERROR_VERSION, ERROR_FAULT, ERROR_STACK = range(1, 7)
ERROR_NAMES = {
    ERROR_DAMAGED: "the request arrived damaged",
    ERROR_TYPE: "the request is of a type that it does not know",
    ERROR_LENGTH: "the request has a wrong length",
    ERROR_VERSION: "the protocol's version is another",
    ERROR_FAULT: "it faulted",
    ERROR_STACK: "its stack ran over: give the board file more stack_bytes",
}
# embbert_status_t by value; codegen/c_api.py writes it.
_STATUSES = (
    "OK",
    "E_ARGUMENT",
    "E_LENGTH",
    "E_TOKEN",
    "E_ARENA",
    "E_ALIGN",
    "E_INIT",
    "E_TOKENIZER",
    "E_WORD",
    "E_DAMAGED",
    "MORE",
    "E_BEGIN",
    "E_MAGIC",
    "E_VERSION",
    "E_LAYOUT",
    "E_SIZE",
)
STATUS_NAMES = {value: f"EMBBERT_{name}" for value, name in enumerate(_STATUSES)}
FEATURE_TEXT, FEATURE_PROFILE, FEATURE_TRACE, FEATURE_OF_TOKENS, FEATURE_SLICES, FEATURE_TAG = 1, 2, 4, 8, 16, 32
FEATURE_EXAMPLES = 64
EVERY = 0xFFFF  # TRACE: not one output but the CRC of each
TRACE_BYTES = 16384  # of an output, the most in a reply

_HEADER = struct.Struct("<2sBBHH")
_CRC = struct.Struct("<I")
_INFO = struct.Struct("<HHIIIHBB")
_CLOCK = struct.Struct("<I")  # what INFO ends with since firmware tells it
_RUN = struct.Struct("<BxHQ")
_PROFILE = struct.Struct("<BxH")
_SLICES = struct.Struct("<BxxxIQQ")
_TEXT = struct.Struct("<BBHQHH")
_TAG = struct.Struct("<BBHQHHH")
_TOKENIZE = struct.Struct("<BBH")
_TEXTS = struct.Struct("<BxH")
_TRACE = struct.Struct("<HxxI")
_SELF_TEST = struct.Struct("<BBxxIII")
OVERHEAD = _HEADER.size + _CRC.size  # bytes of a frame beside its payload


@dataclass(frozen=True)
class Frame:
    type: int
    sequence: int
    payload: bytes
    version: int = VERSION


@dataclass(frozen=True)
class Info:
    """What a device says of the model that it holds. payload: the longest that it takes; `counts` tells whether it
    can count at all; features: FEATURE_* bits; clock_hz: the processor's, 0 where the firmware does not tell."""

    max_length: int
    classes: int
    vocabulary: int
    arena_bytes: int
    hash: int
    payload: int
    counts: bool
    features: int
    clock_hz: int = 0


@dataclass(frozen=True)
class Run:
    """A RUN reply: embbert_status_t, the deepest stack so far in bytes (0 not known), ticks, float32 logits."""

    status: int
    stack: int
    ticks: int
    logits: np.ndarray


@dataclass(frozen=True)
class Text:
    """A TEXT reply: as RUN's, with the label's index, the tokens that the model was given, whether the text was cut."""

    status: int
    truncated: bool
    stack: int
    ticks: int
    label: int
    tokens: int
    logits: np.ndarray


@dataclass(frozen=True)
class SelfTest:
    """A SELF_TEST reply: two runs of the same ids over an arena full of different bytes, and the package's own checks.

    stack and arena: the most that was used, in bytes (stack 0: not known); logits_crc: zlib's CRC of the logits' bytes.
    memory_intact: the CRC of weights and tables is that of the package; answer_known: its known answer is given.
    """

    status: int
    same_logits: bool
    guards_intact: bool
    stack: int
    arena: int
    logits_crc: int
    memory_intact: bool = True
    answer_known: bool = True


def pack(frame: Frame) -> bytes:
    """A frame's bytes; its CRC is the last four."""
    header = _HEADER.pack(SYNC, frame.version, frame.type, frame.sequence, len(frame.payload))
    body = header[2:] + frame.payload
    return SYNC + body + _CRC.pack(zlib.crc32(body))


def reply_to(request: bytes, kind: int, sequence: int, payload: bytes) -> bytes:
    """The bytes of a reply to a packed request."""
    return pack(Frame(kind, sequence, request[-4:] + payload))


class FrameReader:
    """Finds whole and right frames in bytes as they come, and skips what is none.

    A frame whose payload would be longer than `longest` is taken for noise. Frames of every version are found: their
    layout is the same. `noise` tells whether bytes have come since the last whole frame that are none so far.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._bytes = bytearray()
        self._skipped = 0

    @property
    def noise(self) -> bool:
        return bool(self._skipped or self._bytes)

    def reset(self) -> None:
        """Forget the beginning of a frame that will not end."""
        self._bytes.clear()
        self._skipped = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes."""
        self._bytes += data
        while (start := self._bytes.find(SYNC)) >= 0:
            self._skip(start)
            if len(self._bytes) < _HEADER.size:
                return
            _, version, kind, sequence, length = _HEADER.unpack_from(self._bytes)
            end = _HEADER.size + length
            if length <= self._longest:
                if len(self._bytes) < end + 4:
                    return
                if zlib.crc32(self._bytes[2:end]) == int.from_bytes(self._bytes[end : end + 4], "little"):
                    payload = bytes(self._bytes[_HEADER.size : end])
                    del self._bytes[: end + 4]
                    self._skipped = 0
                    yield Frame(kind, sequence, payload, version)
                    continue
            self._skip(1)  # not a frame: the next may begin inside it
        self._skip(len(self._bytes) - self._bytes.endswith(SYNC[:1]))

    def _skip(self, count: int) -> None:
        self._skipped += count
        del self._bytes[:count]


def id_bytes(vocabulary: int) -> int:
    """Bytes of a token id: four where there are more than two can tell apart."""
    return 4 if vocabulary > 65536 else 2


def pack_ids(ids: list[int], size: int = 2) -> bytes:
    """RUN's payload. size: `id_bytes`."""
    return np.asarray(ids, dtype=f"<u{size}").tobytes()


def texts_bytes(sizes: Sequence[int]) -> int:
    """How many bytes `pack_texts` makes of texts of so many; more than any frame has where one is not counted."""
    return _TEXTS.size + sum(sizes) if max(sizes) < 65536 else 2**32


def pack_texts(text: bytes, pair: bytes | None) -> bytes:
    """TEXT's and TOKENIZE's payload."""
    return _TEXTS.pack(pair is not None, len(text)) + text + (pair or b"")


def unpack_text(payload: bytes, logits_of: Callable[[int], int]) -> Text:
    """logits_of: how many logits there must be of so many tokens."""
    if len(payload) < _TEXT.size:
        raise WorkError(f"the device's TEXT reply has {len(payload)} bytes: its firmware holds another model")
    status, truncated, stack, ticks, label, tokens = _TEXT.unpack_from(payload)
    if len(payload) != _TEXT.size + 4 * logits_of(tokens):
        raise WorkError(f"the device's TEXT reply has {len(payload)} bytes: its firmware holds another model")
    logits = np.frombuffer(payload, "<f4", offset=_TEXT.size).astype(np.float32)
    return Text(status, bool(truncated), stack, ticks, label, tokens, logits)


def unpack_tag(payload: bytes, classes: int) -> tuple[Text, list[tuple[int, int, int]]]:
    """What TEXT's reply has, with the label's logits alone; (begin, end, kind) of each slot, in bytes of the text."""
    least = _TAG.size + 4 * classes
    if len(payload) < least or len(payload) != least + 6 * _TAG.unpack_from(payload)[-1]:
        raise WorkError(f"the device's TAG reply has {len(payload)} bytes: its firmware holds another model")
    status, truncated, stack, ticks, label, tokens, _ = _TAG.unpack_from(payload)
    logits = np.frombuffer(payload, "<f4", classes, _TAG.size).astype(np.float32)
    slots = [tuple(row) for row in np.frombuffer(payload, "<u2", offset=least).reshape(-1, 3).tolist()]
    return Text(status, bool(truncated), stack, ticks, label, tokens, logits), slots


def unpack_tokenize(payload: bytes, size: int = 2) -> tuple[int, bool, list[int]]:
    """(embbert_status_t, whether the text was cut, token ids of `size` bytes)."""
    if len(payload) < _TOKENIZE.size or len(payload) != _TOKENIZE.size + size * _TOKENIZE.unpack_from(payload)[2]:
        raise WorkError(f"the device's TOKENIZE reply has {len(payload)} bytes: rebuild its firmware")
    status, truncated, _ = _TOKENIZE.unpack_from(payload)
    return status, bool(truncated), np.frombuffer(payload, f"<u{size}", offset=_TOKENIZE.size).tolist()


def pack_trace(output: int, offset: int, ids: bytes) -> bytes:
    """TRACE's payload: an output from a byte on, or EVERY for the CRCs of all; the ids, packed."""
    return _TRACE.pack(output, offset) + ids


def unpack_digests(payload: bytes, outputs: int) -> tuple[int, list[tuple[int, int]]]:
    """(embbert_status_t, (bytes, zlib's CRC) of each output) of a TRACE of EVERY."""
    if len(payload) != 4 + 8 * outputs:
        raise WorkError(f"the device's TRACE reply has {len(payload)} bytes: its firmware holds another model")
    return payload[0], [tuple(pair) for pair in np.frombuffer(payload, "<u4", offset=4).reshape(-1, 2).tolist()]


def unpack_piece(payload: bytes) -> tuple[int, int, bytes]:
    """(embbert_status_t, the whole output's bytes, a piece of it) of a TRACE of one output."""
    if len(payload) < 8:
        return payload[0] if payload else 0, 0, b""
    return payload[0], int.from_bytes(payload[4:8], "little"), payload[8:]


def unpack_info(payload: bytes) -> Info:
    if len(payload) not in (_INFO.size, _INFO.size + _CLOCK.size):
        words = f"{len(payload)} bytes, not {_INFO.size + _CLOCK.size}"
        raise WorkError(f"the device's INFO reply has {words}: rebuild its firmware")
    max_length, classes, vocabulary, arena, hashed, longest, ticks_are, features = _INFO.unpack_from(payload)
    clock = int.from_bytes(payload[_INFO.size :], "little")  # 0 in an older firmware, which does not tell it
    return Info(max_length, classes, vocabulary, arena, hashed, longest, ticks_are != 0, features, clock)


def unpack_run(payload: bytes, logits: int) -> Run:
    """logits: how many there must be."""
    if len(payload) != _RUN.size + 4 * logits:
        raise WorkError(f"the device's RUN reply has {len(payload)} bytes: its firmware holds another model")
    status, stack, ticks = _RUN.unpack_from(payload)
    return Run(status, stack, ticks, np.frombuffer(payload, "<f4", offset=_RUN.size).astype(np.float32))


def pack_budget(budget: int) -> bytes:
    """What goes before the ids of SLICES. budget: multiplications in a slice, about."""
    return struct.pack("<i", budget)


def unpack_slices(payload: bytes, count: int) -> tuple[int, int, int, int, np.ndarray]:
    """(embbert_status_t, slices, ticks of the longest, ticks of all, logits). count: how many logits there must be."""
    if len(payload) != _SLICES.size + 4 * count:
        raise WorkError(f"the device's SLICES reply has {len(payload)} bytes: its firmware holds another model")
    logits = np.frombuffer(payload, "<f4", offset=_SLICES.size).astype(np.float32)
    return (*_SLICES.unpack_from(payload), logits)


def profile_bytes(steps: int) -> int:
    """The payload of a PROFILE reply."""
    return _PROFILE.size + 8 * steps


def unpack_profile(payload: bytes, steps: int) -> tuple[int, list[int]]:
    """(embbert_status_t, ticks from the start of embbert_run to the end of each step)."""
    if len(payload) != profile_bytes(steps) or _PROFILE.unpack_from(payload)[1] != steps:
        raise WorkError(f"the device's PROFILE reply has {len(payload)} bytes: its firmware holds another model")
    return _PROFILE.unpack_from(payload)[0], np.frombuffer(payload, "<u8", offset=_PROFILE.size).tolist()


def unpack_self_test(payload: bytes) -> SelfTest:
    if len(payload) != _SELF_TEST.size:
        raise WorkError(f"the device's SELF_TEST reply has {len(payload)} bytes: rebuild its firmware")
    status, wrong, stack, arena, crc = _SELF_TEST.unpack(payload)
    return SelfTest(status, not wrong & 1, not wrong & 2, stack, arena, crc, not wrong & 4, not wrong & 8)


def ends_in_restart(payload: bytes) -> bool:
    """Whether the firmware begins anew after such an error reply."""
    return payload[:1] in (bytes([ERROR_FAULT]), bytes([ERROR_STACK]))


def describe_error(payload: bytes) -> str:
    """An error reply in words."""
    code = payload[0] if payload else 0
    words = ERROR_NAMES.get(code, f"error {code}")
    if code == ERROR_FAULT and len(payload) == 9:
        status, address = struct.unpack_from("<II", payload, 1)
        words += f" at {address:#010x} (cause {status:#010x})"
    return words
