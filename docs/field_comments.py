"""An extension of griffe, which mkdocstrings reads the sources by: a field's comment, `x: int  # ...`, documents it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import griffe


class FieldComments(griffe.Extension):
    """Takes the comment that ends an attribute's line for its docstring."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        if attr.docstring is None and attr.lineno is not None and isinstance(attr.filepath, Path):
            line = attr.filepath.read_text(encoding="utf-8").splitlines()[attr.lineno - 1]
            _, mark, comment = line.partition("  # ")
            if mark and not attr.is_private:
                attr.docstring = griffe.Docstring(f"{comment[0].upper()}{comment[1:]}.", parent=attr)
