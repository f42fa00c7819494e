"""Kinds of small text models times the exporters that make ONNX of them: what compiles, and how it answers.

    python benchmarks/hub.py [--kinds bert,gru] [--exporters folder,dynamo] [--texts 200] [--int8] [--work FILE]
    python benchmarks/hub.py --data TRAIN.tsv --int8            # the same, each trained briefly on that set first

--work keeps each row as a line of JSON, under the options it was made with: what was interrupted goes on where it was.
A row for each kind and exporter: whether it compiles at fp32; agreement with onnxruntime on random texts (and on as
many of the set's), by labels, of many labels by each, of tokens by each token, of vectors by the mean cosine, of values
by their ranks; how far logits are apart, of the largest; with --int8 how many operators run in integers, and agreement
then, calibrated on some of these texts, evenly from all. The models are those of tests/hub, made from configurations
with fixed seeds; what is compiled is TVM's LLVM build of what is printed as C. Needs the tests' packages.

    python benchmarks/hub.py --onnx FILE [--int8] [--files FOLDER]

The same for an ONNX file of one's own. FOLDER has files whose bytes are texts, for a model of bytes such as Magika's:
as its package does, the first and the last of them without white space at the ends, each filled up to half the length.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.data.metrics import softmax
from embbert_tvm.device.validate import scoring_of
from embbert_tvm.errors import EmbbertError
from embbert_tvm.graph.attributes import account_of
from embbert_tvm.graph.calibrate import calibrate
from embbert_tvm.graph.door import Door, normalize
from embbert_tvm.graph.door.endings import SIGMOID, SOFTMAX
from embbert_tvm.graph.door.inputs import meaning_of
from embbert_tvm.graph.door.probe import IDS
from embbert_tvm.graph.import_onnx import import_onnx, load_onnx
from embbert_tvm.graph.pipeline import quantized, run, simplify
from embbert_tvm.graph.precision import named_plan
from embbert_tvm.heads import ONE_LABEL, TOKENS
from embbert_tvm.table import table

# In the place of this folder, whose kernels.py transformers would take for a library of that name.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests" / "hub")

CALIBRATION = 64
LARGE = 1 << 20  # bytes of a model that is worth LLVM's time
BLOCK, NO_BYTE = 4096, 256  # bytes that Magika's package reads at each end; its filling
ENDINGS = {None: lambda logits: logits, SOFTMAX: softmax, SIGMOID: lambda logits: 1 / (1 + np.exp(-logits))}
HEAD = ("kind", "exporter", "compiles", "agreement", "logits apart", "in integers", "agreement, int8")
SKIPPED = ("", "", "", "")


@contextmanager
def without_warnings_of_tvm() -> Iterator[None]:
    """TVM's C++ writes warnings past Python's stderr."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@dataclass(frozen=True)
class Texts:
    """Token ids, and what onnxruntime makes of each: (classes,), of tokens (tokens, classes). ending: what makes that
    of logits."""

    ids: list[np.ndarray]
    answers: list[np.ndarray]
    head: str
    ending: Callable[[np.ndarray], np.ndarray]


def texts(given: onnx.ModelProto, door: Door, vocabulary: int, count: int, real: list[list[int]], head: str) -> Texts:
    """Random texts of all lengths that a model takes, and real ones. Other inputs are masks of ones and types of 0."""
    session, rng = onnxruntime.InferenceSession(given.SerializeToString()), np.random.default_rng(0)
    meaning = meaning_of(given.graph).of
    kinds = {i.name: np.int32 if "int32" in i.type else np.int64 for i in session.get_inputs()}
    longest = min(door.most or 63, 64) if door.least != door.most else door.least
    ids = [rng.integers(0, vocabulary, (1, int(n))) for n in rng.integers(door.least, longest + 1, count)]
    ids += [np.array([one[:longest]]) for one in real if len(one[:longest]) >= door.least]
    answers = []
    for one in ids:
        made = {IDS: one, "mask": np.ones_like(one), "types": 0 * one, "positions": np.arange(one.size)[None]}
        feeds = {name: made[meaning[name]].astype(kind) for name, kind in kinds.items()}
        found = session.run(None, feeds)[0]
        answers.append(found[0] if head == TOKENS else found.reshape(-1))
    return Texts(ids, answers, head, ENDINGS[door.ending])


def bytes_of(path: Path, length: int) -> list[int]:
    """A file's bytes as Magika's package gives them to its model: the first block and the last one."""
    half, content = length // 2, path.read_bytes()
    first, last = content[:BLOCK].lstrip()[:half], content[-BLOCK:].rstrip()[-half:]
    padding = [NO_BYTE] * length
    return [*first, *padding[: half - len(first)], *padding[: half - len(last)], *last]


