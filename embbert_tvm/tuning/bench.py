"""From a candidate to an image that runs it: our printer, the target's compiler and flags, the protocol's firmware.

One image holds several candidates of a task with its data (firmware/src/tuning.c), so that a boot serves many trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tvm import tirx

from embbert_tvm.codegen import micro_headers
from embbert_tvm.codegen.c_expressions import C_TYPES
from embbert_tvm.codegen.c_function import CFunction, c_function
from embbert_tvm.codegen.lower import repeat_last, to_loops
from embbert_tvm.device import board_header
from embbert_tvm.device.build import BOARD_SUPPORT, C_FLAGS, FIRMWARE, library_folders, library_sources
from embbert_tvm.device.linker import memory_script
from embbert_tvm.device.objects import compile_object
from embbert_tvm.device.toolchain import call
from embbert_tvm.errors import InputError
from embbert_tvm.kernels import micro
from embbert_tvm.kernels.choices import chosen
from embbert_tvm.kernels.forms import DEFAULT_FORMS, KernelForms
from embbert_tvm.target import Board, Cpu
from embbert_tvm.tuning.task import RELATIVE, Task, is_ours

_ALIGN = 16
_MICRO = Path(micro.__file__).parent
_STATIC_BYTES = 2048  # of the protocol and the C library, beside a task's data


@dataclass(frozen=True)
class Candidate:
    """A candidate in C. source: a file's text, apart from its function's name the same for the same code."""

    number: int
    function: CFunction
    source: str
    workspaces: tuple[int, ...]

    @property
    def symbol(self) -> str:
        return f"candidate_{self.number}"


def candidate(
    task: Task, scheduled: tirx.PrimFunc, number: int, features: Sequence[str], forms: KernelForms = DEFAULT_FORMS
) -> Candidate:
    """Lower and print a scheduled kernel in forms that go with a CPU's features. Raises WorkError for what has no C."""
    # What is chosen of a kernel of ours is chosen in print: its loops are always the same.
    loops = task.loops if is_ours(task.func) else to_loops(repeat_last(scheduled), "kernel")
    function = c_function(loops, f"candidate_{number}", chosen(scheduled))
    lines = [
        *(["#include <math.h>"] if function.math else []),
        "#include <stdint.h>",
        f"#define EMBBERT_DUAL_ISSUE {int('dual_issue' in forms.features(features))}",
        *(f"#define {macro} {value}" for macro, value in forms.macros.items()),
        *(f'#include "{header.name}"' for header in micro_headers.needed(function.body)),
        f"{function.signature()};",
        f"{function.signature()}",
        "{",
        function.body,
        "}",
    ]
    return Candidate(number, function, "\n".join(lines) + "\n", tuple(task.workspace_bytes(function)))


