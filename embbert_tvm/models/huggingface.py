"""A folder as `transformers` and `sentence-transformers` save it: what it is, and its ONNX.

Reading it needs neither; exporting it needs torch and transformers, the `hf` extra.
"""

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embbert_tvm.errors import InputError
from embbert_tvm.heads import MANY_LABELS, ONE_LABEL, REGRESSION, TOKENS, VECTOR, check_printable

if TYPE_CHECKING:
    import torch

_CLASSES = {"ForSequenceClassification": ONE_LABEL, "ForTokenClassification": TOKENS}
_OPSET = 20  # the first with GELU as one operator
_EXAMPLE = 11  # tokens
_POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "lasttoken")


@dataclass(frozen=True)
class Module:
    """A module of a sentence-transformers folder behind its encoder: its kind, its settings and where it lies."""

    kind: str
    settings: dict[str, Any]
    path: Path


@dataclass(frozen=True)
class HubFolder:
    """A hub's folder.

    encoder: where config.json and the weights lie. head: one of HEADS.
    labels: in the order of the outputs, None where there are none. modules: what follows the encoder of an embedding.
    """

    path: Path
    encoder: Path
    name: str
    architecture: str
    head: str
    labels: tuple[str, ...] | None
    modules: tuple[Module, ...] = ()


def is_hub_folder(path: Path) -> bool:
    """Whether a folder is one of a hub: its config.json names `architectures`, or it has a modules.json."""
    if (path / "modules.json").is_file():
        return True
    try:
        return "architectures" in json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None


def read_hub_folder(path: Path) -> HubFolder:
    """What a hub's folder holds. Raises InputError for one whose head or modules are not compiled."""
    modules = _json(path / "modules.json") if (path / "modules.json").is_file() else None
    first = _inside(path, modules[0].get("path", "")) if modules else path
    config = _json(first / "config.json")
    names = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise InputError(f"{first / 'config.json'}: names no architecture: save the model with save_pretrained()")
    name = path.resolve().name
    if modules is not None:
        behind = tuple(_module(path, entry) for entry in modules[1:])
        return HubFolder(path, first, name, names[0], VECTOR, None, behind)
    head = next((head for ending, head in _CLASSES.items() if names[0].endswith(ending)), None)
    if head is None:
        raise InputError(
            f"{path}: {names[0]} is neither a ...ForSequenceClassification nor a ...ForTokenClassification, nor a "
            "sentence-transformers folder with its modules.json: fine-tune it for a task first"
        )
    labels = _labels(config)
    if head == ONE_LABEL and (config.get("problem_type") == "regression" or len(labels) == 1):
        return HubFolder(path, first, name, names[0], REGRESSION, None)
    if config.get("problem_type") == "multi_label_classification":
        head = MANY_LABELS
    return HubFolder(path, first, name, names[0], head, labels)


def _inside(path: Path, part: object) -> Path:
    found = (path / str(part)).resolve()
    if not found.is_relative_to(path.resolve()):
        raise InputError(f"{path / 'modules.json'}: {part!r} lies outside the folder")
    return found


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    """The labels of id2label in the order of their ids; two, unnamed, where it is not there, as transformers has it."""
    known = config.get("id2label") or {str(n): f"LABEL_{n}" for n in range(int(config.get("num_labels", 2)))}
    try:
        ordered = sorted((int(key), str(label)) for key, label in known.items())
    except (AttributeError, ValueError):
        raise InputError("config.json: id2label does not map ids to labels") from None
    labels = tuple(label for _, label in ordered)
    if [n for n, _ in ordered] != list(range(len(ordered))) or len(set(labels)) != len(labels):
        raise InputError("config.json: id2label leaves out an id, or names two alike")
    check_printable(labels, "config.json")
    return labels


def _module(path: Path, entry: dict[str, Any]) -> Module:
    kind = str(entry.get("type", "")).rsplit(".", 1)[-1]
    where = _inside(path, entry.get("path", ""))
    settings = _json(where / "config.json") if (where / "config.json").is_file() and where != path.resolve() else {}
    if kind not in ("Pooling", "Dense", "Normalize"):
        raise InputError(
            f"{path / 'modules.json'}: the module {kind} is not compiled: Pooling, Dense and Normalize are"
        )
    return Module(kind, settings, where)


def _pooling(settings: dict[str, Any]) -> str:
    """The one way in which rows are pooled. Raises InputError for several, or one that is not known."""
    given = settings.get("pooling_mode")
    named = [given] if isinstance(given, str) else list(given or [])
    if not named:
        keys = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max"}
        keys |= {"pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_lasttoken": "lasttoken"}
        keys |= {"pooling_mode_weightedmean_tokens": "weightedmean"}
        named = [mode for key, mode in keys.items() if settings.get(key)]
    if len(named) != 1 or named[0] not in _POOLINGS:
        raise InputError(
            f"pooling by {' and '.join(named) or 'nothing'} is not compiled: one of {', '.join(_POOLINGS)}"
        )
    return named[0]


