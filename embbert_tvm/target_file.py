"""CPUs and boards as text: a new board from a data sheet's figures, and what the file of one says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from embbert_tvm.errors import InputError
from embbert_tvm.target import Board, Cpu, board_of

_SIZE = re.compile(r"(\d+)\s*([kKmM]?)[bB]?")
_CLOCK = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)[hH][zZ]")
_UNITS = {"": 1, "k": 1024, "m": 1024**2}
_FLASH_ORIGIN, _RAM_ORIGIN = 0x00000000, 0x20000000  # of the Cortex-M memory map: code and SRAM


@dataclass(frozen=True)
class DataSheet:
    """What a board's data sheet says: memories as `512k@0x08000000`, the clock as `80MHz`."""

    cpu: str
    flash: Sequence[str]
    ram: Sequence[str]
    clock: str
    stack: str = "4k"
    description: str = ""
    source: str = ""


def new_board(name: str, sheet: DataSheet) -> Board:
    """A board from its data sheet.

    Without an address, the first flash begins at 0, the first RAM at 0x20000000, any other where the one before
    it ends.
    Raises InputError for what makes no board.
    """
    memory = [*_regions("flash", "FLASH", sheet.flash, _FLASH_ORIGIN), *_regions("ram", "RAM", sheet.ram, _RAM_ORIGIN)]
    document = {
        "name": name,
        "description": sheet.description or f"{name} ({sheet.cpu})",
        "cpu": sheet.cpu,
        "clock_hz": _clock(sheet.clock),
        "memory": memory,
        "stack_bytes": _size(sheet.stack, "--stack"),
        "source": sheet.source,
    }
    return board_of(document)


def _regions(kind: str, name: str, texts: Sequence[str], origin: int) -> list[dict[str, Any]]:
    regions = []
    for number, text in enumerate(texts, 1):
        size, at, address = text.partition("@")
        if at:
            try:
                origin = int(address.strip(), 0)
            except ValueError:
                raise InputError(f"--{kind} {text}: the address must be a number, as in 512k@0x08000000") from None
        count = _size(size, f"--{kind} {text}")
        regions.append({"name": name + (str(number) if number > 1 else ""), "kind": kind})
        regions[-1] |= {"origin": origin, "bytes": count}
        origin += count
    return regions


def _size(text: str, option: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise InputError(f"{option}: {text!r} is not a size: give bytes, or a number with k or M, as in 512k")
    return int(match[1]) * _UNITS[match[2].lower()]


def _clock(text: str) -> int:
    match = _CLOCK.fullmatch(text.strip())
    if not match:
        raise InputError(f"--clock {text}: give it as in 80MHz")
    return round(float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[match[2].lower()])


def plain(target: Cpu | Board) -> dict[str, Any]:
    """A CPU or a board as its file has it: mappings and lists."""
    return json.loads(json.dumps(asdict(target)))


def text_of(document: Mapping[str, Any]) -> str:
    """YAML of a mapping, in its order."""
    return yaml.safe_dump(dict(document), sort_keys=False, width=100)


class _Hex(int):
    """An integer that is written in hexadecimal."""


class _Dumper(yaml.SafeDumper):
    """Hexadecimal where requested; a mapping of plain values on one line; lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        leaf = not any(isinstance(value, (dict, list)) for value in mapping.values())
        return super().represent_mapping(tag, mapping, flow_style=leaf and len(mapping) <= _LONGEST_LINE)


_Dumper.add_representer(_Hex, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:int", f"{value:#x}"))
_LONGEST_LINE = 4  # keys of a mapping that is written on one line
_IN_HEX = {"origin", "bytes", "base", "address", "set", "clear", "wait", "image_block", "uf2_family"}


def board_text(board: Board) -> str:
    """A board's file: addresses in hexadecimal, nothing that is not there."""
    return yaml.dump(_shown(plain(board)), Dumper=_Dumper, sort_keys=False, width=120)


def _shown(value: Any, key: str = "") -> Any:
    """What a file shows of a value: no default that says nothing, addresses as they are known."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if v not in (None, "", []) and (k, v) not in _DEFAULTS}
        return {k: _shown(v, k) for k, v in kept.items()}
    if isinstance(value, list):
        return [_shown(item, key) for item in value]
    return _Hex(value) if key in _IN_HEX else value


_DEFAULTS = [("clear", 0), ("wait", 0), ("wait_states", 0), ("line_bytes", 8), ("clock_divider", 1)]
_DEFAULTS += [("drops_input_until_enabled", False)]
