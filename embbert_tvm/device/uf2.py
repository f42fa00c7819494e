"""UF2, the format in which boot loaders that show themselves as a drive take an image.

A file is blocks of 512 bytes, each with 256 of the image and its address. https://github.com/microsoft/uf2
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from embbert_tvm.device.elf import FILL, Piece

PAYLOAD = 256
_BLOCK = struct.Struct("<IIIIIIII476sI")
_MAGIC_START, _MAGIC_SECOND, _MAGIC_END = 0x0A324655, 0x9E5D5157, 0x0AB16F30
_FAMILY_PRESENT = 0x2000


def uf2(pieces: Sequence[Piece], family: int) -> bytes:
    """The file of an image for boot loaders of a family; pages that it fills in part are filled up."""
    pages: dict[int, bytearray] = {}
    for piece in pieces:
        for at, byte in enumerate(piece.data, piece.address):
            page = at - at % PAYLOAD
            pages.setdefault(page, bytearray([FILL]) * PAYLOAD)[at - page] = byte
    blocks = []
    for number, (address, data) in enumerate(sorted(pages.items())):
        fields = (_MAGIC_START, _MAGIC_SECOND, _FAMILY_PRESENT, address, PAYLOAD, number, len(pages), family)
        blocks.append(_BLOCK.pack(*fields, bytes(data), _MAGIC_END))
    return b"".join(blocks)
