"""Reading text as it comes, plain or compressed, and writing files so that none is ever half there."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from embbert_tvm.errors import InputError

_OPENERS = {".gz": gzip.open, ".xz": lzma.open}


@contextmanager
def open_binary(path: Path) -> Iterator[BinaryIO]:
    """A file, `.gz` and `.xz` decompressed; InputError for what cannot be read, also midway."""
    path = Path(path)
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


def _beside(path: Path, kind: str) -> Path:
    """A name for what is to be at `path`. It is known before there is a file, so that an interrupt leaves none."""
    return path.parent / f".{path.name}.{kind}.{secrets.token_hex(4)}"


@contextmanager
def folder_in_place(path: Path) -> Iterator[Path]:
    """A new folder to fill; it takes the place of `path` when the block ends well and vanishes when not."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file, not a folder: name another output")
    temporary, old = _beside(path, "new"), _beside(path, "old")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error
        yield temporary
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        if old.exists() and not path.exists():
            os.replace(old, path)
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file under a temporary name beside it, then rename."""
    path = Path(path)
    temporary = _beside(path, "new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
