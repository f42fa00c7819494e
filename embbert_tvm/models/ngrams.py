"""`ngrams`: hashed n-grams with a linear classifier, int8, in its folder on disk. No torch.

The logits of a text whose n-grams fall in the buckets b1..bn (embbert_tvm/data/ngrams.py) are

    bias + (table[b1] + ... + table[bn]) * (scale * 4096 / floor(sqrt(n * 2**24)))

the sum and the root in integers, the rest in float32, each operation rounded; of two classes the table has one column
z, and the logits are -z/2 and z/2. Where there is a projection (rank, classes) the table has `rank` columns, and what
the scaled sum gives is multiplied by it, a column after the other. codegen/c_ngrams.py writes the same in C.

A table of signs is not stored: of its 4 C^2 rows of C columns each has a -1 or 1 in two columns, which the bucket's
number spells, and each such row is there once. The sums are then a random projection of the bag of n-grams (a count
sketch of two hashes), whose inner products are about those of the bags.
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
NEXT_TEXT = 256  # among the bytes of a text as ids: the second text of a pair begins
VOCABULARY = 257
_FILES = ("config.json", "model.safetensors")


@dataclass(frozen=True)
class NgramModel:
    """A linear classifier of hashed n-grams. `table` int8 (buckets, columns), `bias` float32 (outputs,).

    `projection` is int8 (columns, outputs), or None where each column is an output. Without a table the rows are signs
    (`sketch` makes such a model), there is no projection, and no labels either.
    """

    features: NgramFeatures
    labels: tuple[str, ...]
    table: np.ndarray | None
    scale: float
    bias: np.ndarray
    projection: np.ndarray | None = None

    @property
    def bytes(self) -> int:
        """What the table, the projection and the bias take in flash."""
        return sum(0 if array is None else array.nbytes for array in (self.table, self.bias, self.projection))

    @property
    def columns(self) -> int:
        """Numbers of a row."""
        return len(self.bias) if self.table is None else int(self.table.shape[1])

    def rows(self, buckets: np.ndarray) -> np.ndarray:
        """The rows of buckets (n,), int8 (n, columns)."""
        return sign_rows(buckets, self.columns) if self.table is None else self.table[buckets]

    def added_to(self, logits: np.ndarray, text: str, pair: str | None = None) -> np.ndarray:
        """A model's flat logits of a text, those of its first head with what the n-grams say."""
        found, more = logits.copy(), self.logits([text], [pair])[0]
        found[: len(more)] += more
        return found

    def logits(self, texts: Sequence[str], pairs: Sequence[str | None] | None = None) -> np.ndarray:
        """(N, classes) float32."""
        return self.logits_of(hash_texts(self.features, texts, pairs))

    def logits_of_bytes(self, ids: Sequence[int]) -> np.ndarray:
        """(classes,) float32 of the bytes of a text, `NEXT_TEXT` before those of its second one."""
        texts: list[list[int]] = [[]]
        for i in ids:
            if i == NEXT_TEXT:
                texts.append([])
            else:
                texts[-1].append(i)
        first, *others = (bytes(text).decode("utf-8", "replace") for text in texts)
        bags = [hash_texts(self.features, [first]), *(hash_texts(self.features, [""], [x]) for x in others)]
        buckets = np.concatenate([bag.buckets for bag in bags])
        logits: np.ndarray = self.logits_of(Bags(buckets, np.array([0, len(buckets)])))[0]
        return logits

    def logits_of(self, bags: Bags) -> np.ndarray:
        """(N, classes) float32 of texts whose features are known."""
        sums = np.zeros((len(bags), self.columns), np.int32)
        for i in range(len(bags)):
            sums[i] = self.rows(bags.of(i)).sum(0, dtype=np.int32)
        counts = np.maximum(np.diff(bags.starts), 1)
        roots = np.array([math.isqrt(int(n) << 24) for n in counts], np.float32)
        factors = np.float32(np.float32(self.scale) * np.float32(4096)) / roots
        z = sums.astype(np.float32) * factors[:, None]
        z = z + self.bias if self.projection is None else self._projected(z, self.projection)
        return np.concatenate([-z / 2, z / 2], 1) if len(self.labels) == 2 else z

    def _projected(self, columns: np.ndarray, projection: np.ndarray) -> np.ndarray:
        z = np.repeat(self.bias[None], len(columns), 0)
        for column, row in zip(columns.T, projection.astype(np.float32), strict=True):
            z = z + column[:, None] * row
        return z

    def scaled(self, weight: float) -> NgramModel:
        """The model whose logits are `weight` times these."""
        factor = np.float32(weight)
        return dataclasses.replace(self, scale=float(np.float32(self.scale) * factor), bias=self.bias * factor)

    def files(self, name: str) -> dict[str, bytes]:
        """config.json and model.safetensors. name: the model's."""
        document = {
            "architecture": ARCHITECTURE,
            "config": dataclasses.asdict(self.features),
            "labels": list(self.labels),
            "name": name,
        }
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        tensors = {"scale": np.array([self.scale], np.float32), "bias": self.bias}
        tensors |= {} if self.table is None else {"table": self.table}
        tensors |= {} if self.projection is None else {"projection": self.projection}
        return dict(zip(_FILES, (text.encode("utf-8"), save(tensors)), strict=True))

    def save(self, path: Path, name: str | None = None) -> None:
        """Write config.json and model.safetensors. name: the model's, else the folder's."""
        Path(path).mkdir(parents=True, exist_ok=True)
        for file, content in self.files(name or Path(path).resolve().name).items():
            write_atomically(Path(path) / file, content)


