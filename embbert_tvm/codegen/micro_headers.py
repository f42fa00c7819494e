"""Which headers of kernels/micro a package needs: those whose names its kernels use, and what these include."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from embbert_tvm.kernels import micro

_FOLDER = Path(micro.__file__).parent
_WORD = re.compile(r"\b[A-Za-z_]\w+\b")
_INCLUDE = re.compile(r'^#include "(\w+\.h)"', re.MULTILINE)
_DEFINED = re.compile(
    r"^#define (\w+)|^(?:static|EMBBERT_\w+)\b[^;={\n]*?(\w+)\(|^typedef \w+ (\w+)|^\} (\w+);", re.MULTILINE
)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def needed(*texts: str) -> list[Path]:
    """The headers that C texts need, sorted.

    A header is needed where a text uses a name that it defines, or one that begins with its own (embbert_dsp_dot_4x2
    is of embbert_dsp.h), as macros paste names together. A header's own text counts too.
    """
    found: set[str] = set()
    waiting = list(texts)
    while waiting:
        text = _COMMENT.sub(" ", waiting.pop())
        new = set(_INCLUDE.findall(text)) & _headers().keys()
        new |= {name for word in set(_WORD.findall(text)) if (name := _home(word)) is not None}
        waiting += [_headers()[name] for name in new - found]
        found |= new
    return [_FOLDER / name for name in sorted(found)]


@functools.cache
def _headers() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("*.h"))}


@functools.cache
def _definitions() -> dict[str, str]:
    """The header that defines a name, by the name."""
    return {
        name: header
        for header, text in _headers().items()
        for match in _DEFINED.finditer(text)
        if (name := next(filter(None, match.groups()), None))
    }


def _home(word: str) -> str | None:
    if word in _definitions():
        return _definitions()[word]
    stems = [Path(name).stem for name in _headers()]
    of_its_name = [stem for stem in stems if word.startswith(f"{stem}_")]
    return f"{max(of_its_name, key=len)}.h" if of_its_name else None
