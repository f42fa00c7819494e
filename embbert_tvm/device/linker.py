"""The linker script of a board, from its memory regions."""

from __future__ import annotations

from embbert_tvm.target import Board

_SECTIONS = """\
ENTRY(Reset_Handler)

SECTIONS
{{
    .text : {{
        KEEP(*(.vectors))
        *(EXCLUDE_FILE(*weights.o) .text*)
        *(EXCLUDE_FILE(*weights.o) .rodata*)
        . = ALIGN(4);
    }} > {flash}
    .weights : {{ *(.rodata*) . = ALIGN(4); }} > {flash}
    .ARM.exidx : {{ *(.ARM.exidx* .gnu.linkonce.armexidx.*) }} > {flash}

    /* The stack lies lowest, so that one that runs over faults and overwrites nothing. */
    .stack (NOLOAD) : {{
        link_stack_bottom = .;
        . += {stack_bytes};
        . = ALIGN(8);
        link_stack_top = .;
    }} > {ram}
    .data : {{
        . = ALIGN(4);
        link_data_start = .;
        *(.data*)
        . = ALIGN(4);
        link_data_end = .;
    }} > {ram} AT > {flash}
    link_data_load = LOADADDR(.data);
    .bss (NOLOAD) : {{
        . = ALIGN(4);
        link_bss_start = .;
        *(.bss*) *(COMMON)
        . = ALIGN(4);
        link_bss_end = .;
    }} > {ram}
    end = .;
}}
"""


def linker_script(board: Board) -> str:
    """GNU ld's script: code and weights in the first flash region, stack and data in the first of RAM."""
    regions = "".join(
        f"    {r.name} ({'rx' if r.kind == 'flash' else 'rwx'}) : ORIGIN = {r.origin:#010x}, LENGTH = {r.bytes:#x}\n"
        for r in board.memory
    )
    sections = _SECTIONS.format(
        flash=board.region("flash").name, ram=board.region("ram").name, stack_bytes=board.stack_bytes
    )
    return f"/* {board.name}: {board.description}. */\nMEMORY\n{{\n{regions}}}\n{sections}"
