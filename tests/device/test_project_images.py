"""Projects for a board, by CMake and by a Makefile: built by their tools and booted in QEMU."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import small
from projects import PREFIX, PROGRAMS, QEMU, configure, expected_label, project, run
from toy import write_package

from embbert_tvm.device.build import FIRMWARE
from embbert_tvm.device.package import Package, load_package
from embbert_tvm.device.project import EXAMPLE
from embbert_tvm.target import load_board
from embbert_tvm.target_file import board_text


@pytest.fixture(scope="module")
def board_package() -> Package:
    return load_package(small.package(target="cortex-m4", prefix=PREFIX))


def test_cmake_builds_and_boots(board_package, tmp_path):
    folder = project(board_package, "cmake", tmp_path / "fw", board=load_board("netduinoplus2"))
    configure(folder, "cortex-m4")
    built = run(PROGRAMS / "cmake", "--build", "build", "--verbose", cwd=folder)
    assert "warning" not in built
    (kernels,) = (line for line in built.splitlines() if " -c " in line and "intent_kernels.c" in line)
    assert {"-O3", "-ffp-contract=off", "-mcpu=cortex-m4", "-mfloat-abi=hard"} <= set(kernels.split())
    assert expected_label(board_package) in run(PROGRAMS / "cmake", "--build", "build", "--target", "run", cwd=folder)


def test_bare_builds_and_boots(board_package, tmp_path):
    folder = project(board_package, "bare", tmp_path / "fw")
    built = run("make", cwd=folder)
    assert "warning" not in built
    (kernels,) = (line for line in built.splitlines() if "-o model/intent_kernels.o" in line)
    assert {"-O3", "-ffp-contract=off", "-mcpu=cortex-m4", "-mfloat-abi=hard"} <= set(kernels.split())
    assert expected_label(board_package) in run("make", "run", cwd=folder).splitlines()
    run("make", "clean", cwd=folder)
    assert not list(folder.rglob("*.o"))


@pytest.fixture
def two_flashes(tmp_path):
    """The board of the Cortex-M4 in QEMU, its flash cut into one for code and one that weights must go to."""
    text = board_text(load_board("mps2_an386")).replace("name: mps2_an386", "name: two_flashes")
    row = "  - {name: FLASH, kind: flash, origin: 0x0, bytes: 0x400000}\n"
    assert row in text
    rows = [
        row.replace("0x400000", "0x20000"),
        row.replace("FLASH", "OTHER").replace("origin: 0x0,", "origin: 0x100000,").replace("0x400000", "0x100000"),
    ]
    path = tmp_path / "two_flashes.yaml"
    path.write_text(text.replace(row, "".join(rows)))
    return load_board(str(path))


def test_halves_of_weights_beyond_the_itcm_boot(tmp_path):
    """An M55 in fp16: the ITCM has room for code alone, so that weights go to the flash behind it."""
    package = load_package(small.package("fp16", "cortex-m55", PREFIX))
    text = board_text(load_board("mps3_an547")).replace("name: mps3_an547", "name: small_itcm")
    text, cut = re.subn(r"(name: ITCM, kind: flash, origin: 0x0+, bytes: )0x80000", r"\g<1>0x20000", text)
    assert cut == 1
    (tmp_path / "small_itcm.yaml").write_text(text)
    folder = project(package, "cmake", tmp_path / "fw", board=load_board(str(tmp_path / "small_itcm.yaml")))
    configure(folder, "cortex-m55")
    assert expected_label(package) in run(PROGRAMS / "cmake", "--build", "build", "--target", "run", cwd=folder)
    assert weights_section(package, folder / "build/firmware.elf")[0] == 0x11000000


def weights_section(package: Package, image: Path) -> tuple[int, int]:
    """Address and size of .weights."""
    listing = run("arm-none-eabi-objdump", "-h", image)
    (row,) = (line.split() for line in listing.splitlines() if line.split()[1:2] == [".weights"])
    # Link-time optimization folds a few small tables into the code.
    assert int(row[2], 16) > 0.95 * package.weights_bytes
    return int(row[3], 16), int(row[2], 16)


def test_weights_go_to_another_flash_whatever_names_and_links_the_objects(board_package, two_flashes, tmp_path):
    """CMake's objects have other names than make's; link-time optimization has none. Blanks stand in the paths."""
    folder = project(board_package, "cmake", tmp_path / "a project", board=two_flashes)
    configure(folder, "cortex-m4")
    assert expected_label(board_package) in run(PROGRAMS / "cmake", "--build", "build", "--target", "run", cwd=folder)
    assert weights_section(board_package, folder / "build/firmware.elf")[0] == 0x100000
    folder = project(board_package, "bare", tmp_path / "a bare one", board=two_flashes)
    assert expected_label(board_package) in run("make", "MODEL=-O2 -ffp-contract=off -flto", "run", cwd=folder)
    assert weights_section(board_package, folder / "firmware.elf")[0] == 0x100000


def test_weights_lie_where_a_firmware_says(board_package, tmp_path):
    folder = project(board_package, "bare", tmp_path / "fw")
    script = folder / "link.ld"
    script.write_text(script.read_text().replace("*(.rodata*) . = ALIGN(4); } >", "*(.my_flash) . = ALIGN(4); } >"))
    flags = "-O2 -ffp-contract=off -D'INTENT_WEIGHTS_SECTION(name)=\".my_flash\"'"
    assert expected_label(board_package) in run("make", f"MODEL={flags}", "run", cwd=folder)
    weights_section(board_package, folder / "firmware.elf")


CONSUMER = """\
cmake_minimum_required(VERSION 3.21)
project(consumer C CXX)
FIND
set(vendor "${CMAKE_CURRENT_SOURCE_DIR}/a vendor")
set(board "${vendor}/example/start.c" "${vendor}/example/board.c" "${vendor}/example/registers.c")
add_executable(app.elf app.cpp ${board})
target_include_directories(app.elf PRIVATE "${vendor}/example")
target_compile_options(app.elf PRIVATE -Wall -Wextra -Wconversion -Wshadow -Wpedantic -Werror -fno-exceptions)
target_link_libraries(app.elf PRIVATE embbert_intent::embbert_intent)
target_link_options(app.elf PRIVATE -T "${vendor}/link.ld" -Wl,--gc-sections)
set_target_properties(app.elf PROPERTIES LINKER_LANGUAGE C) # Debian's GCC has no C++ library of its own
"""
CONSUMER_CPP = """\
#include <string.h>
#include <intent.h>
#include "semihosting.h"
extern "C" {
#include "start.h"
void server_fault(uint32_t, uint32_t) { semihosting_exit(0); }
}
struct Constructed {
    int value;
    Constructed() : value(1) {}
} constructed;
alignas(INTENT_ARENA_ALIGN) static uint8_t arena[INTENT_ARENA_BYTES];
static intent_t model;
static intent_result_t result;
int main()
{
    static const char text[] = "TEXT";
    if (constructed.value && intent_init(&model, arena, sizeof arena) == INTENT_OK &&
        intent_classify(&model, text, strlen(text), &result) == INTENT_OK)
        semihosting_write(result.label_text);
    semihosting_exit(1);
}
"""


def test_cmakes_folder_is_a_part_of_a_cpp_project_and_a_package(board_package, tmp_path):
    """With blanks in paths, strict warnings and link-time optimization."""
    folder = project(board_package, "cmake", tmp_path / "a vendor", board=load_board("mps2_an386"))
    (tmp_path / "app.cpp").write_text(CONSUMER_CPP.replace("TEXT", EXAMPLE))
    command = [PROGRAMS / "cmake", "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={PROGRAMS / 'ninja'}", "-S", "."]
    command += ["--toolchain", folder / "cmake/cortex-m4.cmake"]

    def build_and_boot(build: str, find: str, *options: str) -> None:
        (tmp_path / "CMakeLists.txt").write_text(CONSUMER.replace("FIND", find))
        run(*command, *options, "-B", build, cwd=tmp_path)
        assert "warning" not in run(PROGRAMS / "cmake", "--build", build, cwd=tmp_path)
        assert run(*QEMU, tmp_path / build / "app.elf") == expected_label(board_package)

    build_and_boot("one", 'add_subdirectory("a vendor")', "-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=ON")
    assert not (tmp_path / "one/a vendor/firmware.elf").exists(), "the example is for a project of its own"
    build_and_boot("two", 'add_subdirectory("a vendor/embbert_intent")')
    run(PROGRAMS / "cmake", "--install", "two", "--prefix", tmp_path / "an installed", cwd=tmp_path)
    root = ["-DCMAKE_FIND_ROOT_PATH_MODE_PACKAGE=BOTH", f"-DCMAKE_PREFIX_PATH={tmp_path / 'an installed'}"]
    build_and_boot("three", "find_package(embbert_intent REQUIRED)", *root)


def test_constructors_run_before_main(board_package, tmp_path):
    """Those of C++, and C's own; the start-up runs what the linker script collects."""
    folder = project(board_package, "bare", tmp_path / "fw")
    main = folder / "main.c"
    early = '__attribute__((constructor)) static void early(void) { semihosting_write("constructed\\n"); }\n'
    main.write_text(main.read_text().replace("int main(void)", early + "int main(void)"))
    printed = run("make", "run", cwd=folder).splitlines()
    assert printed.index("constructed") < printed.index(expected_label(board_package))


