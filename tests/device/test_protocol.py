"""The protocol under noise: the host's reader by itself, and the firmware's on the host and in QEMU."""

from __future__ import annotations

import random
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import MAX_LENGTH, logits

from embbert_tvm.device import protocol
from embbert_tvm.device.device import Device
from embbert_tvm.device.places import open_place
from embbert_tvm.device.protocol import Frame, FrameReader, pack
from embbert_tvm.errors import WorkError

FRAME = Frame(protocol.RUN, 513, b"\x01\x00\x02\x00")


def test_a_frame_is_laid_out_as_the_document_says():
    body = b"\x01\x02\x01\x02\x04\x00\x01\x00\x02\x00"
    assert pack(FRAME) == b"\xeb\xb7" + body + zlib.crc32(body).to_bytes(4, "little")


frames = st.builds(Frame, st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=64))


@given(st.lists(frames, max_size=5), st.integers(1, 17))
def test_reads_frames_in_pieces(sent, piece):
    data = b"".join(map(pack, sent))
    reader = FrameReader(64)
    assert [f for i in range(0, len(data), piece) for f in reader.feed(data[i : i + piece])] == sent


@given(st.binary(max_size=40), frames)
def test_noise_never_makes_a_frame_and_frames_come_through_after_it(noise, frame):
    # What looks like the start of a frame may wait for more: zeros, as many as the longest frame has, end it.
    reader = FrameReader(64)
    assert list(reader.feed(noise + bytes(64 + protocol.OVERHEAD) + pack(frame))) == [frame]


@given(frames, st.data())
def test_a_damaged_frame_is_dropped(frame, data):
    packed = bytearray(pack(frame))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    reader = FrameReader(64)
    assert frame not in list(reader.feed(bytes(packed)))
    assert list(reader.feed(bytes(80) + pack(frame)))[-1] == frame


# ---- the firmware ----


@pytest.fixture(scope="module", params=["host", "qemu"])
def device(request, toy):
    with open_place(request.param, toy) as opened:
        yield opened


def replies(device: Device, data: bytes, count: int, seconds: float = 20.0) -> list[Frame]:
    """The first `count` frames that come after `data` is sent."""
    reader, found = FrameReader(64), []
    deadline = time.monotonic() + seconds
    device._link.write(data)
    while len(found) < count and (piece := device._link.read(deadline)):
        found += reader.feed(piece)
    return found


def error(code: int, sequence: int) -> Frame:
    return Frame(protocol.ERROR, sequence, bytes([code]))


def works(device: Device) -> None:
    assert list(device.run([7, 8, 9]).logits) == list(logits([7, 8, 9]))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pack(Frame(0x55, 9, b"")), error(protocol.ERROR_TYPE, 9)),
        (pack(Frame(protocol.INFO, 9, b"x")), error(protocol.ERROR_LENGTH, 9)),
        (pack(Frame(protocol.RUN, 9, b"odd")), error(protocol.ERROR_LENGTH, 9)),
        (pack(Frame(protocol.RUN, 9, bytes(2 * MAX_LENGTH + 2))), error(protocol.ERROR_LENGTH, 9)),
        (pack(Frame(protocol.RUN, 9, b"ab"), version=2), error(protocol.ERROR_VERSION, 9)),
        (pack(FRAME)[:-1] + b"\x00", error(protocol.ERROR_CRC, 513)),
        (b"\xeb\xb7\x01\x02\x07\x00\xff\xff", error(protocol.ERROR_LENGTH, 7)),
    ],
    ids=["type", "info length", "odd length", "too many ids", "version", "crc", "over-long"],
)
def test_what_is_wrong_is_answered_with_an_error(device, data, expected):
    assert replies(device, data, 1) == [expected]
    works(device)


def test_an_empty_run_is_refused_by_the_model(device):
    (reply,) = replies(device, pack(Frame(protocol.RUN, 3, b"")), 1)
    assert protocol.unpack_run(reply.payload, 3).status == 2


def test_garbage_is_skipped(device):
    garbage = bytes(random.Random(1).randbytes(3000)).replace(b"\xeb", b"\xb7")
    device._link.write(garbage + b"\xeb" * 100 + b"\xeb\xeb")
    works(device)


def test_a_frame_right_behind_a_truncated_one_is_found(device):
    cut = pack(Frame(protocol.RUN, 20, bytes(8)))[:-3]
    info = pack(Frame(protocol.INFO, 21, b""))
    found = replies(device, cut + info, 2)
    assert [(f.type, f.sequence) for f in found] == [
        (protocol.ERROR, 20),
        (protocol.INFO | protocol.REPLY, 21),
    ]
    works(device)


def test_random_damage_never_gives_a_wrong_answer(device):
    """Single bytes dropped, repeated and changed: each reply is an error or the right logits."""
    noise = random.Random(2)
    flush = bytes(2 * MAX_LENGTH + protocol.OVERHEAD)
    for sequence in range(1000, 1200):
        ids = [noise.randrange(900) for _ in range(noise.randrange(1, MAX_LENGTH + 1))]
        packed = bytearray(pack(Frame(protocol.RUN, sequence, protocol.pack_ids(ids))))
        place = noise.randrange(len(packed))
        match noise.randrange(3):
            case 0:
                del packed[place]
            case 1:
                packed.insert(place, packed[place])
            case 2:
                packed[place] ^= noise.randrange(1, 256)
        end = pack(Frame(protocol.INFO, 1, b""))
        device._link.write(bytes(packed) + flush + end)
        reader, done = FrameReader(64), False
        while not done:
            piece = device._link.read(time.monotonic() + 20)
            assert piece, "no answer"
            for frame in reader.feed(piece):
                done |= frame.type == protocol.INFO | protocol.REPLY
                if frame.type == protocol.RUN | protocol.REPLY:
                    assert list(protocol.unpack_run(frame.payload, 3).logits) == list(logits(ids))
    works(device)


class Scripted:
    """A link that answers each request with what a function of it gives."""

    def __init__(self, answer) -> None:
        self._answer, self._waiting = answer, b""

    def write(self, data: bytes) -> None:
        (request,) = FrameReader(64).feed(data)
        self._waiting += self._answer(request)

    def read(self, deadline: float) -> bytes:
        data, self._waiting = self._waiting, b""
        return data

    def close(self) -> None: ...


def test_a_request_that_arrives_damaged_is_sent_again(toy):
    asked = []

    def answer(request: Frame) -> bytes:
        asked.append(request.sequence)
        return pack(error(protocol.ERROR_CRC, request.sequence))

    with pytest.raises(WorkError, match="arrived damaged"):
        Device(Scripted(answer), toy, "here", 1).info()
    assert len(set(asked)) == 3


def test_a_late_reply_is_not_taken_for_the_answer(toy):
    def answer(request: Frame) -> bytes:
        late = pack(Frame(protocol.RUN | protocol.REPLY, request.sequence - 1, bytes(24)))
        payload = b"\0\0\0\0" + (5).to_bytes(8, "little") + logits([1]).tobytes()
        return late + pack(Frame(protocol.RUN | protocol.REPLY, request.sequence, payload))

    assert list(Device(Scripted(answer), toy, "here", 1).run([1]).logits) == list(logits([1]))


def test_silence_and_short_replies_are_work_errors(toy):
    with pytest.raises(WorkError, match="did not answer"):
        Device(Scripted(lambda request: b""), toy, "here", 0.1).run([1])
    with pytest.raises(WorkError, match="another model"):
        Device(Scripted(lambda r: pack(Frame(r.type | 0x80, r.sequence, b"abc"))), toy, "here", 1).run([1])
