"""Running a board's start-up and driver on this machine, with an account of the registers that they write."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.device.board_header import NAME, board_header
from embbert_tvm.resources import firmware
from embbert_tvm.target import Board

MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include "board.h"
#include "port.h"
#include "registers.h"
#include "start.h"

static struct { uint32_t address, value, ready; } cells[256] = {READY};
static size_t used = COUNT;

static size_t cell(uint32_t address)
{
    for (size_t i = 0; i < used; i++) {
        if (cells[i].address == address)
            return i;
    }
    cells[used].address = address;
    return used++;
}

uint32_t register_read_sized(uint32_t address, uint32_t bytes)
{
    (void)bytes;
    size_t at = cell(address);
    return cells[at].value | cells[at].ready;
}

void register_write_sized(uint32_t address, uint32_t value, uint32_t bytes)
{
    cells[cell(address)].value = value;
    printf("%08x %08x %x\\n", address, value, bytes);
}

void Reset_Handler(void);
void Reset_Handler(void) { exit(1); }

int main(void)
{
    int prepared = board_prepare();
    board_prepared(prepared);
    printf("clock %u\\n", board_clock_hz());
    port_init();
    watchdog_start();
    printf("feed\\n");
    watchdog_feed();
    return 0;
}
"""


@dataclass(frozen=True)
class Account:
    """writes: in turn, (address, value, bytes); values: of each register at the end; widths: its bytes; clock_hz: what
    the start-up came to; fed: what feeding the watchdog wrote, (address, value)."""

    writes: tuple[tuple[int, int, int], ...]
    values: Mapping[int, int]
    widths: Mapping[int, frozenset[int]]
    clock_hz: int
    fed: tuple[tuple[int, int], ...]


def account(board: Board, ready: Mapping[int, int]) -> Account:
    """The account of a board's start-up, driver and watchdog. ready: bits that registers read as set, by address."""
    with tempfile.TemporaryDirectory(prefix="embbert-registers-") as folder:
        return _account(board, Path(folder), ready)


def _account(board: Board, folder: Path, ready: Mapping[int, int]) -> Account:
    (folder / NAME).write_text(board_header(board))
    rows = ", ".join(f"{{{address:#x}u, 0u, {bits:#x}u}}" for address, bits in ready.items())
    main = MAIN.replace("{READY}", f"{{{rows or '{0u, 0u, 0u}'}}}").replace("COUNT", str(len(ready)))
    (folder / "main.c").write_text(main)
    sources = [folder / "main.c"]
    sources += [firmware("src", name) for name in ("board.c", "registers.c", "uart.c", board.uart.driver)]
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wno-pointer-to-int-cast", "-DREGISTERS_TRACED", f"-I{folder}"]
    program = folder / "account"
    command = ["gcc", *flags, f"-I{firmware('include')}", *sources, "-o", program]
    subprocess.run(list(map(str, command)), check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True, timeout=60)
    before, after = done.stdout.split("feed\n")
    lines = before.splitlines()
    writes = [_write(line) for line in lines if not line.startswith("clock")]
    (clock,) = (int(line.split()[1]) for line in lines if line.startswith("clock"))
    values = {address: value for address, value, _ in writes}
    widths = {at: frozenset(bytes_ for address, _, bytes_ in writes if address == at) for at in values}
    return Account(tuple(writes), values, widths, clock, tuple(_write(line)[:2] for line in after.splitlines()))


def _write(line: str) -> tuple[int, int, int]:
    address, value, bytes_ = (int(word, 16) for word in line.split())
    return address, value, bytes_
