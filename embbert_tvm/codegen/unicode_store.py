"""Where answers of the `tokenizers` library about every code point come from: shipped, kept before, or asked anew."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tokenizers

from embbert_tvm.cache import Parts, cached, digest, read


def shipped(what: Sequence[str]) -> Path:
    """The file of a shipped answer, which may be missing: of the version of the library that is installed.

    benchmarks/unicode_tables.py writes these files.
    """
    return Path(__file__).with_name("unicode") / digest([tokenizers.__version__, *what])[:16]


def kept(what: Sequence[str], make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The int32 arrays that `make` gives, from where they are shipped or kept in the user's cache folder.

    what: the function that is asked, and its arguments.
    """
    found = read(shipped(what)) or cached(digest([_library(), *what]), lambda: parts_of(make()))
    return arrays_of(found)


@functools.cache
def _library() -> str:
    """What tells one version of the library, and of the module that asks it, from others."""
    status = Path(tokenizers.tokenizers.__file__).stat()
    asks = Path(__file__).with_name("unicode_map.py").read_bytes()
    return digest([tokenizers.__version__, f"{status.st_size} {status.st_mtime_ns}", asks])


def parts_of(arrays: Mapping[str, np.ndarray]) -> Parts:
    """Integers of 32 bits as a file holds them."""
    return {name: np.asarray(values, "<i4").tobytes() for name, values in arrays.items()}


def arrays_of(parts: Parts) -> dict[str, np.ndarray]:
    """The arrays of which `parts_of` gave the parts."""
    return {name: np.frombuffer(values, "<i4") for name, values in parts.items()}
