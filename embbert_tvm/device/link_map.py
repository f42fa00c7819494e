"""Reading GNU ld's map: which bytes of an image come from which object."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

FILL = "alignment"

# A section's name, its address and its size; a name that is long stands on a line of its own. Input sections, indented
# by one, name their object.
_ROW = re.compile(r"^( ?)(\.[\w.$-]+|\*fill\*)\s+0x[0-9a-f]+\s+0x([0-9a-f]+)(?: (?!load address)(\S.*))?", re.MULTILINE)


def contributions(text: str, sections: Sequence[str]) -> dict[str, int]:
    """Bytes of the output sections of those names, by object file (`libc_nano.a(lib_a-memcpy.o)` for a library's).

    What the linker put between for alignment counts as FILL.
    """
    found: Counter[str] = Counter()
    total, inside = 0, False
    for indent, name, size, source in _ROW.findall(text[text.index("Linker script and memory map") :]):
        if not indent:
            inside = name in sections
            total += int(size, 16) if inside else 0
        elif inside and name != "*fill*" and int(size, 16):
            found[PurePosixPath(source).name] += int(size, 16)
    if total > found.total():
        found[FILL] = total - found.total()
    return dict(found)
