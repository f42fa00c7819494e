"""Reading text as it comes, plain or compressed, and writing so that nothing is ever half there.

What is written lies under a temporary name beside its place, locked, until it is whole. A name that nobody locks is
what a killed process left, and the next one that writes to the same place takes it away.
"""

from __future__ import annotations

import ctypes
import fcntl
import gzip
import hashlib
import lzma
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from embbert_tvm.errors import InputError, cannot_write

_POINTER = b"version https://git-lfs"
_OPENERS = {".gz": gzip.open, ".xz": lzma.open}
_NAME_BYTES = 200  # of 255 that a name may have: the rest is for what a temporary one adds
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux


def check_is_here(path: Path) -> None:
    """InputError for a file that Git LFS has left a pointer of; any other, or none, is the reader's affair."""
    try:
        with open(path, "rb") as file:
            if not file.read(len(_POINTER)).startswith(_POINTER):
                return
    except OSError:
        return
    raise InputError(f"{path}: is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`")


@contextmanager
def open_binary(path: Path) -> Iterator[BinaryIO]:
    """A file, `.gz` and `.xz` decompressed; InputError for what cannot be read, also midway."""
    path = Path(path)
    check_is_here(path)
    try:
        with _OPENERS.get(path.suffix, open)(path, "rb") as file:
            yield file
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged, or not a {path.suffix} file ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file, `.gz` and `.xz` decompressed; InputError for what cannot be read."""
    with open_binary(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{path}, line {number}: not UTF-8: re-encode the file") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as it lies there, in hexadecimal; InputError where it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file under a temporary name beside it, then rename. A link's target is written, a device as it is.

    Raises InputError for a path that cannot be written, WorkError for a disk that is full.
    """
    path = Path(path)
    try:
        if _is_device(path):
            path.write_bytes(content)
            return
        place = _real(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(place)
        _write_and_rename(_beside(place, "new"), place, content)
    except OSError as error:
        raise cannot_write(path, error) from error


def _write_and_rename(temporary: Path, place: Path, content: bytes) -> None:
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            _lock(file.fileno())
            file.write(content)
            file.flush()
            os.replace(temporary, place)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def folder_in_place(path: Path) -> Iterator[Path]:
    """A new folder to fill; it takes the place of `path` when the block ends well and vanishes when not.

    A link's target is replaced, not the link. Raises InputError for what cannot be replaced, and turns an OSError of
    writing into the error that names `path`.
    """
    path = Path(path)
    place = _replaceable(path)
    temporary, old = _beside(place, "new"), _beside(place, "old")
    locks: list[int] = []
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(place)
        temporary.mkdir()
        locks.append(_lock(os.open(temporary, os.O_RDONLY)))
        yield temporary
        if place.exists() and not _exchange(temporary, place):
            locks.append(_lock(os.open(place, os.O_RDONLY)))
            os.replace(place, old)
        if not place.exists():
            os.replace(temporary, place)
    except OSError as error:
        if error.filename is not None and not _is_within(error.filename, temporary, place, old, place.parent):
            raise
        raise cannot_write(path, error) from error
    finally:
        if old.exists() and not place.exists():
            os.replace(old, place)
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)
        for number in locks:
            os.close(number)


def _is_within(name: object, *places: Path) -> bool:
    where = Path(os.fsdecode(name)) if isinstance(name, (str, bytes, os.PathLike)) else Path()
    return any(where == place or place in where.parents for place in places[:-1]) or where == places[-1]


def _replaceable(path: Path) -> Path:
    """Where an output folder lies, links followed; InputError where no folder can be put."""
    try:
        place = _real(path)
        if place.is_symlink():
            raise InputError(f"{path}: is a link that leads to itself: name another output")
        if place.exists() and not place.is_dir():
            raise InputError(f"{path}: is a file, not a folder: name another output")
        if place == Path.cwd() or place in Path.cwd().parents:
            raise InputError(f"{path}: is the current folder or holds it: name a folder in it as the output")
        if os.path.ismount(place):
            raise InputError(f"{path}: is where a file system is mounted: name a folder in it as the output")
    except OSError as error:
        raise cannot_write(path, error) from error
    return place


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_device(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _stem(path: Path) -> str:
    """What a path's temporary names begin with."""
    name = os.fsencode(path.name)
    if len(name) > _NAME_BYTES:
        name = name[: _NAME_BYTES - 16] + hashlib.sha256(name).hexdigest()[:16].encode()
    return f".{os.fsdecode(name)}"


def _beside(path: Path, kind: str) -> Path:
    """A name for what is to be at `path`. It is known before there is a file, so that an interrupt leaves none."""
    return path.parent / f"{_stem(path)}.{kind}.{secrets.token_hex(4)}"


def _lock(number: int) -> int:
    """The open file of that number, locked as long as it is open, where the file system has locks."""
    with suppress(OSError):
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return number


def _clear_leftovers(path: Path) -> None:
    """Take away what killed processes left beside `path`; a folder that one had only moved aside goes back."""
    ours = re.compile(re.escape(_stem(path)) + r"\.(new|old)\.[0-9a-f]{8}")
    for name in os.listdir(path.parent):
        match = ours.fullmatch(name)
        if match is None:
            continue
        leftover = path.parent / name
        try:
            number = os.open(leftover, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if match[1] == "old" and not path.exists():
                os.replace(leftover, path)
            elif leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()
        except OSError:
            continue  # locked by who writes it now
        finally:
            os.close(number)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, so that there is always one of the two; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    return not rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
