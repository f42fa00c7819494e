"""Leaves macros and inline functions out of a package's C that nothing of it names."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
# A macro, a function whose braces stand at the beginning of a line, or a macro's instance on a line, which defines the
# function that is its first argument.
_DEFINE = re.compile(
    r"^ *# *define (\w+)(?:[^\n]*\\\n)*[^\n]*\n"
    r"|^(?:static inline|EMBBERT_INLINE) [^;{}(\n]*?(\w+)\([^;{}]*\)\n\{\n(?:[^}\n][^\n]*\n|\n)*\}\n"
    r"|^EMBBERT_\w+\((\w+),[^;\n]*\)\n",
    re.MULTILINE,
)
# A comment at the beginning of a line, with the definitions that follow it at once.
_GROUP = re.compile(rf"(^/\*(?:(?!\*/)[\s\S])*\*/\n)?((?:{_DEFINE.pattern})+)", re.MULTILINE)
_EMPTY_IF = re.compile(r"^ *# *if[^\n]*\n\s*(?:# *else\n\s*)?# *endif\n\n?", re.MULTILINE)
# What a header has that defines nothing: comments, a guard, includes.
_HEAD = re.compile(
    rf"{COMMENT.pattern}|^ *# *(?:ifndef|define) \w+_H$|^ *# *(?:endif|include [^\n]*)$|\s", re.DOTALL | re.MULTILINE
)
_INCLUDE = re.compile(r'^#include "(\w+\.h)"\n', re.MULTILINE)
_WORD = re.compile(r"\w+")
# A row of a table, of which there are thousands.
_NUMBERS = re.compile(r"^[ \t]*-?\d[-+.,xXuUa-fA-F\d \t]*,\n", re.MULTILINE)
_PASTED = re.compile(r"\b\w+(?:##\w+)+\b")


def pasted(text: str) -> tuple[re.Pattern[str], ...]:
    """Patterns of the names that macros make by ##, a group for each parameter, which is in small letters."""
    parts = (found.split("##") for found in _PASTED.findall(text))
    return tuple(
        re.compile("".join(r"(\w+)" if part[0].islower() else re.escape(part) for part in one)) for one in parts
    )


def is_pasted(name: str, patterns: Iterable[re.Pattern[str]], words: Container[str]) -> bool:
    """Whether a macro makes the name of words that there are."""
    return any((made := p.fullmatch(name)) and all(part in words for part in made.groups()) for p in patterns)


def without_unused_code(files: Mapping[str, str]) -> dict[str, str]:
    """C by the names of its files without the definitions that none of them uses, and without their comments."""
    found, before = dict(files), None
    while found != before:
        before, unused = found, _unused(found.values())
        found = {name: _without(text, unused) for name, text in found.items()}
    return found


def without_empty_headers(files: Mapping[str, str]) -> dict[str, str]:
    """C by the names of its files without headers that hold nothing but a guard, and without their includes."""
    empty = {path.rpartition("/")[2] for path, text in files.items() if path.endswith(".h") and not _HEAD.sub("", text)}
    left = {path: text for path, text in files.items() if path.rpartition("/")[2] not in empty}
    return {path: _INCLUDE.sub(lambda m: "" if m[1] in empty else m[0], text) for path, text in left.items()}


@dataclass(frozen=True)
class _Names:
    """Names in a C text, comments apart.

    Args:
        words: how often each stands there.
        defined: how often each that is defined there stands in its own definitions.
        patterns: those of names that macros make.
    """

    words: Counter[str]
    defined: Counter[str]
    patterns: tuple[re.Pattern[str], ...]


@functools.lru_cache(maxsize=64)  # most files stay as they are when others lose a definition
def _names(text: str) -> _Names:
    bare = COMMENT.sub(" ", _NUMBERS.sub("", text))
    defined: Counter[str] = Counter()
    for found in _DEFINE.finditer(bare):
        name = _name(found)
        defined[name] += _WORD.findall(found[0]).count(name)
    return _Names(Counter(_WORD.findall(bare)), defined, pasted(bare))


def _unused(texts: Iterable[str]) -> set[str]:
    """Names of definitions that stand nowhere else."""
    words: Counter[str] = Counter()
    own: Counter[str] = Counter()
    patterns: set[re.Pattern[str]] = set()
    for names in map(_names, texts):
        words.update(names.words)
        own.update(names.defined)
        patterns.update(names.patterns)
    return {name for name, count in own.items() if words[name] == count and not is_pasted(name, patterns, words)}


def _name(definition: re.Match[str]) -> str:
    return definition[1] or definition[2] or definition[3]


def _without(text: str, unused: set[str]) -> str:
    """A text without definitions, without the comments of none, and without what is empty then."""
    if unused.isdisjoint(_names(text).defined):
        return text

    def less(group: re.Match[str]) -> str:
        left = _DEFINE.sub(lambda found: "" if _name(found) in unused else found[0], group[2])
        return (group[1] or "") + left if left else ""

    found = _GROUP.sub(less, text)
    if found == text:
        return text
    while (shorter := _EMPTY_IF.sub("", found)) != found:
        found = shorter
    return re.sub(r"\n{3,}", "\n\n", found)
