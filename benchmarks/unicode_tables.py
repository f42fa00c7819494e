"""What the `tokenizers` library makes of code points, for the tokenizers that most models have: the files that ship.

    python benchmarks/unicode_tables.py       writes embbert_tvm/codegen/unicode anew, for the version that is installed

A compilation with an empty cache (embbert_tvm/cache.py) reads them instead of asking the library about every code
point. Of another version of the library they are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
from tokenizer_kinds import KINDS

from embbert_tvm.cache import packed
from embbert_tvm.codegen import c_tokenizer, unicode_map, unicode_store
from embbert_tvm.data.tokenizer_json import read_spec, spec_of
from embbert_tvm.resources import resource

ASKED_BY = ("BERT", "BERT, cased", "RoBERTa")  # and the shipped models


def tables() -> dict[Path, bytes]:
    """The files and their content."""
    found: dict[Path, bytes] = {}

    def kept(what: Sequence[str], make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        parts = unicode_store.parts_of(make())
        found[unicode_store.shipped(what)] = packed(parts, 9)
        return unicode_store.arrays_of(parts)

    for function in vars(unicode_map).values():
        getattr(function, "cache_clear", lambda: None)()
    with patch.object(unicode_map, "kept", kept):
        specs = [read_spec(resource("models", "tokenizer.json")), *(spec_of(KINDS[n](), Path(n)) for n in ASKED_BY)]
        for spec in specs:
            c_tokenizer.files(spec, "embbert", "")
    return found


def main() -> None:
    made = tables()
    folder = next(iter(made)).parent
    folder.mkdir(exist_ok=True)
    for path in set(folder.iterdir()) - set(made):
        path.unlink()
    for path, content in made.items():
        path.write_bytes(content)
    print(f"{folder}: {len(made)} tables, {sum(map(len, made.values()))} bytes")


if __name__ == "__main__":
    main()
