"""The package's tokenizer against the `tokenizers` library, on texts that are made to differ.

    python fuzz/tokens.py [--seconds 60] [--seed 0] [--package FOLDER]

The C is built as a library of this process. Texts are bytes: words of the tokenizer's own, characters of every kind of
Unicode, what is no UTF-8, special tokens as text, and mixtures. Where the ids differ the text is printed and the status
is 1. Words that are too long for the device's window are counted apart: it says so of them.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

from embbert_tvm.data.tokenizer import load_tokenizer, tokenize  # noqa: E402
from embbert_tvm.device.package import Package, load_package  # noqa: E402

_RANGES = (
    (0x20, 0x7E), (0, 0x20), (0x80, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x900, 0xDFF),
    (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2190, 0x27FF), (0x3000, 0x30FF), (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0xFB00, 0xFFFF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0x10000, 0x10FFFF),
)  # fmt: skip
_PIECES = ("[SEP]", "[CLS]", "[UNK]", "[PAD]", "\u200d", "\ufe0f", "\u0130", "ß", "ﬁ", "İi̇", "\u212a", "\u1e9e", "​")
_OK, _E_WORD = 0, 8


class Tokenizer:
    """The C of a package in this process."""

    def __init__(self, package: Package, folder: Path) -> None:
        library = folder / "package.so"
        includes = [f"-I{path}" for path in package.includes]
        sources = [*map(str, package.sources)]
        flags = ["-std=c99", "-O2", "-shared", "-fPIC", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
        subprocess.run(["gcc", *flags, *includes, *sources, "-lm", "-o", str(library)], check=True)
        self._c = ctypes.CDLL(str(library))
        self._memory = ctypes.create_string_buffer(package.arena_bytes + 64)
        start = (ctypes.addressof(self._memory) + 63) // 64 * 64
        self._model = ctypes.create_string_buffer(256)
        assert self._c.embbert_init(self._model, ctypes.c_void_p(start), ctypes.c_size_t(package.arena_bytes)) == _OK
        self._ids = (ctypes.c_int32 * package.max_length)()

    def __call__(self, text: bytes) -> list[int] | None:
        """The ids of a text; None where a word is too long."""
        tokens, cut = ctypes.c_size_t(), ctypes.c_bool()
        found = (self._ids, ctypes.byref(tokens), ctypes.byref(cut))
        size = ctypes.c_size_t
        status = self._c.embbert_tokenize(self._model, text, size(len(text)), None, size(0), *found)
        if status == _E_WORD:
            return None
        assert status == _OK, status
        return self._ids[: tokens.value]


def text(rng: random.Random, words: list[str]) -> bytes:
    """Up to a few dozen bytes of one kind or of several."""
    parts: list[bytes] = []
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        kind = rng.randrange(6)
        if kind == 0:
            parts.append(" ".join(rng.choices(words, k=rng.randrange(1, 5))).encode())
        elif kind == 1:
            low, high = rng.choice(_RANGES)
            characters = [chr(rng.randint(low, high)) for _ in range(rng.randrange(1, 9))]
            parts.append("".join(characters).encode("utf-8", "surrogatepass"))
        elif kind == 2:
            parts.append(rng.choice(_PIECES).encode())
        elif kind == 3:
            parts.append(rng.randbytes(rng.randrange(1, 6)))
        elif kind == 4:
            parts.append("".join(rng.choices("aeinrst '-.,!?0123456789", k=rng.randrange(1, 12))).encode())
        else:
            parts.append(bytes([rng.randrange(32, 127)]) * rng.choice((1, 2, 3, 40)))
    return b"".join(parts)


def compare(package: Package, seconds: float, seed: int, most: int | None = None) -> tuple[int, int, list[bytes]]:
    """(texts compared, texts with a word that is too long, those whose ids differ) of so many seconds or texts."""
    library, rng = load_tokenizer(package.tokenizer), random.Random(seed)
    words = sorted(library.get_vocab())
    compared = long = 0
    differing: list[bytes] = []
    with tempfile.TemporaryDirectory(prefix="embbert-tokens-") as folder:
        device = Tokenizer(package, Path(folder))
        end = time.monotonic() + seconds
        while time.monotonic() < end and len(differing) < 10 and (most is None or compared + long < most):
            given = text(rng, words)
            found = device(given)
            if found is None:
                long += 1
                continue
            expected = tokenize(library, given.decode("utf-8", "replace"), max_length=package.max_length).ids
            compared += 1
            if found != expected:
                differing.append(given)
    return compared, long, differing


def main() -> None:
    import small

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--package", type=Path, help="a compiled package of prefix embbert; default: a small one")
    arguments = parser.parse_args()
    package = load_package(arguments.package or small.package())
    compared, long, differing = compare(package, arguments.seconds, arguments.seed)
    for given in differing:
        print(f"ids differ: {given!r}")
    print(f"{compared:,} texts compared, {long:,} with a word that is too long, {len(differing)} differ")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
