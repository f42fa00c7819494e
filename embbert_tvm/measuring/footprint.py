"""What models take in memory: by the paper's formula, and as `compile` plans it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embbert_tvm.errors import InputError, nearest
from embbert_tvm.models.config import PRESETS, ModelConfig, ids_per_token
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.footprint import analytic
from embbert_tvm.models.ngrams import ARCHITECTURE, is_ngram_folder, read_ngram_folder

_CALIBRATION_LENGTHS = (1, 8, 24)


@dataclass(frozen=True)
class Planned:
    """Bytes of a compiled model: constants in flash with scales and tables, and the arena in RAM."""

    target: str
    weights: int
    arena: int


def planned(source: Any, target: str) -> Planned:
    """Compile a ModelSource in int8 at its full length and read the plan; nothing is kept."""
    from embbert_tvm.compiler import compile_model
    from embbert_tvm.target import load_cpu

    with tempfile.TemporaryDirectory(prefix="embbert-") as folder:
        program = compile_model(source, load_cpu(target), Path(folder) / "package").program
    return Planned(target, program.weights_bytes, program.arena_bytes)


def untrained(name: str, config: ModelConfig, folder: Path) -> Any:
    """A ModelSource of a new model of two classes in `folder`: a plan does not depend on what weights hold.

    Raises InputError where torch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError("planning a preset needs torch: pip install 'embbert-tvm[train]'") from None
    from embbert_tvm.compiler import ModelSource
    from embbert_tvm.graph.float_tensors import calibrate_folder
    from embbert_tvm.graph.onnx_export import export_model
    from embbert_tvm.models.registry import build

    torch.manual_seed(0)
    path = folder / "model.onnx"
    path.write_bytes(export_model(build(config, 2)).SerializeToString())
    generator = torch.Generator().manual_seed(0)
    lengths = [n * ids_per_token(config) for n in _CALIBRATION_LENGTHS]
    lengths = [n for n in lengths if n <= config.max_length]
    calibrate_folder(
        folder, [torch.randint(5, config.vocabulary_size, (n,), generator=generator).tolist() for n in lengths]
    )
    return ModelSource(name, path, None, None, folder / "calibration.json")


def row(model: str, length: int | None, target: str, plan: bool) -> dict[str, Any]:
    """The figures of a preset or of a model folder. plan: whether to compile it.

    Raises InputError for what is neither.
    """
    if Path(model).is_dir() and is_ngram_folder(Path(model)):
        return _ngrams(Path(model), target, plan)
    if model in PRESETS:
        name, config, path = model, PRESETS[model], None
    elif Path(model).is_dir():
        path = Path(model)
        folder = read_folder(path)
        name, config = folder.name, folder.config
    else:
        raise InputError(f"{model}: no such model folder{nearest(model, PRESETS)}; presets are {', '.join(PRESETS)}")
    found = analytic(config, length)
    document: dict[str, Any] = {
        "model": name,
        "architecture": config.architecture,
        "parameters": config.parameters,
        "length": config.max_length if length is None else length,
        "formula": {
            "weights": found.weights_bytes,
            "activations": found.activations_bytes,
            "total": found.total_bytes,
        },
        "planned": None,
    }
    if plan:
        made = _plan(name, config, path, target)
        document["planned"] = {
            "target": made.target,
            "precision": "int8",
            "length": config.max_length,
            "weights": made.weights,
            "arena": made.arena,
            "total": made.weights + made.arena,
        }
    return document


def _ngrams(path: Path, target: str, plan: bool) -> dict[str, Any]:
    """The figures of hashed n-grams, which no formula of the paper's tells: int8 tables, and no activations."""
    from embbert_tvm.ngram_compiler import program

    folder = read_ngram_folder(path)
    made = program(folder.model, "embbert")
    numbers = sum(x.size for x in made.constants.values())
    planned_bytes = {"weights": made.weights_bytes, "arena": made.arena_bytes}
    return {
        "model": folder.name,
        "architecture": ARCHITECTURE,
        "parameters": numbers,
        "length": None,
        "formula": {"weights": 4 * numbers, "activations": 0, "total": 4 * numbers},
        "planned": {"target": target, "precision": "int8", "length": None, **planned_bytes}
        | {"total": sum(planned_bytes.values())}
        if plan
        else None,
    }


def _plan(name: str, config: ModelConfig, path: Path | None, target: str) -> Planned:
    if path is not None:
        from embbert_tvm.compiler import find_source

        return planned(find_source(path), target)
    with tempfile.TemporaryDirectory(prefix="embbert-") as folder:
        return planned(untrained(name, config, Path(folder)), target)
