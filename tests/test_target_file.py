"""A board from a data sheet's figures, and boards as text."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from embbert_tvm.errors import InputError
from embbert_tvm.target import board_of, known_boards, load_board
from embbert_tvm.target_file import DataSheet, board_text, new_board


@pytest.mark.parametrize("name", known_boards())
def test_the_text_of_a_board_is_its_file(name):
    board = load_board(name)
    assert board_of(yaml.safe_load(board_text(board))) == board


def test_addresses_follow_the_memory_map():
    board = new_board("b", DataSheet("cortex-m4", ["512k", "1M@0x90000000"], ["96k", "32K", "16k@0x10000000"], "80MHz"))
    found = [(r.name, r.kind, r.origin, r.bytes) for r in board.memory]
    assert found == [
        ("FLASH", "flash", 0, 512 * 1024),
        ("FLASH2", "flash", 0x90000000, 1024**2),
        ("RAM", "ram", 0x20000000, 96 * 1024),
        ("RAM2", "ram", 0x20018000, 32 * 1024),
        ("RAM3", "ram", 0x10000000, 16 * 1024),
    ]
    assert (board.clock_hz, board.stack_bytes, board.uart, board.qemu) == (80_000_000, 4096, None, None)


@given(
    flash=st.integers(1, 2**24), ram=st.integers(16, 2**24), origin=st.integers(0x20000000, 2**32 - 2**24),
    megahertz=st.integers(1, 1000), words=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])),
)  # fmt: skip
def test_what_is_written_is_read(flash, ram, origin, megahertz, words):
    board = new_board(
        "b",
        DataSheet(
            "cortex-m7", [f"{flash}"], [f"{ram}@{origin:#x}"], f"{megahertz}MHz", "8", description=words, source=words
        ),
    )
    assert board_of(yaml.safe_load(board_text(board))) == board


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cpu": "z80"}, "cpu: unknown 'z80', known: cortex-m0plus"),
        ({"flash": ["lots"]}, "--flash lots: 'lots' is not a size: give bytes, or a number with k or M, as in 512k"),
        ({"flash": ["512k@here"]}, "--flash 512k@here: the address must be a number"),
        ({"ram": ["0"]}, "bytes: must be a positive number"),
        ({"ram": ["96k@0x1000"]}, "FLASH and RAM overlap"),
        ({"ram": ["2k"]}, "stack_bytes: is 4096, the largest RAM has 2048"),
        ({"clock": "80"}, "--clock 80: give it as in 80MHz"),
        ({"clock": "0MHz"}, "clock_hz: must be a positive"),
        ({"name": "a b"}, "name: must be a plain name"),
    ],
)
def test_what_makes_no_board_is_refused(change, message):
    figures = {"name": "b", "cpu": "cortex-m4", "flash": ["512k"], "ram": ["96k"], "clock": "80MHz"} | change
    with pytest.raises(InputError, match=message):
        new_board(figures.pop("name"), DataSheet(**figures))
