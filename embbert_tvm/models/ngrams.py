"""`ngrams`: hashed n-grams with a linear classifier, int8, in its folder on disk. No torch.

The logits of a text whose n-grams fall in the buckets b1..bn (embbert_tvm/data/ngrams.py) are

    bias + (table[b1] + ... + table[bn]) * (scale * 4096 / floor(sqrt(n * 2**24)))

the sum and the root in integers, the rest in float32, each operation rounded; of two classes the table has one column
z, and the logits are -z/2 and z/2. codegen/c_ngrams.py writes the same in C.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from embbert_tvm.data.files import write_atomically
from embbert_tvm.data.ngrams import Bags, NgramFeatures, hash_texts
from embbert_tvm.errors import InputError

ARCHITECTURE = "ngrams"


@dataclass(frozen=True)
class NgramModel:
    """A linear classifier of hashed n-grams. `table` int8 (buckets, columns), `bias` float32 (columns,)."""

    features: NgramFeatures
    labels: tuple[str, ...]
    table: np.ndarray
    scale: float
    bias: np.ndarray

    @property
    def columns(self) -> int:
        return columns_of(len(self.labels))

    @property
    def bytes(self) -> int:
        """What the table and the bias take in flash."""
        return self.table.nbytes + self.bias.nbytes

    def logits(self, texts: Sequence[str], pairs: Sequence[str | None] | None = None) -> np.ndarray:
        """(N, classes) float32."""
        return self.logits_of(hash_texts(self.features, texts, pairs))

    def logits_of(self, bags: Bags) -> np.ndarray:
        """(N, classes) float32 of texts whose features are known."""
        sums = np.zeros((len(bags), self.columns), np.int32)
        for i in range(len(bags)):
            sums[i] = self.table[bags.of(i)].sum(0, dtype=np.int32)
        counts = np.maximum(np.diff(bags.starts), 1)
        roots = np.array([math.isqrt(int(n) << 24) for n in counts], np.float32)
        factors = np.float32(np.float32(self.scale) * np.float32(4096)) / roots
        z = sums.astype(np.float32) * factors[:, None] + self.bias
        return np.concatenate([-z / 2, z / 2], 1) if self.columns == 1 else z

    def save(self, path: Path) -> None:
        """Write config.json and model.safetensors."""
        document = {
            "architecture": ARCHITECTURE,
            "config": dataclasses.asdict(self.features),
            "labels": list(self.labels),
            "name": Path(path).resolve().name,
        }
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        write_atomically(Path(path) / "config.json", text.encode("utf-8"))
        tensors = {"table": self.table, "scale": np.array([self.scale], np.float32), "bias": self.bias}
        write_atomically(Path(path) / "model.safetensors", save(tensors))


def columns_of(classes: int) -> int:
    """Columns of the table: one of two classes."""
    return classes if classes > 2 else 1


def load_ngram_model(path: Path) -> NgramModel:
    """The model of a folder. Raises InputError where it is none."""
    config, weights = Path(path) / "config.json", Path(path) / "model.safetensors"
    try:
        document = json.loads(config.read_text(encoding="utf-8"))
        tensors = load(weights.read_bytes())
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error
    except (ValueError, SafetensorError) as error:
        raise InputError(f"{path}: not a model of n-grams ({error})") from error
    try:
        if document["architecture"] != ARCHITECTURE:
            raise InputError(f"{config}: is of the architecture {document['architecture']!r}, not {ARCHITECTURE!r}")
        features, labels = NgramFeatures(**document["config"]), tuple(document["labels"])
        table, scale, bias = tensors["table"], float(tensors["scale"][0]), tensors["bias"]
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not a model of n-grams ({error!r} is missing or wrong)") from error
    shape = (features.buckets, columns_of(len(labels)))
    fits = table.dtype == np.int8 and table.shape == shape and bias.dtype == np.float32 and bias.shape == shape[1:]
    if not fits or not np.isfinite(bias).all() or not np.isfinite(scale):
        raise InputError(f"{weights}: its tensors do not fit config.json, which asks for an int8 table of {shape}")
    return NgramModel(features, labels, table, scale, bias)
