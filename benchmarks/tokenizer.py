"""The tokenizer in C against the `tokenizers` library, line by line, with its bytes and its instructions on a CPU.

    python benchmarks/tokenizer.py PATH... [--tokenizer models/tokenizer.json] [--cpu cortex-m4] [--json]

A PATH is a labelled TSV, whose texts are also taken as pairs where it has pairs, or lines of text; .xz and .gz are read
as they are. Instructions are counted in QEMU on 200 texts, spread over the first paths (Snips' and IMDb's test sets,
for the figures of the README).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from embbert_tvm.codegen import c_api, c_tokenizer
from embbert_tvm.codegen.c_files import c_string
from embbert_tvm.codegen.plan import Allocation, MemoryPlan
from embbert_tvm.codegen.steps import Program, Text
from embbert_tvm.codegen.templates import substitute
from embbert_tvm.codegen.tokenizer_models import model_tables
from embbert_tvm.data.dataset import read_columns, read_examples
from embbert_tvm.data.files import read_lines
from embbert_tvm.data.tokenizer_json import read_spec
from embbert_tvm.data.tokenizer_spec import TokenizerSpec
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.device.toolchain import call, find_tool
from embbert_tvm.errors import EmbbertError
from embbert_tvm.resources import resource
from embbert_tvm.target import Cpu, load_cpu

MAX_LENGTH = 1 << 16  # so long that no text is cut
TEXTS, MOST_BYTES = 200, 2000  # of the count of instructions
BATCH = 500
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror")

# A model whose logit is how many tokens the text of number ids[0] has.
_MODEL = """\
#include "embbert_tokenizer.h"

static const char *const texts[] = {
@TEXTS@
};
static const uint16_t lengths[] = {@LENGTHS@};
static uint8_t window[EMBBERT_WINDOW_BYTES];
static int32_t found[4096];

embbert_status_t embbert_init(embbert_t *model, void *arena, size_t bytes)
{
    model->arena = arena;
    return bytes ? EMBBERT_OK : EMBBERT_E_ARENA;
}