@dataclass(frozen=True)
class NgramFolder:
    """An `ngrams` model on disk, with what a ModelFolder tells too."""

    path: Path
    name: str
    model: NgramModel

    @property
    def labels(self) -> tuple[str, ...]:
        return self.model.labels

    @property
    def classes(self) -> int:
        return len(self.model.labels)


def sketch(columns: int, scale: float, features: NgramFeatures | None = None) -> NgramModel:
    """A model whose rows are signs. The length of its logits is about `scale` sqrt(2), whatever the text's.

    features: which n-grams are hashed, as `NgramFeatures`; how many buckets follows from the columns.
    """
    kinds = features or NgramFeatures(1)
    hashed = NgramFeatures(4 * columns**2, kinds.words, kinds.shortest, kinds.longest)
    return NgramModel(hashed, (), None, scale, np.zeros(columns, np.float32))


def sign_rows(buckets: np.ndarray, columns: int) -> np.ndarray:
    """The rows (n, columns), int8, that the numbers of buckets (n,) below 4 columns^2 spell: two signs, two places."""
    rest, first = np.divmod(buckets, columns)
    signs, second = np.divmod(rest, columns)
    found = np.zeros((len(buckets), columns), np.int8)
    at = np.arange(len(buckets))
    found[at, first] = 1 - 2 * (signs & 1)
    found[at, second] += (1 - 2 * (signs >> 1)).astype(np.int8)
    return found


def relabelled(model: NgramModel, labels: tuple[str, ...]) -> NgramModel:
    """The model with other names of its classes; InputError for another number of them."""
    if len(labels) != len(model.labels):
        raise InputError(f"--labels: names {len(labels)} classes, the model has {len(model.labels)}")
    return dataclasses.replace(model, labels=labels)


def outputs_of(classes: int) -> int:
    """Outputs of the linear map: one of two classes."""
    return classes if classes > 2 else 1


def is_ngram_folder(path: Path) -> bool:
    """Whether a folder holds an `ngrams` model."""
    try:
        document = json.loads((Path(path) / _FILES[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("architecture") == ARCHITECTURE


def read_ngram_folder(path: Path) -> NgramFolder:
    """The `ngrams` model of a folder with its name. Raises InputError where it is none."""
    model = load_ngram_model(path)
    if model.table is None:
        raise InputError(f"{path}: is what the n-grams add to a text's vector, and no model of its own")
    name = json.loads((Path(path) / _FILES[0]).read_text(encoding="utf-8")).get("name")
    return NgramFolder(Path(path), name if isinstance(name, str) and name else Path(path).resolve().name, model)


def load_ngram_model(path: Path) -> NgramModel:
    """The model of a folder. Raises InputError where it is none."""
    config, weights = (Path(path) / name for name in _FILES)
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
        scale, bias = float(tensors["scale"][0]), tensors["bias"]
        table = tensors["table"] if labels or "table" in tensors else None
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not a model of n-grams ({error!r} is missing or wrong)") from error
    named = len(labels) >= 2 and len(set(labels)) == len(labels) and all(isinstance(x, str) and x for x in labels)
    if table is not None and not named:
        raise InputError(f"{config}: labels must be a list of two or more different strings")
    model = NgramModel(features, labels, table, scale, bias, tensors.get("projection"))
    _check_shapes(model, weights)
    return model


def _check_shapes(model: NgramModel, weights: Path) -> None:
    """InputError where the tensors do not fit what config.json says, or are not numbers."""
    table, projection, buckets = model.table, model.projection, model.features.buckets
    outputs = len(model.bias) if table is None else outputs_of(len(model.labels))
    columns = outputs if projection is None else len(projection)
    fits = model.bias.dtype == np.float32 and model.bias.shape == (outputs,)
    fits = fits and (projection is None or (projection.dtype == np.int8 and projection.shape == (columns, outputs)))
    if table is None:
        asked = f"{4 * columns**2} buckets of signs"
        fits = fits and projection is None and buckets == 4 * columns**2
    else:
        asked = f"an int8 table of {(buckets, columns)}"
        fits = fits and table.dtype == np.int8 and table.shape == (buckets, columns)
    if not fits or not np.isfinite(model.bias).all() or not np.isfinite(model.scale):
        raise InputError(f"{weights}: its tensors do not fit config.json, which asks for {asked}")
