"""The C and headers of a package that no model changes but by a name or a number: `*.in`, with @NAMES@ to fill in."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"@([A-Z_0-9]+)@")
_FOLDER = Path(__file__).parent


def template(name: str) -> str:
    """The text of a file of this folder."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def fill(text: str, **values: object) -> str:
    """A template's text with each @KEY@ of `values`; what is put in stays as it is."""
    return _NAME.sub(lambda found: str(values.get(found[1].lower(), found[0])), text)


def substitute(text: str, prefix: str, /, **values: object) -> str:
    """A template's text: @PREFIX@ and @UPPER@, and @KEY@ for each of `values`."""
    for key, value in values.items():
        text = text.replace(f"@{key.upper()}@", str(value))
    return text.replace("@PREFIX@", prefix).replace("@UPPER@", prefix.upper())
