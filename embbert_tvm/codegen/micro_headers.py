"""Which headers of kernels/micro a package needs, and of each the parts that its kernels use.

A header is parted at its empty lines into items: a function or macros with their comment; instances of a macro and
functions of one line are items each. An item is needed where a text uses a name that it defines; its own text counts
then too. What an `#if` holds together is one item. So no package has C that nothing in it calls.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.kernels import micro

_FOLDER = Path(micro.__file__).parent
_WORD = re.compile(r"\b[A-Za-z_]\w+\b")
_INCLUDE = re.compile(r'^#include "(\w+\.h)"\n', re.MULTILINE)
# What is whole on one line: a macro's instance, which defines the function that is its first argument, and a function.
_WHOLE = re.compile(r"^EMBBERT_\w+\((\w+),|^static inline .*\{.*\}$")
_DEFINED = re.compile(
    r"^EMBBERT_\w+\((\w+),|^ *# *define (\w+)|^(?:static|EMBBERT_[A-Z_]+)\b[^;={\n(]*?(\w+)\("
    r"|^typedef [^;{]* (\w+)(?: __attribute__.*)?;|^\} (\w+);",
    re.MULTILINE,
)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_IF, _ENDIF = (re.compile(rf"^ *# *{word}", re.MULTILINE) for word in ("if", "endif"))
_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')
_PASTED = re.compile(r"\b\w*(?:##\w+)+\b")


@dataclass(frozen=True)
class _Item:
    """A part of a header. defines: its names. uses: the words of its C. pasted: patterns of the names that it makes of
    its arguments' words."""

    header: str
    text: str
    defines: frozenset[str]
    uses: frozenset[str]
    pasted: tuple[re.Pattern[str], ...]


def needed(*texts: str) -> list[Path]:
    """The headers that C texts need, sorted: of names that they use, and those that they include."""
    return [_FOLDER / name for name in sorted(shipped(*texts))]


def shipped(*texts: str) -> dict[str, str]:
    """The headers that C texts need, by name, without what nothing of it uses."""
    words: set[str] = set()
    included = set()
    for text in texts:
        included |= set(_INCLUDE.findall(text))
        words |= set(_WORD.findall(_COMMENT.sub(" ", text)))
    kept: set[_Item] = set()
    while True:
        new = {item for item in _items() if item not in kept and _is_used(item, words, kept)}
        if not new:
            break
        kept |= new
        words |= {word for item in new for word in item.uses}
    names = {item.header for item in kept} | {name for name in included if name in _frames()}
    return {name: _written(name, kept, names) for name in sorted(names)}


def _is_used(item: _Item, words: set[str], kept: set[_Item]) -> bool:
    if item.defines & words:
        return True
    patterns = [pattern for other in kept for pattern in other.pasted]
    return any((m := p.fullmatch(name)) and m[1] in words for p in patterns for name in item.defines)


def _written(name: str, kept: set[_Item], names: set[str]) -> str:
    """A header's text of the items that are kept, and of its includes those that are there."""
    before, after = _frames()[name]
    before = _INCLUDE.sub(lambda m: m[0] if m[1] in names else "", before)
    parts = [item.text for item in _items() if item.header == name and item in kept]
    joined = "\n".join(parts)
    return f"{before.rstrip()}\n\n{joined}\n{after}" if parts else f"{before.rstrip()}\n\n{after}"


@functools.cache
def _frames() -> dict[str, tuple[str, str]]:
    """What stands above the items of each header, its guard and includes, and below them."""
    return {name: (before, after) for name, (before, _, after) in _parted().items()}


@functools.cache
def _items() -> tuple[_Item, ...]:
    return tuple(_item(name, text) for name, (_, parts, _) in _parted().items() for text in parts)


@functools.cache
def _parted() -> dict[str, tuple[str, list[str], str]]:
    return {path.name: _part(path.read_text(encoding="utf-8")) for path in sorted(_FOLDER.glob("*.h"))}


def _part(text: str) -> tuple[str, list[str], str]:
    """Above the items, the items, and below. The guard ends a header's head, with the includes that follow it."""
    head = re.match(r".*?#define EMBBERT_\w+_H\n(?:\n|#include [^\n]*\n|/\* clang-format off \*/\n)*", text, re.DOTALL)
    assert head is not None
    assert text.endswith("#endif\n")
    body, tail = text[head.end() : -len("#endif\n")], "#endif\n"
    if (off := "/* clang-format on */\n") in body:
        body, tail = body.replace(off, ""), off + tail
    return head[0], list(_paragraphs(body)), tail


def _paragraphs(body: str) -> Iterator[str]:
    """Pieces between empty lines outside of every `#if`, brace and comment; what is whole on one line by itself."""
    found = [*body.splitlines(), ""]
    lines: list[str] = []
    depth = 0
    for line, depth_after in zip(found, _depths(found), strict=True):
        if not lines and not line:
            continue
        whole = depth == 0 and _WHOLE.match(line)
        if depth == 0 and lines and (not line or (whole and _COMMENT.sub("", "\n".join(lines)).strip())):
            yield "\n".join(lines) + "\n"
            lines = []
        if whole:
            yield "\n".join([*lines, line]) + "\n"
            lines = []
        elif line or lines:
            lines.append(line)
            depth = depth_after


def _depths(lines: Sequence[str]) -> Iterator[int]:
    """Depth of nesting in `#if`, braces and comments after each line."""
    nesting, commented = 0, ""
    for line in lines:
        bare = _COMMENT.sub(" ", f"{commented}{line}")
        if "/*" in bare:
            commented += f"{line}\n"
            yield nesting + 1
            continue
        commented = ""
        nesting += len(_IF.findall(bare)) - len(_ENDIF.findall(bare))
        code = _STRING.sub("", bare)
        nesting += code.count("{") - code.count("}")
        yield nesting + code.endswith("\\")


def _item(header: str, text: str) -> _Item:
    bare = _COMMENT.sub(" ", text)
    names = {next(filter(None, groups)) for groups in _DEFINED.findall(bare) if any(groups)}
    names -= set(re.findall(r"^ *# *undef (\w+)", bare, re.MULTILINE))
    pasted = tuple(
        re.compile(re.sub(r"##\w+##", r"(\\w+)", one)) for one in _PASTED.findall(bare) if re.search(r"##\w+##", one)
    )
    return _Item(header, text, frozenset(names), frozenset(_WORD.findall(bare)) - names, pasted)
