"""GNU ld's map, as it is printed."""

from __future__ import annotations

from embbert_tvm.device.link_map import FILL, contributions

MAP = """\
Discarded input sections

 .text          0x00000000       0x40 /tmp/unused.o

Linker script and memory map

LOAD /tmp/package.kernels.o

.text           0x00000000       0x70
 *(.text*)
 .text          0x00000000        0x0 /tmp/package.kernels.o
 .text.embbert_a_long_name_of_a_function
                0x00000000       0x20 /tmp/package.kernels.o
                0x00000000                embbert_a_long_name_of_a_function
 *fill*         0x00000020       0x10
 .text.b        0x00000030       0x20 /tmp/package.kernels.o
 .text          0x00000050       0x1c /usr/lib/libc_nano.a(lib_a-memset.o)
                0x0000006c                . = ALIGN (0x8)

.data           0x20000000       0x04 load address 0x00000070
 .data          0x20000000        0x4 /tmp/package.model.o
"""


def test_bytes_by_object():
    assert contributions(MAP, (".text",)) == {
        "package.kernels.o": 0x40,
        "libc_nano.a(lib_a-memset.o)": 0x1C,
        FILL: 0x14,
    }
    assert contributions(MAP, (".data",)) == {"package.model.o": 4}
    assert contributions(MAP, (".bss",)) == {}
