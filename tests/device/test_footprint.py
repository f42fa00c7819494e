"""Bytes that a package costs, read from what the linker made."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

import pytest
import small

from embbert_tvm.device.build import build
from embbert_tvm.device.footprint import LIBRARY_FRAME, _without_values, footprint
from embbert_tvm.device.package import load_package
from embbert_tvm.device.toolchain import find_tool
from embbert_tvm.errors import WorkError
from embbert_tvm.target import load_board, load_cpu


@pytest.mark.parametrize("cpu", ["host", "cortex-m7"])
def test_footprint(toy, cpu):
    measured = footprint(toy, load_cpu(cpu))
    assert measured.weights == 12
    assert 100 < measured.code < 2000
    assert measured.stack > 256  # deep()'s row
    assert measured.stack_unknown == ()


def test_flash_and_ram_of_the_image_hold_the_package(toy):
    cpu, board = load_cpu("cortex-m7"), load_board("mps2_an500")
    elf = build(toy, cpu, board)
    printed = subprocess.run(["arm-none-eabi-size", "-A", "-d", elf], capture_output=True, text=True, check=True)
    lines = [line.split() for line in printed.stdout.splitlines() if line.startswith(".")]
    sections = {words[0]: int(words[1]) for words in lines}
    measured = footprint(toy, cpu)
    assert sections[".weights"] == measured.weights
    assert sections[".text"] > measured.code
    assert sections[".stack"] == board.stack_bytes
    assert sections[".bss"] >= toy.arena_bytes


def test_tables_are_measured_without_their_values(toy, tmp_path, monkeypatch):
    """Reading them is a third of a compiler's work; their sections, sizes and alignment are all that counts."""
    monkeypatch.setattr("embbert_tvm.device.footprint._FEW_VALUES", 1)
    (weights,) = (path for path in toy.sources if path.stem == "weights")
    short = _without_values(weights, tmp_path).read_text()
    assert "= {1};" in short
    assert len(short) < len(weights.read_text())
    assert all(_without_values(path, tmp_path) == path for path in toy.sources if path != weights)

    def sizes(text: str) -> list[str]:
        source = tmp_path / "measured.c"
        source.write_text(text)
        flags = [f"-I{weights.parent}", "-c", "-o", tmp_path / "measured.o"]
        subprocess.run(["arm-none-eabi-gcc", *flags, source], check=True)
        printed = subprocess.run(["arm-none-eabi-size", "-A", tmp_path / "measured.o"], capture_output=True, text=True)
        return [line for line in printed.stdout.splitlines() if ".comment" not in line]

    text = weights.read_text() + "\nconst short unsized[] = {1, 2};\nconst int rows[2][2] = {{1, 2}, {3, 4}};\n"
    copied = tmp_path / "more" / weights.name
    copied.parent.mkdir()
    copied.write_text(text)
    assert sizes(_without_values(copied, tmp_path).read_text()) == sizes(text)


def test_a_tokenizer_is_as_large_without_its_tables_values(monkeypatch):
    """Its code reads the tables that stand beside it: of zeros a compiler might have known what it reads."""
    monkeypatch.setattr("embbert_tvm.device.footprint._FEW_VALUES", 1)
    package, cpu = load_package(small.package(target="cortex-m7")), load_cpu("cortex-m7")
    (tokenizer,) = (path for path in package.sources if path.stem.endswith("tokenizer"))
    with tempfile.TemporaryDirectory() as folder:
        assert len(_without_values(tokenizer, Path(folder)).read_text()) < len(tokenizer.read_text()) / 2
    found = footprint(package, cpu)
    monkeypatch.setattr("embbert_tvm.device.footprint._without_values", lambda path, folder: path)
    assert footprint(package, cpu) == found


ENTRY = "embbert_status_t embbert_run(embbert_t *model, const int32_t *ids, size_t n, float *logits)\n{"


def spoiled(toy, folder, declared: str, line: str):
    """The toy package with a declaration before embbert_run and a line at its beginning."""
    for source in toy.sources:
        copied = folder / source.relative_to(toy.path)
        text = source.read_text()
        assert ENTRY in text or source.name != "embbert_model.c"
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(text.replace(ENTRY, f"{declared}\n{ENTRY}\n{line}"))
    for file in toy.path.rglob("*.[hj]*"):
        if file.is_file():
            (folder / file.relative_to(toy.path)).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.relative_to(toy.path)).write_bytes(file.read_bytes())
    return load_package(folder)


