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

from embbert_tvm.codegen.c_api import substitute

# The arrays of a tokenizer, as its C has them.
_ARRAY = re.compile(
    r"^static const (u?int(?:8|16|32|64)|float|double)(?:_t)? (\w+)((?:\[\d*\])+) = \{(.*?)\n?\};", re.M | re.S
)
_FLOATS = {"float": "float32", "double": "float64"}
_NUMBER = re.compile(r"-?\d[\w.+-]*")

_PARTS = """\

/* The tokenizer's tables for @PREFIX@_check(): one and its bytes, NULL past the last. */
const void *@PREFIX@_tokenizer_part(size_t index, size_t *bytes);
const void *@PREFIX@_tokenizer_part(size_t index, size_t *bytes)
{
    static const struct {
        const void *at;
        size_t bytes;
    } parts[] = {
@ROWS@
    };
    if (index >= sizeof parts / sizeof parts[0]) {
        return NULL;
    }
    *bytes = parts[index].bytes;
    return parts[index].at;
}
"""

_CHECK = """\
/* The constants of the model and, after them, the tokenizer's tables. */
static const void *part_of(size_t index, size_t *bytes)
{
    static const struct {
        const void *at;
        size_t bytes;
    } parts[] = {
@ROWS@
    };
    if (index < sizeof parts / sizeof parts[0]) {
        *bytes = parts[index].bytes;
        return parts[index].at;
    }
    return @REST@;
}

@PREFIX@_status_t @PREFIX@_check(@PREFIX@_check_t *check, size_t bytes)
{
    /* CRC-32 as zlib has it, four bits a step. */
    static const uint32_t table[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    if (check == NULL) {
        return @UPPER@_E_ARGUMENT;
    }
    uint32_t crc = ~check->crc;
    while (bytes > 0 && !check->done) {
        size_t size = 0;
        const uint8_t *part = (const uint8_t *)part_of(check->part, &size);
        if (part == NULL) {
            check->done = true;
        } else if (check->offset >= size) {
            check->part++;
            check->offset = 0;
        } else {
            size_t left = size - check->offset, n = left < bytes ? left : bytes;
            for (size_t i = 0; i < n; i++) {
                crc ^= part[check->offset + i];
                crc = table[crc & 15u] ^ (crc >> 4);
                crc = table[crc & 15u] ^ (crc >> 4);
            }
            check->offset += n;
            bytes -= n;
        }
    }
    check->crc = ~crc;
    return check->done && check->crc != @CRC@u ? @UPPER@_E_DAMAGED : @UPPER@_OK;
}

@PREFIX@_status_t @PREFIX@_known_answer(@PREFIX@_t *model, float *logits)
{
    static const int32_t ids[@TOKENS@] = {
@IDS@
    };
    static const uint32_t answer[@COUNT@] = { /* float32 as bits */
@ANSWER@
    };
    @PREFIX@_status_t status = @PREFIX@_run(model, ids, @TOKENS@, logits);
    if (status != @UPPER@_OK) {
        return status;
    }
    for (size_t i = 0; i < @COUNT@; i++) {
@COMPARE@
    }
    return @UPPER@_OK;
}
"""

# In integers every bit is the same everywhere.
_SAME = """\
        union {
            float value;
            uint32_t bits;
        } found;
        found.value = logits[i];
        if (found.bits != answer[i]) {
            return @UPPER@_E_DAMAGED;
        }"""
# In floating point the last bits are the compiler's and the core's.
_NEAR = """\
        union {
            uint32_t bits;
            float value;
        } right;
        right.bits = answer[i];
        float difference = logits[i] - right.value;
        if (!(difference <= @TOLERANCE@f && difference >= -@TOLERANCE@f)) {
            return @UPPER@_E_DAMAGED;
        }"""


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
