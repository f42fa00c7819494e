"""Instructions of single kernels in QEMU: an int8 product, softmax, a depthwise filter.

    python benchmarks/kernels.py [--cpu cortex-m7 ...] [--json]

The kernels are those that a compiled EmbBERT runs, each alone in a firmware: the product 256 x 128 x 128 with
requantization and the softmax of 256 rows are stages of row-block kernels, the filter is the one along the text (32
taps, 128 channels, its activation included).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from instructions import missing
from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.codegen import c_files
from embbert_tvm.codegen.c_expressions import C_TYPES
from embbert_tvm.codegen.c_function import CFunction, c_function
from embbert_tvm.codegen.lower import schedule, to_loops
from embbert_tvm.codegen.plan import solve
from embbert_tvm.codegen.steps import Program
from embbert_tvm.device.package import load_package
from embbert_tvm.device.profile import profile
from embbert_tvm.errors import EmbbertError
from embbert_tvm.kernels import micro
from embbert_tvm.kernels.attention import ENTRIES, exp_table
from embbert_tvm.kernels.builder import argument, length, loop, prim_func, tokens, workspace
from embbert_tvm.kernels.isa import Isa, isa_of
from embbert_tvm.kernels.isa.base import Destination
from embbert_tvm.kernels.layouts import INTERLEAVE, ROWS
from embbert_tvm.kernels.low_bits import COMPRESSED, FORMATS, UNCOMPRESSED, WeightFormat, constants, widened
from embbert_tvm.kernels.row_block import weights
from embbert_tvm.kernels.row_block.filter import filter_along_text
from embbert_tvm.table import table
from embbert_tvm.target import Cpu, load_cpu

ROWS_OF_TEXT, WIDTH, TAPS = 256, 128, 32
CPUS = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")


def product(isa: Isa, weight_format: WeightFormat | None = None) -> tirx.PrimFunc:
    """The queries of EmbBERT's layer: a block operand, of y int8 (pairs, width, 2). weight_format: of the
    weights where they are codes."""
    bias_dtype, scale_dtype = UNCOMPRESSED if weight_format is None else COMPRESSED

    def body() -> None:
        pairs = length("M")
        y = argument("y", (pairs, WIDTH, INTERLEAVE), "int8")
        declared = weights.declare(WIDTH, WIDTH, weight_format, None)
        bias, multiplier = constants("bias", (WIDTH,), bias_dtype), constants("multiplier", (WIDTH,), scale_dtype)
        out = argument("out", isa.shape(WIDTH), isa.operand_dtype)
        with T.sblock("product"):
            left = workspace("left", isa.shape(WIDTH), isa.operand_dtype)
            sums = workspace("sums", isa.shape(WIDTH), "int32")
            weight = weights.matrix(declared, None if weight_format is None else weights.tile_of(WIDTH), WIDTH, None)
            bias, multiplier = widened(isa.fills_blocks, bias), widened(isa.fills_blocks, multiplier)
            with loop("b", pairs // 2) as b:
                isa.load(left, y, b * 2, WIDTH)
                isa.requantize(Destination(isa, out), sums, left, weight, WIDTH, bias, None, multiplier, None)

    return prim_func("product", body, compact=False)


def softmax(isa: Isa) -> tirx.PrimFunc:
    """The softmax of EmbBERT's layer, of as many rows as the text has tokens."""

    def body() -> None:
        count, pairs = tokens(), length("M")
        score = argument("score", isa.shape(pairs * INTERLEAVE), "int32")
        found = argument("weights", isa.shape(pairs * INTERLEAVE), isa.operand_dtype)
        exp = argument("exp", (ENTRIES,), "int8")
        step, ratio = argument("step", (1,), "int32"), argument("ratio", (1,), "int32")
        with T.sblock("softmax"):
            factor = workspace("factor", (ROWS,), "int32")
            with loop("b", pairs // 2):
                isa.softmax(found, factor, score, exp, step[0], ratio[0], count)

    return prim_func("softmax", body, compact=False)


@dataclass(frozen=True)
class Figure:
    """A kernel, what it does (of what it is counted), and what was asked of it: `per` of these an instruction, or
    instructions for one."""

    name: str
    make: Callable[[Isa], tirx.PrimFunc]
    work: int
    unit: str
    asked: dict[str, float]


FIGURES = (
    Figure(
        "product 256x128x128, requantized",
        product,
        ROWS_OF_TEXT * WIDTH * WIDTH,
        "MAC/instruction",
        {"cortex-m4": 0.95, "cortex-m7": 0.95, "cortex-m55": 5},
    ),
    Figure(
        "product 256x128x128, int4 in blocks of 64",
        lambda isa: product(isa, FORMATS["int4b64"]),
        ROWS_OF_TEXT * WIDTH * WIDTH,
        "MAC/instruction",
        {},
    ),
    Figure(
        "softmax of 256 rows",
        softmax,
        ROWS_OF_TEXT * ROWS_OF_TEXT,
        "instructions/element",
        {"cortex-m4": 15, "cortex-m55": 4},
    ),
    Figure(
        "depthwise filter, 32 taps",
        lambda isa: filter_along_text(TAPS, WIDTH, isa),
        ROWS_OF_TEXT * WIDTH * TAPS,
        "MAC/instruction",
        {"cortex-m4": 0.6, "cortex-m7": 0.6, "cortex-m55": 3},
    ),
)

MODEL_HEADER = f"""\
#ifndef EMBBERT_H
#define EMBBERT_H
#include <stddef.h>
#include <stdint.h>
#define EMBBERT_MAX_LENGTH {ROWS_OF_TEXT}
#define EMBBERT_CLASSES 1
#define EMBBERT_VOCABULARY 2
#define EMBBERT_ARENA_BYTES 16u
#define EMBBERT_ARENA_ALIGN 16
#define EMBBERT_HASH 0u
typedef enum {{ EMBBERT_OK = 0, EMBBERT_E_ARGUMENT, EMBBERT_E_LENGTH, EMBBERT_E_TOKEN }} embbert_status_t;
typedef struct {{ uint8_t *arena; }} embbert_t;
embbert_status_t embbert_init(embbert_t *model, void *arena, size_t bytes);
embbert_status_t embbert_run(embbert_t *model, const int32_t *ids, size_t n, float *logits);
#endif
"""

_MODEL = """\
#include "embbert.h"
#include "embbert_kernels.h"

#ifdef EMBBERT_PROFILE
void embbert_step(int32_t step);
#else
static void embbert_step(int32_t step) {{ (void)step; }}
#endif

{arrays}

static void fill(void *bytes, size_t n)
{{
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {{
        state = state * 1664525u + 1013904223u;
        ((uint8_t *)bytes)[i] = (uint8_t)(state >> 24);
    }}
}}

embbert_status_t embbert_init(embbert_t *model, void *arena, size_t bytes)
{{
    (void)bytes;
    model->arena = arena;
{fills}
    return EMBBERT_OK;
}}

embbert_status_t embbert_run(embbert_t *model, const int32_t *ids, size_t n, float *logits)
{{
    (void)model, (void)ids;
    embbert_step(0);
{calls}
    logits[0] = (float)n;
    return EMBBERT_OK;
}}
"""


def _elements(shape: tuple) -> int:
    """Elements of a buffer at ROWS_OF_TEXT tokens."""
    return int(np.prod([int(d) if isinstance(d, (int, tirx.IntImm)) else _bound(d) for d in shape]))


def _bound(dim) -> int:
    from tvm import sym

    analyzer = sym.Analyzer()
    for var in tirx.analysis.undefined_vars(dim) if not isinstance(dim, tirx.Var) else [dim]:
        analyzer.bind(var, tirx.const({"L": ROWS_OF_TEXT, "M": ROWS_OF_TEXT // 2}[var.name], str(var.ty.dtype)))
    return int(analyzer.simplify(dim))


def package(cpu: Cpu, isa: Isa, folder: Path) -> Path:
    """A package whose steps are the kernels; step 0 is nothing."""
    functions: list[CFunction] = []
    arrays, fills, calls = [], [], []
    for number, figure in enumerate(FIGURES, 1):
        function = c_function(to_loops(schedule(figure.make(isa)), f"k{number}"), f"embbert_k{number}")
        functions.append(function)
        scalars = [str({"L": ROWS_OF_TEXT, "M": ROWS_OF_TEXT // 2}[s.name]) for s in function.scalars]
        names = []
        for buffer in (*function.buffers, *function.workspaces):
            name = f"k{number}_{buffer.name}"
            names.append(name)
            aligned = "__attribute__((aligned(16)))"
            if buffer.name == "exp":
                values = ", ".join(map(str, exp_table().tolist()))
                arrays.append(f"static const int8_t {name}[{ENTRIES}] {aligned} = {{{values}}};")
            else:
                arrays.append(f"static {C_TYPES[buffer.dtype]} {name}[{_elements(buffer.shape)}] {aligned};")
                fills.append(f"    fill({name}, sizeof {name});")
        calls.append(f"    {function.name}({', '.join([*scalars, *names])});\n    embbert_step({number});")
    program = Program(tuple(functions), {}, (), (), solve(()), 1, 2, ROWS_OF_TEXT)
    source = folder / "src"
    source.mkdir(parents=True)
    texts = {
        "embbert.h": MODEL_HEADER,
        "embbert_kernels.h": c_files.kernels_header(program, "kernels", cpu.features, "embbert"),
        "kernels.c": c_files.kernels(program, "kernels", "embbert"),
        "model.c": _MODEL.format(arrays="\n".join(arrays), fills="\n".join(fills), calls="\n".join(calls)),
    }
    for header in Path(micro.__file__).parent.glob("*.h"):
        texts[header.name] = header.read_text()
    for name, text in texts.items():
        (source / name).write_text(text)
    steps = ["start", *(f.name for f in FIGURES)]
    return write_metadata(folder, cpu.name, "kernels", steps, ["model.c", "kernels.c"], ["src"])


def write_metadata(
    folder: Path, cpu: str, name: str, steps: list[str], sources: list[str], includes: list[str]
) -> Path:
    """Make a package without a model of a folder. sources: of src/ there."""
    metadata = {
        "format": "embbert-tvm 1",
        "model_name": name,
        "target": cpu,
        "precision": "int8",
        "max_length": ROWS_OF_TEXT,
        "labels": None,
        "classes": 1,
        "vocabulary": 2,
        "arena": {"bytes": 16, "align": 16, "tensors": []},
        "weights_bytes": 0,
        "hash": "00000000",
        "operators": [],
        "steps": [{"name": step, "kernel": step, "macs": None} for step in steps],
        "sources": [f"src/{source}" for source in sources],
        "includes": includes,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


def measure(cpu: Cpu, folder: Path) -> list[dict]:
    """One row a kernel."""
    kernels = load_package(package(cpu, isa_of(cpu.features), folder))
    (found,) = profile(kernels, "qemu", [ROWS_OF_TEXT]).lengths
    rows = []
    for figure, layer in zip(FIGURES, found.layers[1:], strict=True):
        count = layer.instructions
        rate = count / figure.work if figure.unit.startswith("instructions") else figure.work / count
        asked = figure.asked.get(cpu.name)
        met = None if asked is None else rate <= asked if figure.unit.startswith("instructions") else rate >= asked
        row = {"cpu": cpu.name, "kernel": figure.name, "instructions": count, "rate": round(rate, 4)}
        rows.append(row | {"unit": figure.unit, "asked": asked, "met": met})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", nargs="+", default=CPUS, metavar="CPU", help=f"default: {' '.join(CPUS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="embbert-") as folder:
        for cpu in options.cpu:
            if why := missing(cpu):
                print(f"{cpu}: left out: {why}", file=sys.stderr)
                continue
            rows += measure(load_cpu(cpu), Path(folder) / cpu)
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    lines = [("CPU", "kernel", "instructions", "", "", "asked", "")]
    for row in rows:
        asked = "" if row["asked"] is None else f"{row['asked']:g}"
        met = {None: "", True: "met", False: "not met"}[row["met"]]
        lines.append(
            (row["cpu"], row["kernel"], f"{row['instructions']:,}", f"{row['rate']:.3f}", row["unit"], asked, met)
        )
    print(table(lines, right=(2, 3, 5)))
    print("\nCounted in QEMU: instructions, not cycles.")


if __name__ == "__main__":
    try:
        main()
    except EmbbertError as error:
        print(f"kernels: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