class Bench:
    """Builds images of a task's candidates for a board, in a folder of its own."""

    def __init__(self, task: Task, cpu: Cpu, board: Board, folder: Path) -> None:
        if board.uart is None or board.uart.driver is None:
            raise InputError(f"{board.name}: its board file names no driver for its serial port: nothing can measure")
        self.task, self.cpu, self.board, self.folder = task, cpu, board, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._includes = [FIRMWARE / "include", _MICRO, *library_folders(cpu)]
        self._flags = [*C_FLAGS, *cpu.cflags, *cpu.optimize]
        self._objects = [*self._firmware(), self._data()]

    def _firmware(self) -> list[Path]:
        """The objects that every task has, beside the task's folder."""
        assert self.board.uart is not None
        shared = self.folder.parent / f"firmware-{self.board.name}"
        shared.mkdir(exist_ok=True)
        made = board_header.board_header(self.board, emulated=self.board.qemu is not None)
        (shared / board_header.NAME).write_text(made)
        found = []
        names = ("tuning.c", "frames.c", *BOARD_SUPPORT, *self.cpu.firmware, self.board.uart.driver or "")
        for source in (*(FIRMWARE / "src" / name for name in names), *(path for _, path in library_sources(self.cpu))):
            output = shared / f"firmware.{source.stem}.o"
            if not output.is_file():
                compile_object(self.cpu, self._flags, [*self._includes, shared], source, output)
            found.append(output)
        return found

    def _data(self) -> Path:
        lines = ['.section .rodata.data,"a"']
        for i, argument in enumerate(self.task.arguments):
            for label, value in (("before", argument.before), ("after", argument.after)):
                if value is not None:
                    path = self.folder / f"{label}_{i}.bin"
                    path.write_bytes(np.ascontiguousarray(value).tobytes())
                    lines += [f".balign {_ALIGN}", f".global {label}_{i}", f"{label}_{i}:", f'.incbin "{path}"']
        source, made = self.folder / "data.S", self.folder / "data.o"
        source.write_text("\n".join(lines) + "\n")
        call(self.cpu, "gcc", [*self.cpu.cflags, "-c", source, "-o", made], "the data of a task")
        return made

    def compile(self, made: Candidate) -> Path:
        """The object of a candidate. Raises WorkError for C that the compiler does not take."""
        source = self.folder / f"{made.symbol}.c"
        source.write_text(made.source)
        return self._compiled(source, f"{self.task.name} {made.symbol}")

    def _compiled(self, source: Path, what: str, *flags: str) -> Path:
        output = source.with_suffix(".o")
        include = [f"-I{path}" for path in self._includes]
        call(self.cpu, "gcc", [*self._flags, *include, *flags, "-c", source, "-o", output], what)
        return output

    def link(self, candidates: Sequence[Candidate], objects: Sequence[Path]) -> Path:
        """The image of compiled candidates, which it knows by their places in the sequence."""
        stem = self.folder / f"image_{candidates[0].number}"
        table, script, image = stem.with_suffix(".c"), stem.with_suffix(".ld"), stem.with_suffix(".elf")
        arena = max(sum(_up(w) for w in c.workspaces) for c in candidates)
        buffers = sum(_up(a.before.nbytes) for a in self.task.arguments if not a.constant)
        table.write_text(self._table(candidates, arena))
        script.write_text(memory_script(self.board, arena + buffers, self.board.stack_bytes + _STATIC_BYTES))
        compiled = self._compiled(table, "the table of candidates", "-Wno-unused", "-Wno-old-style-declaration")
        link = [*self.cpu.cflags, *self._objects, compiled, *objects, "-T", script]
        link += [*self.cpu.ldflags, "-Wl,--gc-sections", *self.cpu.libraries, "-o", image]
        call(self.cpu, "gcc", link, self.task.name)
        return image

    def _table(self, candidates: Sequence[Candidate], arena: int) -> str:
        place = f'__attribute__((aligned({_ALIGN}), section(".bss.embbert_arena")))'
        lines = [
            '#include "tuning.h"',
            f"#define PLACE {place}",
            f"static uint8_t arena[{max(arena, 1)}] PLACE;",
        ]
        inputs, outputs, where = [], [], []
        for i, argument in enumerate(self.task.arguments):
            size = argument.before.nbytes
            lines.append(f"extern const uint8_t before_{i}[];")
            if argument.constant:
                where.append(f"before_{i}")
                continue
            lines.append(f"static uint8_t buffer_{i}[{size}] PLACE;")
            where.append(f"buffer_{i}")
            inputs.append(f"{{buffer_{i}, before_{i}, {size}u}}")
            if argument.after is not None:
                lines.append(f"extern const uint8_t after_{i}[];")
                tolerance = f"{argument.tolerance:.9g}"
                real = tolerance if set(tolerance) & set(".e") else f"{tolerance}.0"
                outputs.append(f"{{buffer_{i}, after_{i}, {size}u, {real}f, {RELATIVE}f}}")
        for c in candidates:
            lines += self._call(c, where)
        names = ", ".join(f"run_{c.number}" for c in candidates)
        lines += [
            f"const input_t inputs[] = {{{', '.join(inputs)}}};",
            f"const size_t task_inputs = {len(inputs)};",
            f"const output_t outputs[] = {{{', '.join(outputs)}}};",
            f"const size_t task_outputs = {len(outputs)};",
            f"void (*const candidates[])(void) = {{{names}}};",
            f"const size_t task_candidates = {len(candidates)};",
        ]
        return "\n".join(lines) + "\n"

    def _call(self, made: Candidate, where: Sequence[str]) -> list[str]:
        function, offset, arguments = made.function, 0, []
        values = self.task.where(function)
        arguments += [str(values[s]) for s in function.scalars]
        for buffer, place in zip(function.buffers, where, strict=True):
            arguments.append(f"({'' if buffer.written else 'const '}{C_TYPES[buffer.dtype]} *)(uintptr_t){place}")
        for workspace, size in zip(function.workspaces, made.workspaces, strict=True):
            arguments.append(f"({C_TYPES[workspace.dtype]} *)(void *)(arena + {offset})")
            offset += _up(size)
        body = f"static void run_{made.number}(void) {{ {made.symbol}({', '.join(arguments)}); }}"
        return [f"{function.signature()};", body]


def _up(size: int) -> int:
    return (size + _ALIGN - 1) // _ALIGN * _ALIGN
