"""What a package knows of itself: the CRC-32 of its constants, and a run whose logits it can compare with.

`<prefix>_check()` reads weights, tables and the tokenizer's tables as they lie in memory, a slice a call, and
`<prefix>_known_answer()` runs token ids whose logits it knows. Together they find a flipped bit in flash, and a
compiler or a core that computes something else.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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
_PARTS_LINKED = template("check_parts.c.in")
_PARTS_IN_BLOB = template("check_parts_blob.c.in")
_CHECK_MODEL = template("check_model.c.in")
BLOB_CRC_END = 20  # bytes of a blob that its CRC does not cover: those before it, and itself

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


@dataclass(frozen=True)
class KnownAnswer:
    """Token ids with the logits that they must give."""

    ids: Sequence[int]
    logits: np.ndarray
    # Of a logit, as a share of the largest; 0: every bit is compared.
    tolerance: float

    @property
    def bits(self) -> np.ndarray:
        """The logits' float32 as numbers."""
        return np.asarray(self.logits, np.float32).reshape(-1).view(np.uint32)

    @property
    def allowed(self) -> float:
        """Largest difference that a logit may have."""
        return self.tolerance * max(1.0, float(np.abs(self.logits).max()))


def source(
    prefix: str,
    constants: Mapping[str, np.ndarray],
    tables: Sequence[np.ndarray] | None,
    answer: KnownAnswer,
    in_blob: bool = False,
) -> str:
    """The C of both checks, for the end of <prefix>_model.c.

    Args:
        constants: the arrays of <prefix>_weights.c by their names without the prefix, in order.
        tables: the tokenizer's, None where the package has no tokenizer.
        answer: what the model must say, and of what.
        in_blob: whether constants and answer lie in a blob (blob.py), which has a CRC of its own.
    """
    declared = "" if tables is None else f"const void *{prefix}_tokenizer_part(size_t index, size_t *bytes);\n\n"
    places = _in_blob(answer, tables) if in_blob else _linked(prefix, constants, tables, answer)
    return declared + substitute(
        _CHECK,
        prefix,
        compare=_NEAR if answer.tolerance else _SAME,
        tokens=len(answer.ids),
        ids=_rows(f"{i}" for i in answer.ids),
        **places,
        count=len(answer.bits),
    )


def _linked(
    prefix: str, constants: Mapping[str, np.ndarray], tables: Sequence[np.ndarray] | None, answer: KnownAnswer
) -> dict[str, object]:
    """What stands in the template where the constants are arrays of the firmware's."""
    rows = "\n".join(f"        {{{prefix}_{name}, sizeof {prefix}_{name}}}," for name in constants)
    after = "@PREFIX@_tokenizer_part(index - sizeof parts / sizeof parts[0], bytes)"
    logits = _rows(f"{word:#010x}u" for word in answer.bits.tolist())
    return {
        "parts": _PARTS_LINKED.replace("@ROWS@", rows).replace("@REST@", "NULL" if tables is None else after),
        "check_model": "",
        "part_done": "",
        "crc": f"{crc32([*constants.values(), *(tables or ())]):#010x}",
        "tolerance": f"{answer.allowed:.9e}f",
        "answer_here": f"    static const uint32_t answer[@COUNT@] = {{ /* float32 as bits */\n{logits}\n    }};\n",
        "answer_there": "",
    }


def _in_blob(answer: KnownAnswer, tables: Sequence[np.ndarray] | None) -> dict[str, object]:
    """The same where a blob holds them. Where it ends the CRC so far becomes what it is at a beginning, if it is the
    blob's; else nothing that follows makes it right."""
    there = "    const uint32_t *const answer = model->blob->known_answer;\n"
    tolerance = "    const float tolerance = model->blob->known_answer_tolerance[0];\n"
    return {
        "parts": _PARTS_IN_BLOB.replace(
            "@REST@", "NULL" if tables is None else "@PREFIX@_tokenizer_part(index - 1, bytes)"
        ),
        "check_model": _CHECK_MODEL,
        "part_done": "            crc = check->part == 0 ? crc ^ model->blob->crc : crc;\n",
        "crc": f"{crc32(tables or ()):#010x}",
        "tolerance": "tolerance",
        "answer_here": "",
        "answer_there": there + (tolerance if answer.tolerance else ""),
        "blob_crc_end": BLOB_CRC_END,
    }


def _rows(texts: Iterable[str], per_line: int = 8) -> str:
    words = list(texts)
    return "\n".join(f"        {', '.join(words[i : i + per_line])}," for i in range(0, len(words), per_line))
