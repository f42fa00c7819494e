"""Text from outside in the languages that files are written in: one function a language, and nothing else does it.

Each takes any text and gives one line that stands for it and says nothing else in that language. Letters, digits and
`_ . , = / + : -` between words stay as they are, so that flags and names can pass too.
"""

from __future__ import annotations

import html as _html
import re
from collections.abc import Callable
from pathlib import PurePath


def plain(text: str) -> str:
    """One line without control characters, line separators, lone surrogates and what turns the writing around."""
    return "".join(c if c.isprintable() else "-" for c in text)


def c_comment(text: str) -> str:
    """Text for a comment of C, C++ or a linker script: it neither ends nor begins one, nor joins it with the next line.

    `@` goes too, by which the templates of the C mark what is filled in.
    """
    return re.sub(r"[*/\\?@]", "-", plain(text))


def c_formula(text: str) -> str:
    """Text for a comment that shows a formula: as `c_comment`, but `*` and `/` stay where they stand alone."""
    return re.sub(r"\*(?=/)|/(?=\*)|[\\?@]", "-", plain(text))


def c_string(text: str) -> str:
    """A C string literal of any text, UTF-8, quotes and all."""
    out = []
    for byte in text.encode("utf-8", "replace"):
        as_it_is = 0x20 <= byte < 0x7F and chr(byte) not in '"\\?@'
        # Octal escapes end after three digits, so that no following character joins them.
        out.append(chr(byte) if as_it_is else f"\\{byte:03o}")
    return '"' + "".join(out) + '"'


def c_source(text: str) -> str:
    """Text for a string literal or a comment of C, whichever it stands in."""
    return re.sub(r"\*(?=/)|/(?=[*/])|[\"\\?]", "-", plain(text))


def make(text: str) -> str:
    """Text for a comment, a variable or a recipe of a Makefile."""
    return re.sub(r"[`\"'|&;<>(){}!*?\[\]~^\\#%]", "-", plain(text)).replace("$", "$$")


def cmake(text: str) -> str:
    """Text for a comment, an argument or a quoted argument of CMake."""
    return re.sub(r"[\\\"$;#()@<>\[\]{}`]", "-", plain(text))


def yaml(text: str) -> str:
    """Text for a plain scalar of YAML, or what a quoted one holds.

    No scalar begins like a number or a date and is none (`2026-02-30`, `0x_`), which readers refuse.
    """
    written = re.sub(r"[:#](?=\s|$)|[\"'\\{}\[\]&*!|>%@`]|^[\s?,:-]|\s$|^(?:=|<<)$", "_", plain(text)) or "_"
    return re.sub(r"^(?=[+.]?\d\S*[-_xb])", "_", written)


def json(text: str) -> str:
    """Text for the inside of a JSON string."""
    return re.sub(r"[\"\\]", "-", plain(text))


def properties(text: str) -> str:
    """Text for a value of a .properties, .ini, .conf or Kconfig file."""
    return re.sub(r"[\"'\\$%#;]", "-", plain(text))


def markdown(text: str) -> str:
    """Text for a line of Markdown: no mark-up, link or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~])", r"\\\1", plain(text))


def html(text: str) -> str:
    """Text for an element or a quoted attribute of HTML and SVG."""
    return _html.escape(plain(text), quote=True)


_BY_NAME: dict[str, Callable[[str], str]] = {
    "Makefile": make, "CMakeLists.txt": cmake, "Kconfig": properties,
}  # fmt: skip
_BY_SUFFIX: dict[str, Callable[[str], str]] = {
    ".mk": make, ".cmake": cmake, ".yaml": yaml, ".yml": yaml, ".json": json, ".properties": properties,
    ".ini": properties, ".conf": properties, ".defaults": properties,
    ".overlay": c_source, ".md": markdown, ".html": html, ".svg": html,
    ".c": c_source, ".h": c_source, ".cpp": c_source, ".hpp": c_source, ".ino": c_source, ".ld": c_source,
}  # fmt: skip


def of_file(path: PurePath | str) -> Callable[[str], str]:
    """The function for a file of that name; KeyError for one whose language is not known."""
    path = PurePath(path)
    return _BY_NAME.get(path.name) or _BY_SUFFIX[path.suffix]
