"""What a 32-bit ELF image loads: the bytes that a programmer writes, and where."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.errors import WorkError

_HEADER = struct.Struct("<4sBB10xHHIIIIIHHHHHH")
_SEGMENT = struct.Struct("<IIIIIIII")
_LOAD = 1
FILL = 0xFF  # what erased flash reads as


@dataclass(frozen=True)
class Piece:
    """Bytes from an address on."""

    address: int
    data: bytes

    @property
    def end(self) -> int:
        return self.address + len(self.data)


def loaded(path: Path) -> list[Piece]:
    """The pieces of an ELF file that are in flash, by load address, in order."""
    image = path.read_bytes()
    if len(image) < _HEADER.size or image[:6] != b"\x7fELF\x01\x01":
        raise WorkError(f"{path}: is no 32-bit little-endian ELF file")
    fields = _HEADER.unpack_from(image)
    offset, size, count = fields[7], fields[11], fields[12]
    pieces = []
    for number in range(count):
        kind, start, _, physical, stored, *_ = _SEGMENT.unpack_from(image, offset + number * size)
        if kind == _LOAD and stored:
            pieces.append(Piece(physical, image[start : start + stored]))
    return sorted(pieces, key=lambda piece: piece.address)


def flat(pieces: list[Piece]) -> bytes:
    """The pieces one after the other from the first address on, gaps filled as erased flash is."""
    first = pieces[0].address
    image = bytearray([FILL]) * (max(piece.end for piece in pieces) - first)
    for piece in pieces:
        image[piece.address - first : piece.end - first] = piece.data
    return bytes(image)