embbert_status_t embbert_run(embbert_t *model, const int32_t *ids, size_t n, float *logits)
{
    size_t tokens;
    bool truncated;
    (void)model, (void)n;
    embbert_tokenizer(window, texts[ids[0]], lengths[ids[0]], NULL, 0, found, &tokens, &truncated);
    logits[0] = (float)tokens;
    return EMBBERT_OK;
}
"""


class HostTokenizer:
    """The C of a spec's tokenizer, compiled for this machine under the undefined-behaviour sanitizer if `checked`."""

    def __init__(
        self,
        spec: TokenizerSpec,
        folder: Path,
        *,
        max_length: int = MAX_LENGTH,
        window: int | None = None,
        checked: bool = False,
    ) -> None:
        (source,) = write_sources(spec, folder, max_length, window)
        size = c_tokenizer.window_bytes(spec) if window is None else model_tables(spec, window).window_bytes
        library = folder / "tokenizer.so"
        checks = ("-g1", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all") if checked else ("-O2",)
        done = subprocess.run(
            ["gcc", *FLAGS, *checks, "-shared", "-fPIC", str(source), "-o", str(library)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise AssertionError(done.stderr)
        self._call = ctypes.CDLL(str(library)).embbert_tokenizer
        self._window = np.zeros(size // 8 + 1, np.float64)
        self._ids = np.zeros(max_length, np.int32)

    def __call__(self, text: bytes, pair: bytes | None = None) -> tuple[int, np.ndarray, bool]:
        """Status, token ids, and whether the text was cut."""
        count, truncated = ctypes.c_size_t(), ctypes.c_bool()
        size = ctypes.c_size_t
        status = self._call(
            ctypes.c_void_p(self._window.ctypes.data),
            text,
            size(len(text)),
            pair,
            size(len(pair or b"")),
            ctypes.c_void_p(self._ids.ctypes.data),
            ctypes.byref(count),
            ctypes.byref(truncated),
        )
        return status, self._ids[: count.value].copy(), truncated.value


def write_sources(
    spec: TokenizerSpec, folder: Path, max_length: int, window: int | None = None, *, takes_text: bool = True
) -> list[Path]:
    """The tokenizer's C, with a header of no model, which says whether firmware takes texts; gives its C files."""
    nothing = Allocation("nothing", 0, 0, 0)
    program = Program(
        (),
        {},
        (),
        (),
        MemoryPlan((), 16, 16, 0),
        1,
        spec.vocabulary,
        max_length,
        Text(nothing, nothing) if takes_text else None,
    )
    for name, content in c_tokenizer.files(spec, "embbert", "tokenizer", window).items():
        (folder / name).write_bytes(content)
    (folder / "embbert.h").write_text(c_api.header(program, c_api.Interface("embbert", "tokenizer"), "no", 0))
    return [folder / "embbert_tokenizer.c"]


def pairs_of(path: Path) -> Iterator[tuple[str, str | None]]:
    """The texts of a file, each alone, and the pairs of a TSV that has them."""
    if read_columns(path) is None:
        yield from ((line.rstrip("\r\n"), None) for line in read_lines(path))
        return
    for example in read_examples(path):
        yield example.text, None
        if example.text_pair is not None:
            yield example.text_pair, None
            yield example.text, example.text_pair


def compare(
    spec: TokenizerSpec, host: HostTokenizer, texts: Iterable[tuple[str, str | None]]
) -> tuple[int, int, str | None]:
    """(texts, mismatches, the first text that differs)."""
    seen, wrong, first = 0, 0, None
    texts = iter(texts)
    while batch := list(islice(texts, BATCH)):
        texts_or_pairs = [a if b is None else (a, b) for a, b in batch]
        for (a, b), encoded in zip(batch, spec.tokenizer.encode_batch(texts_or_pairs), strict=True):
            expected = encoded.ids
            status, ids, truncated = host(a.encode(), None if b is None else b.encode())
            if status or truncated or ids.tolist() != expected:
                wrong += 1
                first = a if first is None else first
        seen += len(batch)
    return seen, wrong, first


def sections(spec: TokenizerSpec, cpu: Cpu, folder: Path) -> dict[str, int]:
    """Bytes of the tokenizer's object: code, tables, and data that would be RAM."""
    sources = write_sources(spec, folder, 256)
    flags = [*FLAGS, *cpu.cflags, *cpu.optimize, "-ffunction-sections"]
    call(cpu, "gcc", [*flags, "-c", sources[0], "-o", folder / "tokenizer.o"], "the tokenizer")
    found = {"code": 0, "tables": 0, "static": 0}
    for line in call(cpu, "size", ["-A", "-d", folder / "tokenizer.o"], "sections").splitlines():
        words = line.split()
        if len(words) == 3 and words[0].startswith("."):
            kind = {"text": "code", "rodata": "tables", "data": "static", "bss": "static"}.get(words[0].split(".")[1])
            if kind:
                found[kind] += int(words[1])
    return found


def count(spec: TokenizerSpec, cpu: Cpu, texts: Sequence[str], folder: Path) -> tuple[int, int]:
    """(instructions, characters) of tokenizing texts, a call each, in QEMU."""
    encoded = [text.encode()[:MOST_BYTES] for text in texts]
    write_sources(spec, folder, 4096, takes_text=False)
    model = substitute(
        _MODEL,
        "embbert",
        texts=",\n".join(c_string(text.decode("utf-8", "ignore")) for text in encoded),
        lengths=", ".join(str(len(text.decode("utf-8", "ignore").encode())) for text in encoded),
    )
    # No model, hence nothing that the firmware could check or run in slices.
    header = folder / "embbert.h"
    header.write_text(header.read_text().replace("#define EMBBERT_API 2", "#define EMBBERT_API 1"))
    (folder / "model.c").write_text(model)
    metadata = {
        "format": "embbert-tvm 1",
        "model_name": "tokenizer",
        "hash": f"{0:08x}",
        "target": cpu.name,
        "precision": "int8",
        "max_length": 4096,
        "labels": None,
        "classes": 1,
        "vocabulary": spec.vocabulary,
        "arena": {"bytes": 16, "align": 16, "tensors": []},
        "weights_bytes": 0,
        "operators": [],
        "steps": [],
        "sources": ["model.c", "embbert_tokenizer.c"],
        "includes": ["."],
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    instructions = 0
    with open_place("qemu", load_package(folder)) as device:
        for number, text in enumerate(encoded):
            found = device.run([number])
            expected = len(spec.tokenizer.encode(text.decode("utf-8", "ignore")).ids)
            if int(found.logits[0]) != expected:
                raise AssertionError(f"text {number}: {found.logits[0]} tokens, not {expected}")
            instructions += found.instructions or 0
    return instructions, sum(len(text.decode("utf-8", "ignore")) for text in encoded)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", nargs="+", type=Path)
    parser.add_argument("--tokenizer", type=Path, default=resource("models") / "tokenizer.json")
    parser.add_argument("--cpu", default="cortex-m4")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    spec, cpu = read_spec(options.tokenizer), load_cpu(options.cpu)
    report: dict[str, Any] = {"tokenizer": options.tokenizer.name, "cpu": cpu.name, "files": []}
    with tempfile.TemporaryDirectory(prefix="embbert-") as name:
        folder = Path(name)
        host = HostTokenizer(spec, folder)
        for path in options.path:
            lines, wrong, first = compare(spec, host, pairs_of(path))
            report["files"].append({"path": "/".join(path.parts[-2:]), "lines": lines, "mismatches": wrong})
            print(f"{path}: {lines:,} texts, {wrong:,} mismatches", file=sys.stderr, flush=True)
            if first is not None:
                print(f"  the first: {first!r}", file=sys.stderr)
        find_tool(cpu, "gcc")
        sizes = sections(spec, cpu, folder)
        report |= {
            "flash_bytes": sizes["code"] + sizes["tables"],
            **sizes,
            "window_bytes": c_tokenizer.window_bytes(spec),
        }
        each = -(-TEXTS // min(2, len(options.path)))
        texts = [t for path in options.path[:2] for t, _ in islice(pairs_of(path), each) if t.strip()]
        instructions, characters = count(spec, cpu, texts, folder)
        report |= {"texts": len(texts), "characters": characters, "instructions": instructions}
        report["instructions_per_character"] = round(instructions / characters, 1)
    if options.json:
        print(json.dumps(report))
        return
    every = [sum(f[key] for f in report["files"]) for key in ("lines", "mismatches")]
    print(f"{every[0]:,} texts, {every[1]:,} mismatches")
    print(
        f"{cpu.name}: {report['flash_bytes']:,} bytes of flash (code {sizes['code']:,}, tables {sizes['tables']:,}), "
        f"static RAM {sizes['static']}, {report['window_bytes']:,} bytes of the arena"
    )
    print(
        f"{report['instructions_per_character']} instructions a character over {len(texts)} texts "
        f"of {characters:,} characters"
    )


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"tokenizer: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
