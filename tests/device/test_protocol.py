"""The protocol under noise: the host's reader by itself, and the firmware's on the host and in QEMU."""

from __future__ import annotations

import random
import time
import zlib

import pytest
import toy as toy_module
from hypothesis import given
from hypothesis import strategies as st
from toy import MAX_LENGTH, logits

from embbert_tvm.device import protocol
from embbert_tvm.device.device import Device, PlaceTraits
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.device.protocol import Frame, FrameReader, pack
from embbert_tvm.errors import WorkError

FRAME = Frame(protocol.RUN, 513, b"\x01\x00\x02\x00")


def test_a_frame_is_laid_out_as_the_document_says():
    body = b"\x02\x02\x01\x02\x04\x00\x01\x00\x02\x00"
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


def error(code: int, sequence: int, request: bytes = bytes(4)) -> Frame:
    """The error reply to a request's bytes, or to what is not known to be one."""
    return Frame(protocol.ERROR, sequence, request[-4:] + bytes([code]))


def works(device: Device) -> None:
    assert list(device.run([7, 8, 9]).logits) == list(logits([7, 8, 9]))


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Frame(0x55, 9, b""), protocol.ERROR_TYPE),
        (Frame(0, 9, b""), protocol.ERROR_TYPE),
        (Frame(protocol.INFO, 9, b"x"), protocol.ERROR_LENGTH),
        (Frame(protocol.RUN, 9, b"odd"), protocol.ERROR_LENGTH),
        (Frame(protocol.RUN, 9, bytes(2 * MAX_LENGTH + 2)), protocol.ERROR_LENGTH),
        (Frame(protocol.RUN, 9, b"ab", version=1), protocol.ERROR_VERSION),
    ],
    ids=["type", "type 0", "info length", "odd length", "an id too many", "version"],
)
def test_a_request_that_is_wrong_is_answered_with_an_error(device, frame, code):
    assert replies(device, pack(frame), 1) == [error(code, 9, pack(frame))]
    works(device)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pack(Frame(protocol.RUN, 9, bytes(2 * MAX_LENGTH + 10))), error(protocol.ERROR_LENGTH, 9)),
        (pack(FRAME)[:-1] + b"\x00", error(protocol.ERROR_DAMAGED, 513)),
        (b"\xeb\xb7\x01\x02\x07\x00\xff\xff", error(protocol.ERROR_LENGTH, 7)),
    ],
    ids=["too many ids", "crc", "over-long"],
)
def test_what_is_damaged_is_answered_with_an_error(device, data, expected):
    assert replies(device, data, 1) == [expected]
    works(device)


@pytest.mark.parametrize("short", [1, 8, len(pack(FRAME)) - 8])
def test_a_frame_that_stops_coming_is_given_up(toy, short):
    """In QEMU, where the clock follows the instructions, it takes long: tests/device/test_serial.py does it there."""
    with open_place("host", toy) as device:
        assert replies(device, pack(FRAME)[:-short], 1) == [error(protocol.ERROR_DAMAGED, 513)]
        works(device)


def test_an_empty_run_is_refused_by_the_model(device):
    (reply,) = replies(device, pack(Frame(protocol.RUN, 3, b"")), 1)
    assert protocol.unpack_run(reply.payload[4:], 3).status == 2


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
                    assert list(protocol.unpack_run(frame.payload[4:], 3).logits) == list(logits(ids))
    works(device)


class Scripted:
    """A link that answers each request with what a function of it, and of its bytes, gives."""

    def __init__(self, answer) -> None:
        self._answer, self._waiting = answer, b""

    def write(self, data: bytes) -> None:
        for request in FrameReader(64).feed(data):
            self._waiting += self._answer(request, data)

    def read(self, deadline: float) -> bytes:
        data, self._waiting = self._waiting, b""
        return data

    def close(self) -> None: ...


