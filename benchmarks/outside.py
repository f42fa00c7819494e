"""How a compiled model tells the texts of its task from texts that have none of its labels, on this machine's C.

    embbert-tvm reject models/mine --dev dev.tsv
    python benchmarks/outside.py models/mine --test test.tsv --outside others.tsv

compiles the model and prints ECE, AUROC by each score, and what the model's threshold keeps and accepts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from embbert_tvm.compiler import CompileOptions, compile_model, find_source
from embbert_tvm.data.dataset import Example, read_examples
from embbert_tvm.device.package import Package, load_package
from embbert_tvm.device.validate import logits_of
from embbert_tvm.models.folder import find_model
from embbert_tvm.models.ngrams import load_ngram_model
from embbert_tvm.rejection import ENERGY, MAX_SOFTMAX, Rejection, softmax
from embbert_tvm.report.confidence import text as report
from embbert_tvm.table import table
from embbert_tvm.target import load_cpu
from embbert_tvm.training.confidence import confidence, outside, outside_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--outside", type=Path, required=True)
    parser.add_argument("--precision", default="int8")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embbert-outside-") as scratch:
        source = find_source(find_model(options.model))
        out = Path(scratch) / "package"
        compile_model(source, load_cpu("host"), out, CompileOptions(precision=options.precision, experimental=True))
        package = load_package(out)
        test, others = read_examples(options.test), read_examples(options.outside)
        known, strange = values_of(package, test), values_of(package, others)
    labels = source.labels or ()
    expected = np.array([labels.index(x.label) if x.label in labels else len(labels) for x in test])
    rejection = package.rejection
    temperature = 1.0 if rejection is None else rejection.temperature
    logits, others_logits = known[:, : len(labels)], strange[:, : len(labels)]
    print(f"{source.name}, {options.precision}: accuracy {np.mean(logits.argmax(1) == expected):.4f}")
    shares = softmax(logits, temperature)
    print(report(confidence(shares, expected), outside_of(rejection, known, strange)))
    rows: list[tuple[str, ...]] = [("score", "AUROC", "accepted at 95 %")]
    kept = [Rejection(score, temperature, 0.0) for score in (MAX_SOFTMAX, ENERGY)]
    if rejection is not None and rejection.means:
        kept.append(rejection)
    for by in kept:
        pair = (known, strange) if by is rejection else (logits, others_logits)
        found = outside(*map(by.known, pair))
        rows.append((by.score, f"{found.auroc:.4f}", f"{100 * found.fpr_at_95_recall:.1f} %"))
    print(f"\n{table(rows, right=(1, 2))}")


def values_of(package: Package, examples: list[Example]) -> np.ndarray:
    """Logits (N, classes) of the package's C on this machine, and what else tells none of these."""
    parts = [package.split(one) for one in logits_of(package, examples)]
    rejection = package.rejection
    if rejection is None:
        return np.stack([one[0] for one in parts])
    values = np.stack([rejection.values(one, package.more) for one in parts])
    if not package.linear.is_dir():
        return values
    linear = load_ngram_model(package.linear).logits([x.text for x in examples], [x.text_pair for x in examples])
    return rejection.with_ngrams(values, linear)


if __name__ == "__main__":
    sys.exit(main())
