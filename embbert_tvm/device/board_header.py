"""board.h: what the C of a firmware is told of its board's file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from embbert_tvm.target import Board, RegisterStep, Uart

NAME = "board.h"


def board_header(board: Board, *, emulated: bool = False) -> str:
    """The text of board.h. emulated: for QEMU, whose boards run at their full clock from the first instruction."""
    reset_clock = None if emulated else board.reset_clock_hz
    rows = [
        ("NAME", f'"{board.name}"'),
        ("CLOCK_HZ", f"{board.clock_hz}u"),
        ("RESET_CLOCK_HZ", f"{reset_clock or board.clock_hz}u"),
        ("START", _steps(board.start)),
        ("RESET", _steps([board.reset] if board.reset else [])),
        ("IMAGE_BLOCK", ", ".join(f"{word:#010x}u" for word in board.image_block)),
    ]
    if board.watchdog is not None:
        rows += [("WATCHDOG_START", _steps(board.watchdog.start)), ("WATCHDOG_FEED", _steps(board.watchdog.feed))]
    rows += _uart_rows(board.uart) if board.uart is not None else []
    defined = "".join(f"#define BOARD_{name} {value}\n" for name, value in rows if value)
    return (
        "/* SPDX-License-Identifier: Apache-2.0 */\n"
        f"/* {board.name}: {board.description}. Made by embbert-tvm from the board's file.\n"
        "   A step is {address, bits to clear, bits to set, bits to wait for, bytes, reads} (registers.h). */\n"
        f"#ifndef EMBBERT_BOARD_H\n#define EMBBERT_BOARD_H\n\n{defined}\n#endif\n"
    )


def _uart_rows(uart: Uart) -> Iterable[tuple[str, str]]:
    yield "UART_BASE", f"{uart.base:#x}u"
    for name, number in (("TX_PIN", uart.tx_pin), ("RX_PIN", uart.rx_pin), ("CLOCK_HZ", uart.clock_hz)):
        yield f"UART_{name}", "" if number is None else f"{number}u"
    yield "UART_CLOCK_DIVIDER", f"{uart.clock_divider}u"
    yield "UART_SETUP", _steps(uart.setup)


def _steps(steps: Sequence[RegisterStep]) -> str:
    rows = (f"{{{s.address:#010x}u, {s.clear:#x}u, {s.set:#x}u, {s.wait:#x}u, {s.bytes}u, {s.reads}u}}" for s in steps)
    return "".join(f" \\\n    {row}," for row in rows)
