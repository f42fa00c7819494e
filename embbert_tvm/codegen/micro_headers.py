"""Which headers a package needs of kernels/micro, and of these and the tokenizer's the parts that its C uses.

A header is parted at its empty lines into items: a function or macros with their comment; instances of a macro and
functions of one line are items each. An item is needed where a text uses a name that it defines; its own text counts
then too. What an `#if` holds together is one item, whose parts go one by one (unused_code.py). So no package has C
that nothing in it calls.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.codegen.conditionals import Builds, resolved
from embbert_tvm.codegen.unused_code import COMMENT, is_pasted, pasted
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
_IF, _ENDIF = (re.compile(rf"^ *# *{word}", re.MULTILINE) for word in ("if", "endif"))
_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')
_ENUM = re.compile(r"\benum\b[^{;]*\{([^}]*)\}")


@dataclass(frozen=True)
class _Item:
    """A part of a header. defines: its names. uses: the words of its C. pasted: patterns of the names that it makes of
    its arguments' words."""

    header: str
    text: str
    defines: frozenset[str]
    uses: frozenset[str]
    pasted: tuple[re.Pattern[str], ...]


@dataclass(frozen=True)
class _Header:
    """What stands above its items, a guard and includes, the items, and what stands below."""

    before: str
    items: tuple[_Item, ...]
    after: str


def needed(*texts: str, builds: Builds = ()) -> list[Path]:
    """The headers of kernels/micro that C texts need, sorted: of names that they use, and those that they include."""
    return [_FOLDER / name for name in sorted(shipped(*texts, builds=builds))]


def shipped(*texts: str, builds: Builds = ()) -> dict[str, str]:
    """The headers of kernels/micro that C texts need, by name, without what nothing of it uses.

    builds: by which branches are left out (conditionals.py); none where there are none.
    """
    headers = _micro(tuple(tuple(sorted(build.items())) for build in builds))
    kept = _kept(headers.values(), texts)
    included = {name for text in texts for name in _INCLUDE.findall(text)}
    names = ({item.header for item in kept} | included) & set(headers)
    return _written({name: headers[name] for name in sorted(names)}, kept)


def used_parts(headers: Mapping[str, str], *texts: str) -> dict[str, str]:
    """Headers by name, all of which C texts need, without what nothing of it uses."""
    parted = {name: _header(name, text) for name, text in headers.items()}
    return _written(parted, _kept(parted.values(), texts))


def _kept(headers: Iterable[_Header], texts: Sequence[str]) -> set[_Item]:
    """The items that texts use, and those that they do."""
    items = [item for header in headers for item in header.items]
    words = {word for text in texts for word in _WORD.findall(COMMENT.sub(" ", text))}
    kept, patterns = set[_Item](), list[re.Pattern[str]]()
    while new := {item for item in items if item not in kept and _is_used(item, words, patterns)}:
        kept |= new
        words |= {word for item in new for word in item.uses}
        patterns += [pattern for item in new for pattern in item.pasted]
    return kept


def _is_used(item: _Item, words: set[str], patterns: Sequence[re.Pattern[str]]) -> bool:
    return bool(item.defines & words) or any(is_pasted(name, patterns, words) for name in item.defines)


def _written(headers: Mapping[str, _Header], kept: set[_Item]) -> dict[str, str]:
    """The texts of headers, of the items that are kept and of the includes that are there."""
    found = {}
    for name, header in headers.items():
        before = _INCLUDE.sub(lambda m: m[0] if m[1] in headers else "", header.before)
        parts = "\n".join(item.text for item in header.items if item in kept)
        found[name] = f"{before.rstrip()}\n\n{parts}{parts and chr(10)}{header.after}"
    return found


@functools.cache
def _micro(builds: tuple[tuple[tuple[str, int], ...], ...]) -> dict[str, _Header]:
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("*.h"))}
    texts = resolved(texts, [dict(build) for build in builds]) if builds else texts
    return {name: _header(name, text) for name, text in texts.items()}


@functools.cache
def _header(name: str, text: str) -> _Header:
    before, items, after = _part(text)
    return _Header(before, tuple(_item(name, item) for item in items), after)


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
        if depth == 0 and lines and (not line or (whole and COMMENT.sub("", "\n".join(lines)).strip())):
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
        bare = COMMENT.sub(" ", f"{commented}{line}")
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
    bare = COMMENT.sub(" ", text)
    names = {next(filter(None, groups)) for groups in _DEFINED.findall(bare) if any(groups)}
    names |= {one.split("=")[0].strip() for body in _ENUM.findall(bare) for one in body.split(",")} - {""}
    names -= set(re.findall(r"^ *# *undef (\w+)", bare, re.MULTILINE))
    return _Item(header, text, frozenset(names), frozenset(_WORD.findall(bare)) - names, pasted(bare))