def run_reply(data: bytes, sequence: int, ids: list[int]) -> bytes:
    payload = b"\0\0\0\0" + (5).to_bytes(8, "little") + logits(ids).tobytes()
    return protocol.reply_to(data, protocol.RUN | protocol.REPLY, sequence, payload)


def test_a_request_that_arrives_damaged_is_sent_again_under_its_number(toy):
    asked = []

    def answer(request: Frame, data: bytes) -> bytes:
        asked.append(data)
        return pack(error(protocol.ERROR_DAMAGED, request.sequence))

    device = Device(Scripted(answer), toy, "here", 1, PlaceTraits(attempts=3))
    with pytest.raises(WorkError, match="arrived damaged, asked 3 times"):
        device.run([1])
    assert len(asked) == 3
    assert len(set(asked)) == 1
    assert device.retries == 2


def test_a_repeated_request_is_answered_again(device):
    """A reply that was lost: the device is asked the same under the same number."""
    packed = pack(Frame(protocol.RUN, 77, protocol.pack_ids([1, 2, 3])))
    first, second = replies(device, packed, 1), replies(device, packed, 1)
    assert first[0].payload[16:] == second[0].payload[16:] == logits([1, 2, 3]).tobytes()


def test_a_reply_to_another_question_is_not_taken_for_the_answer(toy):
    def answer(request: Frame, data: bytes) -> bytes:
        late = run_reply(data, request.sequence - 1, [9])
        # Another program's question had the same number.
        other = run_reply(pack(Frame(protocol.RUN, request.sequence, b"\7\0")), request.sequence, [7])
        return late + other + run_reply(data, request.sequence, [1])

    assert list(Device(Scripted(answer), toy, "here", 1).run([1]).logits) == list(logits([1]))


def test_an_answer_that_comes_damaged_is_asked_for_again_at_once(toy):
    asked = []

    def answer(request: Frame, data: bytes) -> bytes:
        asked.append(data)
        whole = run_reply(data, request.sequence, [1])
        return whole if len(asked) == 3 else whole[:-3]

    assert list(Device(Scripted(answer), toy, "here", 60, PlaceTraits(attempts=3)).run([1]).logits) == list(logits([1]))


def test_another_version_is_told_clearly(toy):
    old = Frame(protocol.ERROR, 3, bytes([protocol.ERROR_VERSION]), version=1)
    with pytest.raises(WorkError, match="speaks version 1 of the protocol, this program 2: build its firmware anew"):
        Device(Scripted(lambda request, data: pack(old)), toy, "here", 1).run([1])


def test_silence_and_short_replies_are_work_errors(toy):
    with pytest.raises(WorkError, match="did not answer"):
        Device(Scripted(lambda request, data: b""), toy, "here", 0.1).run([1])
    short = Scripted(lambda r, data: protocol.reply_to(data, r.type | 0x80, r.sequence, b"abc"))
    with pytest.raises(WorkError, match="another model"):
        Device(short, toy, "here", 1).run([1])


# ---- self-test ----


def test_a_sound_model_passes_its_self_test(device):
    result = device.self_test([7, 8, 9])
    assert (result.status, result.same_logits, result.guards_intact) == (0, True, True)
    assert result.arena == 12  # three sums of four bytes
    assert result.logits_crc == zlib.crc32(logits([7, 8, 9]).tobytes())


@pytest.mark.parametrize(
    ("line", "figures"),
    [
        ("sums[16] = 1u;", (True, False, 12)),  # behind the arena
        ("logits[0] = (float)sums[15];", (False, True, 12)),  # of an arena that was not written
        ("sums[7] = 1u;", (True, True, 32)),
    ],
)
def test_the_self_test_finds(tmp_path, line, figures):
    model = toy_module.MODEL.replace("EMBBERT_STEP(1);", f"{line}\n    EMBBERT_STEP(1);")
    package = load_package(toy_module.write_package(tmp_path / "p", model=model))
    with open_place("host", package) as opened:
        result = opened.self_test([1, 2])
    assert (result.same_logits, result.guards_intact, result.arena) == figures