def needs() -> None:
    """Raises InputError where torch or transformers is not installed."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"a hub's folder needs {error.name}: pip install 'embbert-tvm[hf]'") from None


def load(folder: HubFolder) -> torch.nn.Module:
    """The model as a function of ids, mask and, where it has them, token types, to logits or a vector.

    Raises InputError where weights are missing, or transformers does not know the architecture.
    """
    needs()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch
    import transformers

    makers = {VECTOR: transformers.AutoModel, TOKENS: transformers.AutoModelForTokenClassification}
    maker = makers.get(folder.head, transformers.AutoModelForSequenceClassification)
    transformers.utils.logging.disable_progress_bar()
    try:
        model, info = maker.from_pretrained(
            folder.encoder, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    except Exception as error:  # transformers raises whatever its parts do
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{folder.path}: transformers cannot load it: {line[:300]}") from None
    missing = [key for key in info["missing_keys"] if not key.startswith("pooler.") or folder.head != VECTOR]
    if missing:
        raise InputError(f"{folder.path}: its weights lack {sorted(missing)[0]}: is it fine-tuned for its task?")
    return _Answer(model, [_layer(module) for module in folder.modules]).eval()


def _layer(module: Module) -> Callable:
    import torch

    if module.kind == "Normalize":
        return lambda rows, mask: torch.nn.functional.normalize(rows, p=2, dim=-1)
    if module.kind == "Pooling":
        return _POOL[_pooling(module.settings)]
    from safetensors.torch import load_file

    settings, weights = module.settings, load_file(module.path / "model.safetensors")
    activation = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(".", 1)[-1]
    if activation not in ("Tanh", "Identity", "ReLU", "GELU", "Sigmoid"):
        raise InputError(f"{module.path}: the activation {activation} is not compiled")
    function = getattr(torch.nn, activation)()
    weight, bias = weights["linear.weight"], weights.get("linear.bias")
    return lambda rows, mask: function(torch.nn.functional.linear(rows, weight, bias))


def _masked_sum(rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (rows * mask.unsqueeze(-1).to(rows.dtype)).sum(1)


def _count(mask: torch.Tensor) -> torch.Tensor:
    return mask.sum(1, keepdim=True).clamp(min=1e-9)


_POOL: dict[str, Callable] = {
    "cls": lambda rows, mask: rows[:, 0],
    "lasttoken": lambda rows, mask: rows[:, -1],
    "max": lambda rows, mask: rows.max(1).values,
    "mean": lambda rows, mask: _masked_sum(rows, mask) / mask.sum(1, keepdim=True).clamp(min=1e-9),
    "mean_sqrt_len_tokens": lambda rows, mask: (
        _masked_sum(rows, mask) / mask.sum(1, keepdim=True).clamp(min=1e-9) ** 0.5
    ),
}


def _Answer(model: torch.nn.Module, layers: list[Callable]) -> torch.nn.Module:
    """A model's logits, or its states through the modules behind it, as one module of positional inputs."""
    import inspect

    import torch

    taken = inspect.signature(model.forward).parameters
    has_types = "token_type_ids" in taken and getattr(model.config, "type_vocab_size", 0) > 0

    class Answer(torch.nn.Module):
        names = ("input_ids", "attention_mask", *(["token_type_ids"] if has_types else []))

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            found = self.model(**dict(zip(self.names, inputs, strict=True)))
            if not layers:
                return found.logits
            rows = found.last_hidden_state
            for layer in layers:
                rows = layer(rows, inputs[1])
            return rows

    return Answer()


def export(folder: HubFolder) -> bytes:
    """The ONNX of a hub's folder, with the inputs and the batch that its model has."""
    import torch

    model = load(folder)
    ids = torch.arange(5, 5 + _EXAMPLE)[None]
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))[: len(model.names)]
    content, level = io.BytesIO(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model, inputs, content, dynamo=False, input_names=list(model.names), output_names=["logits"],
                dynamic_axes={name: {1: "length"} for name in model.names}, opset_version=_OPSET, verbose=False,
            )  # fmt: skip
    except Exception as error:  # torch raises whatever its tracer does
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{folder.path}: torch cannot export {folder.architecture}: {line[:300]}") from None
    finally:
        logging.disable(level)
    return content.getvalue()


def tokenizer_of(folder: HubFolder) -> bytes | None:
    """A hub's tokenizer.json, through transformers' converters where it has another form; None where it has none."""
    for place in dict.fromkeys((folder.path, folder.encoder)):
        if (place / "tokenizer.json").is_file():
            return (place / "tokenizer.json").read_bytes()
    forms = ("vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json")
    if not any((folder.encoder / form).is_file() for form in forms):
        return None
    needs()
    import transformers

    try:
        loaded = transformers.AutoTokenizer.from_pretrained(folder.encoder, local_files_only=True)
        return loaded.backend_tokenizer.to_str().encode()
    except Exception as error:  # likewise
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{folder.path}: its tokenizer cannot be converted: {line[:300]}") from None
