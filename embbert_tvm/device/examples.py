"""Intents by example: names with the direction of the vectors added under each, as firmware/examples keeps them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from embbert_tvm.errors import InputError

WIDTH = 240
NAME_BYTES = 22  # of a name in UTF-8, with the NUL that ends it
_MAGIC, _VERSION = b"EBEX", 2
_HEADER = struct.Struct("<4sHHI")
_LARGEST, _ZERO = 7, 8  # of a vector's numbers; the four bits of 0
_LONGEST = np.float32(6)


@dataclass(frozen=True)
class Entry:
    """The sum of a name's unit vectors is scale * vector; count: how many there are.

    A sum longer than 6 is made 6 long before the next is added: in four bits one of many would be rounded away.
    """

    name: str
    count: int
    scale: np.float32
    vector: np.ndarray  # int8, -7 to 7

    @property
    def length(self) -> float:
        return float(np.sqrt((self.vector.astype(np.float64) ** 2).sum()))

    @property
    def kept(self) -> np.float32:
        """The scale when another vector is added."""
        return min(self.scale, _LONGEST / np.float32(self.length))


@dataclass
class Examples:
    """A store of entries by their names, in the order in which they came."""

    width: int = WIDTH
    _entries: dict[str, Entry] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: str, vector: np.ndarray) -> None:
        """Add a vector under a name, a new one or one that is there."""
        if not name or "\0" in name or len(name.encode()) >= NAME_BYTES:
            raise InputError(f"the name {name!r} must have 1 to {NAME_BYTES - 1} bytes in UTF-8")
        vector = self._checked(vector)
        old = self._entries.get(name)
        unit = vector / np.sqrt((vector.astype(np.float64) ** 2).sum()).astype(np.float32)
        total = unit if old is None else old.kept * old.vector.astype(np.float32) + unit
        scale, rounded = _rounded(total)
        if old is not None and scale == 0:  # the vectors cancel, and the direction stays what it was
            scale, rounded = old.scale, old.vector
        count = min(1 if old is None else old.count + 1, 0xFFFF)
        self._entries[name] = Entry(name, count, scale, rounded)

    def forget(self, name: str) -> None:
        """Take a name away with all that was added under it."""
        if name not in self._entries:
            raise InputError(f"there are no examples of {name!r}")
        del self._entries[name]

    def nearest(self, vector: np.ndarray, threshold: float = -1.0) -> tuple[str | None, float]:
        """The name of the largest cosine, None where it is below the threshold, and the cosine."""
        asked = _rounded(self._checked(vector))[1].astype(np.float64)
        if not self._entries:
            return None, -1.0
        length = np.sqrt((asked**2).sum())
        cosines = [float(entry.vector @ asked / (length * entry.length)) for entry in self]
        best = int(np.argmax(cosines))
        return (list(self)[best].name if cosines[best] >= threshold else None), cosines[best]

    def save(self) -> bytes:
        """One blob with a CRC, the bytes that the C writes."""
        found = _HEADER.pack(_MAGIC, _VERSION, self.width, len(self))
        for entry in self:
            name = entry.name.encode().ljust(NAME_BYTES, b"\0")
            found += name + struct.pack("<Hf", entry.count, entry.scale) + _packed(entry.vector)
        return found + struct.pack("<I", zlib.crc32(found))

    def _checked(self, vector: np.ndarray) -> np.ndarray:
        vector = np.asarray(vector, np.float32)
        if vector.shape != (self.width,):
            raise InputError(f"a vector of {vector.size} numbers: the store takes {self.width}")
        if not np.isfinite(vector).all() or not vector.any():
            raise InputError("a vector must be of numbers that are not all 0")
        return vector


def load_examples(blob: bytes) -> Examples:
    """The store of a blob; InputError for what is none, or damaged."""
    if len(blob) < _HEADER.size + 4 or blob[:4] != _MAGIC:
        raise InputError("this is not a store of examples")
    _, version, width, count = _HEADER.unpack_from(blob)
    vector_bytes = 4 * -(-width // 8)
    entry_bytes = NAME_BYTES + 6 + vector_bytes
    end = _HEADER.size + count * entry_bytes
    if version != _VERSION or len(blob) != end + 4 or zlib.crc32(blob[:end]) != int.from_bytes(blob[end:], "little"):
        raise InputError("this store of examples is damaged, or of another version")
    found = Examples(width)
    for at in range(_HEADER.size, end, entry_bytes):
        name = blob[at : at + NAME_BYTES].split(b"\0")[0].decode("utf-8", "replace")
        number, scale = struct.unpack_from("<Hf", blob, at + NAME_BYTES)
        packed = np.frombuffer(blob, np.uint8, vector_bytes, at + NAME_BYTES + 6)
        vector = np.stack([packed & 15, packed >> 4], 1).reshape(-1)[:width].astype(np.int8) - np.int8(_ZERO)
        found._entries[name] = Entry(name, number, np.float32(scale), vector)
    return found


def _rounded(vector: np.ndarray) -> tuple[np.float32, np.ndarray]:
    """(what one is worth, int8), the largest element 7; (0, zeros) of zeros."""
    scale = np.float32(np.abs(vector).max()) / np.float32(_LARGEST)
    if scale == 0:
        return scale, np.zeros(len(vector), np.int8)
    scaled = vector / scale
    return scale, np.floor(scaled + np.float32(_ZERO + 0.5)).astype(np.int8) - np.int8(_ZERO)


def _packed(vector: np.ndarray) -> bytes:
    """Two numbers a byte, the first in the lower bits, zeros to a multiple of four bytes."""
    fours = np.pad(vector + np.int8(_ZERO), (0, -len(vector) % 8), constant_values=_ZERO).astype(np.uint8)
    return (fours[::2] | fours[1::2] << 4).astype(np.uint8).tobytes()
