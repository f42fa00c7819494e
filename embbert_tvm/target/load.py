"""Reading targets/cpus/*.yaml and targets/boards/*.yaml."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from embbert_tvm.errors import InputError, nearest
from embbert_tvm.resources import resource
from embbert_tvm.target.board import Board, BoardCaches, Power, Qemu, Region, RegisterStep, Uart, Watchdog
from embbert_tvm.target.checks import require
from embbert_tvm.target.cpu import Cpu, Llvm, Toolchain

_STEPS = [RegisterStep]
_BOARD_PARTS = {
    "memory": [Region],
    "uart": Uart,
    "start": _STEPS,
    "watchdog": Watchdog,
    "reset": RegisterStep,
    "caches": BoardCaches,
    "power": Power,
    "qemu": Qemu,
}
_NESTED: Mapping[Any, Mapping[str, Any]] = {
    Uart: {"setup": _STEPS},
    Watchdog: {"start": _STEPS, "feed": _STEPS},
}


def known_cpus() -> list[str]:
    """Names of the CPUs in targets/cpus, sorted."""
    return _known("cpus")


def known_boards() -> list[str]:
    """Names of the boards in targets/boards, sorted."""
    return _known("boards")


def load_cpu(name: str) -> Cpu:
    """The CPU of that name, or of that path where it ends in .yaml; InputError names what is wrong."""
    path, document = _document("cpus", "CPU", name)
    nested = {"toolchain": Toolchain, "llvm": Llvm}
    cpu: Cpu = _checked(path, lambda: _construct(Cpu, document, nested))
    return cpu


def load_board(name: str) -> Board:
    """The board of that name, or of that path where it ends in .yaml; its CPU must be known too."""
    path, document = _document("boards", "board", name)
    board: Board = _checked(path, lambda: board_of(document))
    return board


def board_of(document: Mapping[str, Any]) -> Board:
    """The board that a mapping as in targets/boards describes; InputError names the key that is wrong."""
    board: Board = _construct(Board, document, _BOARD_PARTS)
    if board.cpu not in known_cpus():
        raise InputError(
            f"cpu: unknown {board.cpu!r}{nearest(board.cpu, known_cpus())}, known: {', '.join(known_cpus())}"
        )
    return board


def _known(folder: str) -> list[str]:
    return sorted(path.stem for path in resource("targets", folder).glob("*.yaml"))


def _document(folder: str, kind: str, name: str) -> tuple[Path, Mapping[str, Any]]:
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in _known(folder):
        path = resource("targets", folder, f"{name}.yaml")
    else:
        other, option = ("boards", "--board") if folder == "cpus" else ("cpus", "--target")
        hint = f"; it is one of the {other}: {option} {name}" if name in _known(other) else ""
        known = ", ".join(_known(folder))
        meant = nearest(name, _known(folder))
        raise InputError(f"unknown {kind} {name!r}{meant}: known are {known}, or give a .yaml file{hint}")
    try:
        document = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', error)}" if mark else type(error).__name__
        raise InputError(f"{path}: not YAML ({where})") from error
    if not isinstance(document, Mapping):
        raise InputError(f"{path}: must be a mapping of keys, as in targets/{folder}")
    return path, document


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    """What a text in YAML holds, not to be changed. A command asks for a target more than once."""
    return yaml.safe_load(text)


def _checked(path: Path, construct: Any) -> Any:
    try:
        return construct()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _construct(cls: Any, mapping: object, nested: Mapping[str, Any] | None = None) -> Any:
    """A dataclass from a mapping: lists become tuples, unknown and missing keys an InputError naming them."""
    if not isinstance(mapping, Mapping):
        raise InputError("must be a mapping of keys")
    known = {field.name: field for field in fields(cls)}
    for key in mapping:
        require(key in known, str(key), f"unknown key; known are {', '.join(known)}")
    for key, field in known.items():
        require(key in mapping or field.default is not MISSING, key, "is missing")
    values = {}
    for key, value in mapping.items():
        part = (nested or {}).get(key)
        if isinstance(part, list):
            require(isinstance(value, list), key, "must be a list")
            values[key] = tuple(_part(part[0], item, f"{key}[{i}]") for i, item in enumerate(value))
        elif part is not None and value is not None:
            values[key] = _part(part, value, key)
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    for key in nested or {}:
        if values.get(key, MISSING) is None and known[key].default is MISSING:
            raise InputError(f"{key}: must not be empty")
    return cls(**values)


def _part(cls: Any, mapping: object, key: str) -> Any:
    try:
        return _construct(cls, mapping, _NESTED.get(cls))
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
