"""What a package knows of itself: the CRC-32 of its constants, and a run whose logits it can compare with.

`<prefix>_check()` reads weights, tables and the tokenizer's tables as they lie in memory, a slice a call, and
`<prefix>_known_answer()` runs token ids whose logits it knows. Together they find a flipped bit in flash, and a
compiler or a core that computes something else.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from embbert_tvm.codegen.templates import substitute, template

# The arrays of a tokenizer, as its C has them.
_ARRAY = re.compile(
    r"^static const (u?int(?:8|16|32|64)|float|double)(?:_t)? (\w+)((?:\[\d*\])+) = \{(.*?)\n?\};", re.M | re.S
)
_FLOATS = {"float": "float32", "double": "float64"}
_NUMBER = re.compile(r"-?\d[\w.+-]*")

_PARTS = template("tokenizer_parts.c.in")

_CHECK = template("check.c.in")

# In integers every bit is the same everywhere.
_SAME = template("answer_same.c.in").rstrip("\n")
# In floating point the last bits are the compiler's and the core's.
_NEAR = template("answer_near.c.in").rstrip("\n")


def tables_of(source: str) -> dict[str, np.ndarray]:
    """The constant arrays of a C text by name, as they lie in memory."""
    found = {}
    for kind, name, dimensions, body in _ARRAY.findall(source):
        shape = tuple(int(n or -1) for n in re.findall(r"\[(\d*)\]", dimensions))
        words = _NUMBER.findall(body)
        if kind in ("float", "double"):
            found[name] = np.array([float(word.rstrip("fF")) for word in words], _FLOATS[kind]).reshape(shape)
        else:
            found[name] = np.array([int(word.rstrip("uU"), 0) for word in words], kind).reshape(shape)
    return found


def tokenizer_parts(source: str, prefix: str) -> tuple[str, list[np.ndarray]]:
    """The C that names a tokenizer's tables, to stand at the end of its source, and what they hold."""
    tables = tables_of(source)
    rows = "\n".join(f"        {{{name}, sizeof {name}}}," for name in tables)
    return substitute(_PARTS, prefix, rows=rows), list(tables.values())


def crc32(arrays: Iterable[np.ndarray]) -> int:
    """CRC-32 of arrays one after another, as they lie in a little-endian memory."""
    crc = 0
    for value in arrays:
        ordered = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<"), copy=False))
        crc = zlib.crc32(ordered.tobytes(), crc)
    return crc


def source(
    prefix: str,
    constants: Mapping[str, np.ndarray],
    tables: Sequence[np.ndarray] | None,
    answer: tuple[Sequence[int], np.ndarray],
    tolerance: float,
) -> str:
    """The C of both checks, for the end of <prefix>_model.c.

    Args:
        constants: the arrays of <prefix>_weights.c by their names without the prefix, in order.
        tables: the tokenizer's, None where the package has no tokenizer.
        answer: token ids with the logits that they must give.
        tolerance: of a logit, as a share of the largest; 0: every bit is compared.
    """
    ids, logits = answer
    bits = np.asarray(logits, np.float32).reshape(-1).view(np.uint32)
    allowed = tolerance * max(1.0, float(np.abs(logits).max()))
    rows = [f"        {{{prefix}_{name}, sizeof {prefix}_{name}}}," for name in constants]
    text = substitute(_NEAR if tolerance else _SAME, prefix, tolerance=f"{allowed:.9e}")
    declared = "" if tables is None else f"const void *{prefix}_tokenizer_part(size_t index, size_t *bytes);\n\n"
    return declared + substitute(
        _CHECK,
        prefix,
        compare=text,
        rows="\n".join(rows),
        rest="NULL" if tables is None else f"{prefix}_tokenizer_part(index - sizeof parts / sizeof parts[0], bytes)",
        crc=f"{crc32([*constants.values(), *(tables or ())]):#010x}",
        tokens=len(ids),
        count=len(bits),
        ids=_rows(f"{i}" for i in ids),
        answer=_rows(f"{word:#010x}u" for word in bits.tolist()),
    )


def _rows(texts: Iterable[str], per_line: int = 8) -> str:
    words = list(texts)
    return "\n".join(f"        {', '.join(words[i : i + per_line])}," for i in range(0, len(words), per_line))