@pytest.mark.parametrize("cpu", ["cortex-m0plus", "cortex-m7"])
def test_a_function_of_the_library_counts_in_the_worst_stack(toy, tmp_path, cpu):
    """GCC tells no frame of it: counted as nothing, the stack of a model in float would be too small."""
    grow = (
        "#include <math.h>\n__attribute__((noinline)) static float grow(float x, size_t n)\n"
        "{ volatile float row[1000]; row[n] = x; return row[n] = EXP(row[n]); }"
    )
    line = "    logits[0] = grow(logits[0], n);"
    plain, called = (
        footprint(spoiled(toy, tmp_path / name, grow.replace("EXP", function), line), load_cpu(cpu))
        for name, function in (("plain", ""), ("called", "expf"))
    )
    assert "expf" in called.stack_unknown
    assert plain.stack + LIBRARY_FRAME - 32 <= called.stack <= plain.stack + LIBRARY_FRAME + 64


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("    if (ids[0] == 5) return ((embbert_status_t (*)(void))(uintptr_t)ids[1])();", "through a pointer"),
        ("    volatile char room[n]; room[0] = 1; logits[0] = room[n - 1];", "grows with its input"),
    ],
)
def test_a_stack_that_cannot_be_known_is_refused(toy, tmp_path, line, message):
    with pytest.raises(WorkError, match=message):
        footprint(spoiled(toy, tmp_path, "", line), load_cpu("cortex-m7"))


CALLS_LIBRARY = """\
#include <math.h>
#include <string.h>
volatile float a, b;
volatile int n;
char x[9], y[9];
int main(void)
{
    a = sqrtf(fmaxf(expf(b), tanhf(a))) / b + n;
    n = a;
    memcpy(x, y, n);
    memmove(y, x, n);
    memset(x, n, n);
    return n / 7 + n % 9 + n / n;
}
void _exit(int status)
{
    (void)status;
    for (;;)
        ;
}
"""
PUSHED = re.compile(r"^(?:push|stmdb|vpush)\S*\s.*?\{([^}]*)\}")
LOWERED = re.compile(r"^(?:subs?|addi?)\S*\s+sp,\s*(?:sp,\s*)?(?:#|-)(\d+)")


def deepest_frames(listing: str) -> dict[str, int]:
    """Bytes of stack of each function of a disassembly with what it calls."""
    frames: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    function = ""
    for line in listing.splitlines():
        if head := re.match(r"[0-9a-f]+ <([^>]+)>:", line):
            function = head[1]
            frames[function], calls[function] = 0, set()
        elif len(words := line.split("\t", 2)) == 3 and function:
            if pushed := PUSHED.match(words[2]):
                frames[function] += sum(map(registers, pushed[1].split(",")))
            if lowered := LOWERED.match(words[2]):
                frames[function] += int(lowered[1])
            if target := re.search(r"^[bj]\S*\s.*<([^>+]+)>", words[2]):
                calls[function].add(target[1])

    def depth(name: str, above: tuple[str, ...]) -> int:
        below = (depth(f, (*above, name)) for f in calls.get(name, ()) if f not in (*above, name))
        return frames.get(name, 0) + max(below, default=0)

    return {name: depth(name, ()) for name in frames}


def registers(text: str) -> int:
    """Bytes of `r4`, `r4-r7` or `d8-d9`."""
    first, _, last = text.strip().partition("-")
    count = int(last[1:]) - int(first[1:]) + 1 if last else 1
    return count * (8 if first.startswith("d") else 4)


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "rv32imc"])
def test_what_is_allowed_for_the_library_is_enough(tmp_path, name):
    """Read from the code of the library that images are linked with."""
    cpu, elf = load_cpu(name), tmp_path / "a.elf"
    (tmp_path / "a.c").write_text(CALLS_LIBRARY)
    flags = [*cpu.cflags, *cpu.ldflags, "-O2", "-fno-builtin", "-Wl,-e,main"]
    subprocess.run([find_tool(cpu, "gcc"), *flags, tmp_path / "a.c", *cpu.libraries, "-lm", "-o", elf], check=True)
    listing = subprocess.run([find_tool(cpu, "objdump"), "-d", elf], capture_output=True, text=True, check=True).stdout
    found = deepest_frames(listing)
    library = {f: found[f] for f in ("expf", "tanhf", "sqrtf", "memcpy", "memset", "memmove") if f in found}
    assert len(library) >= 5
    assert max(library.values()) > 0
    assert max(library.values()) <= LIBRARY_FRAME, library
