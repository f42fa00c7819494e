"""CPUs and boards as text: a new board from a data sheet's figures, and what the file of one says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import yaml

from embbert_tvm.errors import InputError
from embbert_tvm.target import Board, Cpu, Uart, board_of

_SIZE = re.compile(r"(\d+)\s*([kKmM]?)[bB]?")
_CLOCK = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)[hH][zZ]")
_UNITS = {"": 1, "k": 1024, "m": 1024**2}
_FLASH_ORIGIN, _RAM_ORIGIN = 0x00000000, 0x20000000  # of the Cortex-M memory map: code and SRAM


def new_board(
    name: str,
    cpu: str,
    flash: Sequence[str],
    ram: Sequence[str],
    clock: str,
    stack: str = "4k",
    *,
    description: str = "",
    source: str = "",
) -> Board:
    """A board from what its data sheet says: memories as `512k@0x08000000`, the clock as `80MHz`.

    Without an address, the first flash begins at 0, the first RAM at 0x20000000, any other where the one before
    it ends.
    Raises InputError for what makes no board.
    """
    memory = [*_regions("flash", "FLASH", flash, _FLASH_ORIGIN), *_regions("ram", "RAM", ram, _RAM_ORIGIN)]
    document = {
        "name": name,
        "description": description or f"{name} ({cpu})",
        "cpu": cpu,
        "clock_hz": _clock(clock),
        "memory": memory,
        "stack_bytes": _size(stack, "--stack"),
        "source": source,
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
        raise InputError(f"{option}: {text!r} is no size: give bytes, or a number with k or M, as in 512k")
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


def board_text(board: Board) -> str:
    """A board's file: addresses in hexadecimal, nothing that is not there."""
    document = {key: value for key, value in plain(board).items() if value not in (None, "", [])}
    rows = [
        f"  - {{name: {r.name}, kind: {r.kind}, origin: {r.origin:#010x}, bytes: {r.bytes:#x}}}" for r in board.memory
    ]
    parts = []
    for key, value in document.items():
        if key == "memory":
            parts.append("memory:\n" + "\n".join(rows) + "\n")
        elif key == "uart" and board.uart is not None:
            parts.append(_uart_text(board.uart))
        else:
            parts.append(text_of({key: value}))
    return "".join(parts)


def _uart_text(uart: Uart) -> str:
    rows = [f"  type: {uart.type}"]
    rows += [f"  driver: {uart.driver}"] if uart.driver else []
    rows.append(f"  base: {uart.base:#010x}")
    numbers = {"tx_pin": uart.tx_pin, "rx_pin": uart.rx_pin, "clock_hz": uart.clock_hz}
    rows += [f"  {key}: {number}" for key, number in numbers.items() if number is not None]
    rows += ["  setup:"] if uart.setup else []
    rows += [f"    - {{address: {p.address:#010x}, clear: {p.clear:#x}, set: {p.set:#x}}}" for p in uart.setup]
    return "uart:\n" + "\n".join(rows) + "\n"
