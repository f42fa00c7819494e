"""Intents by example that a device keeps: taught, asked, saved and loaded over the protocol."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from embbert_tvm.device import protocol
from embbert_tvm.device.device import Device
from embbert_tvm.device.examples import NAME_BYTES
from embbert_tvm.device.package import Package
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.heads import VECTOR
from embbert_tvm.rejection import KNOWN_HEAD

ADD, FORGET, NEAREST, SAVE, LOAD = range(1, 6)
_REQUEST = struct.Struct("<BBxxI")
_REPLY = struct.Struct("<BBHfQQ")
_PIECE = 128  # of a blob on its way to the device: what any server has room for
# embbert_examples_status_t by value.
_STATUSES = (
    "",
    "the name is empty, too long, or not there",
    "the store is full",
    "the text has no direction",
    "this is not a store of this model, or a damaged one",
)


@dataclass(frozen=True)
class Nearest:
    """name: of the nearest examples, None where they are not as near as was asked. model_ticks, look_up_ticks: what the
    text's vector took, and finding the nearest of them."""

    name: str | None
    cosine: float
    model_ticks: int
    look_up_ticks: int


def store_flags(package: Package, room: int) -> tuple[str, ...]:
    """Flags of `open_place` for a firmware that keeps examples of so many intents. Raises InputError for a model
    without a vector."""
    return (f"-DSERVER_EXAMPLES={room}u", f"-DEMBBERT_EXAMPLES_WIDTH={vector_width(package)}")


def vector_width(package: Package) -> int:
    """How many numbers a text's vector has."""
    known = next((head for head in package.more if head.name == KNOWN_HEAD), None)
    if package.head != VECTOR and known is None:
        raise InputError(
            f"{package.path}: gives no vector of a text: compile one of `export --vector`, or one that `reject` has "
            "given the score mahalanobis"
        )
    return package.classes if known is None else known.values


def add(device: Device, name: str, text: str) -> int:
    """Teach a name, a new one or one that is there, by a text; how many names there are then."""
    return _ask(device, ADD, name, text.encode()).count


def forget(device: Device, name: str) -> int:
    """Take a name away with all that was taught of it; how many are left."""
    return _ask(device, FORGET, name).count


def nearest(device: Device, text: str, threshold: float) -> Nearest:
    """The name of the nearest examples, where their cosine is the threshold or more."""
    found = _ask(device, NEAREST, "", text.encode(), int(np.float32(threshold).view(np.uint32)))
    return Nearest(found.tail.decode() or None, found.cosine, found.model_ticks, found.look_up_ticks)


def save(device: Device) -> bytes:
    """The store as one blob with a CRC (device/examples.py reads it)."""
    found = b""
    while piece := _ask(device, SAVE, number=len(found)).tail:
        found += piece
    return found


def load(device: Device, blob: bytes) -> int:
    """Put a blob in the place of what the store holds; how many names it has."""
    for at in range(0, len(blob), _PIECE):
        _ask(device, LOAD, rest=blob[at : at + _PIECE], number=at)
    return _ask(device, LOAD, number=len(blob)).count


@dataclass(frozen=True)
class _Reply:
    count: int
    cosine: float
    model_ticks: int
    look_up_ticks: int
    tail: bytes


def _ask(device: Device, what: int, name: str = "", rest: bytes = b"", number: int = 0) -> _Reply:
    if device.holds is None or not device.holds.features & protocol.FEATURE_EXAMPLES:
        raise InputError(f"{device.place}: its firmware keeps no examples: build it with -DSERVER_EXAMPLES=N")
    raw = name.encode()
    if len(raw) >= NAME_BYTES or "\0" in name:
        raise InputError(f"the name {name!r} must have 1 to {NAME_BYTES - 1} bytes in UTF-8")
    payload = _REQUEST.pack(what, len(raw), number) + raw + rest
    if len(payload) > device.holds.payload:
        raise InputError(f"{device.place} has no room for a text of {len(rest)} bytes")
    reply = device.request(protocol.EXAMPLES, payload)
    if len(reply) < _REPLY.size:
        raise WorkError(f"the device's EXAMPLES reply has {len(reply)} bytes: rebuild its firmware")
    status, stored, count, cosine, *ticks = _REPLY.unpack_from(reply)
    if status or stored:
        words = protocol.STATUS_NAMES.get(status, status) if status else _STATUSES[min(stored, len(_STATUSES) - 1)]
        raise (WorkError if status else InputError)(f"{device.place}: {words}")
    return _Reply(count, cosine, ticks[0], ticks[1], reply[_REPLY.size :])
