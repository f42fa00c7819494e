"""Weigh models and hashed n-grams anew, as `train` does at its end, without training the models again.

    python benchmarks/stack.py RUNS/nlu-0 RUNS/nlu-1 --data RUNS/data/nlu [--ngram-bytes 400000] -o STACKED

takes model folders that were trained with --no-wide or before the weights of both were fitted, fits the n-grams once on
DATA/train.tsv.xz and both weights of each model on DATA/dev.tsv.xz, and writes the models that dev prefers to STACKED.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.files import folder_in_place
from embbert_tvm.graph.onnx_export import export_folder
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.training.candidates import Limits, median_text
from embbert_tvm.training.evaluate import Texts, float_runner, run_all
from embbert_tvm.training.job import calibrate
from embbert_tvm.training.linear import fit_ngrams
from embbert_tvm.training.recipe import NGRAM_BYTES
from embbert_tvm.training.record import read_record, write_record
from embbert_tvm.training.selection import Criteria, select, variants_of, weigh_head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of train.tsv.xz and dev.tsv.xz")
    parser.add_argument("--ngram-bytes", type=int, default=NGRAM_BYTES)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the models")
    args = parser.parse_args()
    train, dev = (read_examples(args.data / f"{name}.tsv.xz") for name in ("train", "dev"))
    labels = read_folder(args.models[0]).labels
    assert labels is not None
    baseline = fit_ngrams(train, dev, labels, table_bytes=args.ngram_bytes)
    expected = np.array([labels.index(x.label) for x in dev])
    criteria = Criteria(Limits(), None, median_text(dev))
    features = baseline.model.features
    print(f"n-grams, {baseline.model.bytes:,} bytes, characters up to {features.longest}: {baseline.dev_accuracy:.4f}")
    for path in args.models:
        folder = read_folder(path)
        assert folder.labels == labels
        logits = run_all(float_runner(folder), Texts.of(folder, dev).ids)
        variants = variants_of(folder.config.title, logits, expected, baseline, None)
        model = load_classifier(folder)
        weigh_head(model, variants, None)
        record = read_record(path)
        with folder_in_place(args.output / path.name) as place:
            written = model.save_pretrained(place, name=folder.name, labels=labels, tokenizer=folder.tokenizer)
            export_folder(written)
            write_record(place, record)
            calibrate(written, dev)
            chosen, _ = select(place, folder.name, variants, criteria)
            write_record(place, dataclasses.replace(record, wide_weight=chosen.weight))
            weights = (
                "alone" if chosen.weight is None else f"{chosen.own_weight:g} and {chosen.weight:g} times the n-grams"
            )
            alone, together = (v.candidate.accuracy for v in variants[1:])
            told = f"dev {alone:.4f}, with n-grams {together:.4f}; kept {weights}"
            card = (path / "README.md").read_text(encoding="utf-8").rstrip()
            (place / "README.md").write_text(
                f"{card}\n\nWeighed anew by benchmarks/stack.py: {told}.\n", encoding="utf-8"
            )
        print(f"{path.name}: {told}", flush=True)


if __name__ == "__main__":
    main()
