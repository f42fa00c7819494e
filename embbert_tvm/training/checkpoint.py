"""The state of an unfinished training, in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from embbert_tvm.data.files import write_atomically

_PARTS = ("model", "moments", "mean", "best")


@dataclass(frozen=True)
class Checkpoint:
    """After `epoch` epochs, `step` steps: weights, AdamW's moments, mean and best weights, records."""

    epoch: int
    step: int
    model: dict[str, Tensor]
    moments: dict[str, Tensor]
    mean: dict[str, Tensor]
    best: dict[str, Tensor]
    history: list[dict[str, Any]]


def save_checkpoint(path: Path, state: Checkpoint, run: str) -> None:
    """Write the state of the run that has the fingerprint `run`."""
    tensors = {
        f"{part}/{key}": value.detach().contiguous().clone()
        for part in _PARTS
        for key, value in getattr(state, part).items()
    }
    metadata = {
        "run": run,
        "epoch": str(state.epoch),
        "step": str(state.step),
        "history": json.dumps(state.history),
    }
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def load_checkpoint(path: Path, run: str) -> Checkpoint | None:
    """The state of this run, or None where there is none, it is another run's or it is damaged."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("run") != run:
                return None
            parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
            for name in file.keys():  # noqa: SIM118 (safe_open is not a dict)
                part, key = name.split("/", 1)
                parts[part][key] = file.get_tensor(name)
        return Checkpoint(
            int(metadata["epoch"]), int(metadata["step"]), **parts, history=json.loads(metadata["history"])
        )
    except (OSError, safetensors.SafetensorError):
        return None
