"""A classifier that an EmbBERT learns a task from: any transformers folder, or a model folder of ours."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from embbert_tvm.data.dataset import Example
from embbert_tvm.data.files import sha256_of, write_atomically
from embbert_tvm.data.tokenizer import tokenize
from embbert_tvm.errors import InputError
from embbert_tvm.models.folder import WIDE, read_folder
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.progress import over
from embbert_tvm.training.batches import TokenizedSet, in_order
from embbert_tvm.training.optimization import one_thread
from embbert_tvm.training.recipe import TeacherRecipe

_CHUNK = 2048  # texts between two saves
_BATCH = 64


class TaskTeacher(Protocol):
    """A classifier of `labels`, None for regression, which has one output.

    `answers` are (N, classes + width) float32: the logits in the order of the labels, and what they were read from.
    """

    labels: tuple[str, ...] | None

    def answers(self, examples: Sequence[Example]) -> np.ndarray: ...

    def fingerprint(self) -> str: ...


def open_teacher(folder: Path, longest: int = TeacherRecipe.longest) -> TaskTeacher:
    """The teacher in a folder; InputError where there is none that can be read."""
    folder = Path(folder)
    if (folder / "config.json").is_file():
        try:
            document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{folder / 'config.json'}: not JSON ({error})") from error
        if isinstance(document, dict):
            if "model_type" in document:
                return _TransformersClassifier(folder, longest)
            if "architecture" in document:
                return _FolderTeacher(folder)
    raise InputError(f"{folder}: neither a transformers classifier nor a model folder: what should teach?")


def architectures_of(folder: Path) -> list[str]:
    """The classes that a transformers folder names; none of any other."""
    try:
        found = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get("architectures")
    except (OSError, ValueError, AttributeError):
        return []
    return [str(name) for name in found] if isinstance(found, list) else []


def is_encoder(folder: Path) -> bool:
    """Whether a folder holds an encoder that has learned no task yet."""
    if (Path(folder) / "modules.json").is_file():
        return True
    heads = ("ForSequenceClassification", "ForTokenClassification")
    architectures = architectures_of(folder)
    return bool(architectures) and not any(name.endswith(heads) for name in architectures)


@dataclass(frozen=True)
class Answers:
    """Logits (N, classes) and last states (N, width), float32."""

    logits: np.ndarray
    hidden: np.ndarray

    @classmethod
    def together(cls, answers: Sequence[Answers]) -> Answers:
        """Several teachers' answers as one's: the mean of their logits, their states (N, widths) side by side."""
        logits = np.mean([one.logits for one in answers], axis=0, dtype=np.float32)
        return cls(logits, np.concatenate([one.hidden for one in answers], axis=1))

    def projected(self, width: int) -> np.ndarray:
        """The states in their `width` main directions (N, width), centred; with fewer directions 0 in the others."""
        centred = self.hidden - self.hidden.mean(0)
        _, _, directions = np.linalg.svd(centred.T @ centred)
        projected = centred @ directions[:width].T
        return np.pad(projected, ((0, 0), (0, width - projected.shape[1]))).astype(np.float32)


def cached_answers(teacher: TaskTeacher, examples: Sequence[Example], cache: Path) -> Answers:
    """What the teacher says of the texts, kept as `cached_rows` does."""
    answers = cached_rows(teacher, examples, cache)
    classes = 1 if teacher.labels is None else len(teacher.labels)
    return Answers(answers[:, :classes], answers[:, classes:])


class Answering(Protocol):
    """What gives rows of numbers for texts, and tells itself from others by a fingerprint."""

    def answers(self, examples: Sequence[Example]) -> np.ndarray: ...

    def fingerprint(self) -> str: ...


def cached_rows(teacher: Answering, examples: Sequence[Example], cache: Path) -> np.ndarray:
    """The teacher's rows of the texts, kept in the folder `cache` under a hash of teacher and texts."""
    texts = [[x.text, x.text_pair] for x in examples]
    run = hashlib.sha256(json.dumps([teacher.fingerprint(), texts]).encode()).hexdigest()[:24]
    file = Path(cache) / f"answers-{run}.npy"
    if file.is_file():
        answers = np.load(file)
    else:
        chunks = [examples[start : start + _CHUNK] for start in range(0, len(examples), _CHUNK)]
        parts = [teacher.answers(chunk) for chunk in over(chunks, "the teacher labels", f"chunks of {_CHUNK}")]
        answers = np.concatenate(parts)
        content = io.BytesIO()
        np.save(content, answers)
        write_atomically(file, content.getvalue())
    return answers


