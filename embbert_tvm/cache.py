"""Results that are kept between runs in the user's cache folder, each under a hash of all that decides it.

What is there may be deleted at any time, and where the folder cannot be written everything is made anew: the results
are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

# Names the folder in place of ~/.cache/embbert-tvm; set to nothing, nothing is kept.
VARIABLE = "EMBBERT_TVM_CACHE"
MOST_BYTES = 256 * 2**20
_LOOKED_BY = "0"  # the first digit of one hash in sixteen: how much is kept is looked at by these alone

Parts = dict[str, bytes]


def cache_folder() -> Path | None:
    """Where results are kept; None where nothing is."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    with suppress(RuntimeError):  # no home
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embbert-tvm"
    return None


def digest(parts: Iterable[str | bytes]) -> str:
    """A hash of texts and bytes, and of where each ends, in hexadecimal."""
    made = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        made.update(len(data).to_bytes(8, "little") + data)
    return made.hexdigest()


def load(key: str) -> Parts | None:
    """What was kept under a hash; None for nothing, or for what is damaged."""
    where = cache_folder()
    found = None if where is None else read(where / key)
    if where is not None and found is not None:
        with suppress(OSError):
            os.utime(where / key)  # the least lately used go first
    return found


def read(path: Path) -> Parts | None:
    """The parts of a file that holds what `packed` gives; None where it is missing or damaged."""
    try:
        check, header, content = path.read_bytes().split(b"\n", 2)
        if check.decode() != digest([header, content]):
            return None
        content, parts, at = zlib.decompress(content), Parts(), 0
        for name, size in json.loads(header).items():
            parts[name] = content[at : at + size]
            at += size
    except (OSError, ValueError, zlib.error):
        return None
    return parts


def packed(parts: Mapping[str, bytes], level: int = 1) -> bytes:
    """Parts as a file holds them. level: of zlib's compression."""
    header = json.dumps({name: len(content) for name, content in parts.items()}).encode()
    content = zlib.compress(b"".join(parts.values()), level)
    return b"\n".join([digest([header, content]).encode(), header, content])


def keep(key: str, parts: Mapping[str, bytes]) -> None:
    """Keep parts under a hash, where the folder can be written."""
    where = cache_folder()
    if where is None:
        return
    temporary = where / f".{key}.{secrets.token_hex(4)}"
    with suppress(OSError):
        where.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(packed(parts))
            os.replace(temporary, where / key)
        finally:
            temporary.unlink(missing_ok=True)
        if key.startswith(_LOOKED_BY):
            _make_room(where)


def _make_room(where: Path) -> None:
    """Delete what was not used for the longest time, down to half the room, where more is kept than there may be."""
    found = [(file.stat(), file) for file in where.iterdir() if file.is_file()]
    total = sum(status.st_size for status, _ in found)
    if total <= MOST_BYTES:
        return
    for status, file in sorted(found, key=lambda each: each[0].st_mtime_ns):
        if total <= MOST_BYTES // 2:
            break
        file.unlink(missing_ok=True)
        total -= status.st_size


def cached(key: str, make: Callable[[], Parts]) -> Parts:
    """What was kept under a hash, or what `make` gives, which is kept."""
    found = load(key)
    if found is None:
        found = make()
        keep(key, found)
    return found
