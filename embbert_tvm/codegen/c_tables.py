"""Constant arrays in C."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embbert_tvm.codegen.tokenizer_tables import smallest

_WIDTH = 110


def array(name: str, values: np.ndarray | Sequence[int]) -> str:
    """`static const` array of a numpy array's type and shape; of a list's numbers, the smallest that holds them."""
    values = values if isinstance(values, np.ndarray) else smallest(np.array(values, np.int64))
    kind = _FLOATS.get(values.dtype.str[1:], f"{values.dtype}_t")
    dimensions = "".join(f"[{n}]" for n in values.shape)
    if values.ndim > 1:
        body = "\n".join(f"    {{\n{rows(_texts(row))}\n    }}," for row in values)
    else:
        body = rows(_texts(values))
    return f"static const {kind} {name}{dimensions} = {{\n{body}\n}};"


_FLOATS = {"f4": "float", "f8": "double"}


def _texts(values: np.ndarray) -> list[str]:
    if values.dtype.kind == "f":
        return [f"{float(value)!r}{'f' if values.dtype == np.float32 else ''}" for value in values]
    return [f"{value}{'u' if value > 0x7FFFFFFF else ''}" for value in values.tolist()]


def rows(texts: Sequence[str]) -> str:
    """Initializers, as many a line as fit."""
    per_line = _per_line(max(map(len, texts)))
    return "\n".join(f"    {', '.join(texts[i : i + per_line])}," for i in range(0, len(texts), per_line))


def rows_of_integers(values: np.ndarray) -> str:
    """The same of integers, whose texts Python makes a line at a time."""
    per_line, numbers = _per_line(max(len(str(values.min())), len(str(values.max())))), values.tolist()
    return "\n".join(f"    {str(numbers[i : i + per_line])[1:-1]}," for i in range(0, len(numbers), per_line))


def _per_line(widest: int) -> int:
    return max(1, (_WIDTH - 4) // (widest + 2))


def sequence_arrays(name: str, at: Sequence[int], sequences: Sequence[int]) -> str:
    """<name>_at and <name>_sequences: sequence n is <name>_sequences[<name>_at[n]] up to that of n + 1."""
    values = np.array([*sequences] or [0], np.uint32)
    return array(f"{name}_at", list(at)) + "\n\n" + array(f"{name}_sequences", values)


def triples(name: str, values: Sequence[tuple[int, int, int]]) -> str:
    """(first, second, made) for find_pair()."""
    texts = [f"{{{a}, {b}, {c}}}" for a, b, c in values]
    return f"static const uint32_t {name}[{len(texts)}][3] = {{\n{rows(texts)}\n}};"