class TransformersTeacher:
    """A transformers folder with a head, whose outputs are `names`. head, what: as `load_transformers` takes them."""

    def __init__(self, folder: Path, longest: int, head: str, what: str) -> None:
        self.folder, self.longest = folder, longest
        self.tokenizer, self.model = load_transformers(folder, head, what)
        names = self.model.config.id2label
        self.names = tuple(names[i] for i in range(len(names)))

    def fingerprint(self) -> str:
        files = sorted(self.folder.glob("*.safetensors"))
        return "".join(sha256_of(file) for file in files) + str(self.longest)


class _TransformersClassifier(TransformersTeacher):
    def __init__(self, folder: Path, longest: int) -> None:
        super().__init__(folder, longest, "SequenceClassification", "a classifier")
        self.labels = self.names if len(self.names) > 1 else None

    def answers(self, examples: Sequence[Example]) -> np.ndarray:
        return folder_answers(self.model, self.tokenizer, examples, self.longest)


class _FolderTeacher:
    def __init__(self, folder: Path) -> None:
        one_thread()
        self._folder = read_folder(folder)
        self._model = load_classifier(self._folder)
        self.labels = self._folder.labels

    def answers(self, examples: Sequence[Example]) -> np.ndarray:
        tokenizer, longest = self._folder.tokenizer, self._folder.config.max_length
        ids = [tokenize(tokenizer, x.text, x.text_pair, longest).ids for x in examples]
        rows = list(range(len(ids)))  # in the place of targets: where each text's logits go
        found = np.zeros((len(ids), self._model.classes + self._model.config.hidden_size), np.float32)
        with torch.no_grad():
            for batch in in_order(TokenizedSet(ids, rows, 0), _BATCH):
                features = self._model.features(batch.ids, batch.mask)
                found[batch.targets.numpy()] = torch.cat([self._model.head(features), features], 1).numpy()
        if self._folder.wide is not None:
            ngrams = self._folder.wide.logits([x.text for x in examples], [x.text_pair for x in examples])
            found[:, : self._model.classes] += ngrams
        return found

    def fingerprint(self) -> str:
        wide = self._folder.path / WIDE / self._folder.weights.name
        return self._folder.weights_sha256() + (sha256_of(wide) if self._folder.wide is not None else "")


def load_transformers(folder: Path, head: str, what: str, **settings: Any) -> tuple[Any, Any]:
    """The tokenizer and model of a transformers folder, on a GPU where there is one.

    head: the end of its AutoModelFor class; settings: what of its configuration is to be otherwise. Raises InputError,
    which says that the folder holds no such thing as `what`.
    """
    import transformers

    one_thread()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        kind = getattr(transformers, f"AutoModelFor{head}")
        model = kind.from_pretrained(folder, local_files_only=True, **settings)
    except Exception as error:  # whatever its many readers raise
        raise InputError(f"{folder}: not {what} that loads ({str(error).splitlines()[0]})") from error
    return tokenizer, model.to("cuda") if torch.cuda.is_available() else model


def encode_texts(tokenizer: Any, examples: Sequence[Example], longest: int, **more: Any) -> Any:
    """Texts or pairs as a padded batch of a transformers model. more: what else the tokenizer is told."""
    pairs = [x.text_pair for x in examples] if examples[0].text_pair is not None else None
    return tokenizer(
        [x.text for x in examples], pairs, padding=True, truncation=True, max_length=longest, return_tensors="pt",
        **more,
    )  # fmt: skip


def folder_answers(model: Any, tokenizer: Any, examples: Sequence[Example], longest: int) -> np.ndarray:
    """Logits and the first token's last state of each text, side by side (N, classes + width)."""
    model.eval()
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].text) + len(examples[i].text_pair or ""))
    found = np.zeros((len(examples), model.config.num_labels + model.config.hidden_size), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = encode_texts(tokenizer, [examples[i] for i in rows], longest).to(model.device)
            output = model(**batch, output_hidden_states=True)
            found[rows] = torch.cat([output.logits, output.hidden_states[-1][:, 0]], 1).float().cpu().numpy()
    return found