TICKS = """\
#include "port.h"
#include "semihosting.h"
#include "start.h"

void server_fault(uint32_t status, uint32_t address) { (void)status, (void)address, semihosting_exit(0); }

int main(void)
{
    uint32_t before, after;
    (void)port_ticks();
    __asm__ volatile("mrs %0, primask\\n\\tcpsid i" : "=r"(before));
    (void)port_ticks();
    __asm__ volatile("mrs %0, primask" : "=r"(after));
    semihosting_write(before == 0u && after == 1u ? "kept" : "changed");
    semihosting_exit(1);
}
"""


def test_reading_the_time_leaves_interrupts_as_they_were(board_package, tmp_path):
    """It ended in `cpsie i`, whatever was before: in a critical section of its caller interrupts came."""
    folder = project(board_package, "bare", tmp_path / "fw")
    (folder / "main.c").write_text(TICKS)
    for name in ("src/cortex_m_systick.c", "include/port.h"):
        shutil.copy(FIRMWARE / name, folder)
    objects = "main.o start.o board.o registers.o cortex_m_systick.o"
    assert run("make", "--no-print-directory", f"OBJECTS={objects}", "run", cwd=folder).endswith("kept")


def test_a_fault_ends_the_example(tmp_path):
    """A toy package whose model writes where nothing is: the start-up's handler says so, and the status is 1."""
    model = write_package(tmp_path / "p", "cortex-m3")
    source = model / "codegen/host/src/model.c"
    source.write_text(source.read_text().replace("ids[0] == 902", "ids[0] >= 0"))
    folder = project(load_package(model), "bare", tmp_path / "fw")
    run("make", cwd=folder)
    done = subprocess.run(["make", "run"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "fault" in done.stderr