def compared(answer: Callable, found: Texts) -> tuple[str, str]:
    """Agreement, and the largest difference of logits, of the largest logit of all texts; of a model that ended in
    scores, which the C makes of the logits, the same of scores."""
    got = [
        found.ending(answer(ids[0].tolist()).reshape(expected.shape))
        for ids, expected in zip(found.ids, found.answers, strict=True)
    ]
    scoring = scoring_of(found.head, [str(n) for n in range(found.answers[0].shape[-1])])
    agreement = scoring.agree(scoring.predict(found.answers), scoring.predict(got))
    largest = max(float(np.abs(expected).max()) for expected in found.answers)
    apart = max(float(np.abs(a - b).max()) for a, b in zip(got, found.answers, strict=True))
    shown = f"{agreement:.4f}" if scoring.metric in (None, "spearman") and found.head != TOKENS else f"{agreement:.1%}"
    return shown, f"{apart / max(largest, 1e-6):.1e}"


def in_integers(mod, found: Texts) -> tuple[str, str]:
    """How many operators the quantizer has in integers, and agreement."""
    # Of all lengths: what a mean over few rows reaches, one over many does not.
    some = [ids[0].tolist() for ids in found.ids[:: max(1, len(found.ids) // CALIBRATION)]]
    made = run((quantized(named_plan("int8"), calibrate(mod, some, "benchmark")),), mod)
    kinds = Counter(c.precision for c in account_of(made).choices)
    integers = sum(count for kind, count in kinds.items() if not kind.startswith("float"))
    return f"{integers} of {sum(kinds.values())}", compared(llvm_runner(made, optimized=False), found)[0]


def row(given: onnx.ModelProto, vocabulary: int, count: int, real: list[list[int]], head: str, int8: bool) -> tuple:
    """The row of one model behind its name."""
    try:
        with without_warnings_of_tvm():
            door = normalize(given)
            mod = simplify(import_onnx(door.model))
            found = texts(given, door, vocabulary, count, real, head)
            agreement = compared(llvm_runner(mod, given.ByteSize() > LARGE), found)
    except EmbbertError as error:
        return (f"no: {error}"[:70], *SKIPPED)
    if not int8:
        return ("yes", *agreement, "", "")
    try:
        with without_warnings_of_tvm():
            return ("yes", *agreement, *in_integers(mod, found))
    except EmbbertError as error:
        return ("yes", *agreement, f"no: {error}"[:70], "")


def trained(kind: str, size, data: Path, steps: int) -> list[list[int]]:
    """Train the model of a kind on a labelled set; ids of texts that it has not seen."""
    import kinds
    from brief import train_briefly

    model = kinds.model(kind, size)
    return train_briefly(model, kinds.KINDS[kind], size, data, steps)


@dataclass
class Kept:
    """Rows that were made before, by kind, exporter and what they were made with. path: None where none are kept."""

    path: Path | None
    options: list

    def __post_init__(self) -> None:
        there = self.path is not None and self.path.is_file()
        lines = [json.loads(line) for line in self.path.read_text().splitlines()] if there else []
        self._rows = {tuple(row[:2]): tuple(row) for options, row in lines if options == self.options}

    def get(self, kind: str, exporter: str) -> tuple | None:
        return self._rows.get((kind, exporter))

    def add(self, row: tuple) -> None:
        self._rows[row[:2]] = row
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps([self.options, row]) + "\n")


def of_file(args: argparse.Namespace) -> tuple:
    """The row of an ONNX file of one's own."""
    given = load_onnx(args.onnx)
    door = normalize(given)
    head = ONE_LABEL if door.head != TOKENS else TOKENS
    found = sorted(p for p in args.files.rglob("*") if p.is_file() and p.stat().st_size) if args.files else []
    real = [bytes_of(path, door.most or 64) for path in found[:: max(1, len(found) // args.texts)][: args.texts]]
    return (args.onnx.name, "file", *row(given, 200, args.texts, real, head, args.int8))


def of_kinds(args: argparse.Namespace) -> Iterator[tuple]:
    """The rows of the requested kinds and exporters."""
    import exports
    import kinds
    import torch

    torch.set_num_threads(1)
    size = kinds.TINY if args.data is None else kinds.Size(2000, 64)
    wanted = args.exporters.split(",") if args.exporters else [exports.FOLDER, *exports.EXPORTERS]
    kept = Kept(args.work, [args.texts, args.int8, args.data and str(args.data), args.steps])
    for kind in args.kinds.split(",") if args.kinds else kinds.KINDS:
        missing = any(kept.get(kind, exporter) is None for exporter in wanted)
        real = trained(kind, size, args.data, args.steps)[: args.texts] if missing and args.data is not None else []
        for exporter in wanted:
            if kept.get(kind, exporter) is None:
                try:
                    made = exports.made_by(exporter, kind, size)
                except ValueError as error:
                    kept.add((kind, exporter, f"no: {error}", *SKIPPED))
                else:
                    head = kinds.KINDS[kind].head
                    kept.add((kind, exporter, *row(made, size.vocabulary, args.texts, real, head, args.int8)))
                print(*kept.get(kind, exporter), sep="\t", file=sys.stderr, flush=True)
            yield kept.get(kind, exporter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds")
    parser.add_argument("--exporters")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--files", type=Path)
    args = parser.parse_args()
    rows = [of_file(args)] if args.onnx is not None else list(of_kinds(args))
    print(table([HEAD, *rows]))


if __name__ == "__main__":
    main()
