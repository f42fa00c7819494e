"""Projects from packages: those for a board are built and booted; the others checked against their published formats,
their C compiled on the host in the layout that their tools expect."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small
import yaml
from toy import write_package

from embbert_tvm.c_names import DEFAULT_PREFIX
from embbert_tvm.device.classify import classify
from embbert_tvm.device.package import Package, load_package, load_vectors
from embbert_tvm.device.project import EXAMPLE, known_templates, load_template, project_name, write_project
from embbert_tvm.target import load_board
from embbert_tvm.target_file import board_text

PREFIX = "intent"
PROGRAMS = Path(sys.executable).parent  # where pip puts cmake and ninja
SEMVER = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"
QEMU = (
    "qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none",
    "-semihosting-config", "enable=on,target=native", "-kernel",
)  # fmt: skip
HOST = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1")


@pytest.fixture(scope="module")
def host_package() -> Package:
    return load_package(small.package(prefix=PREFIX))


@pytest.fixture(scope="module")
def board_package() -> Package:
    return load_package(small.package(target="cortex-m4", prefix=PREFIX))


def project(package: Package, name: str, out: Path, **options) -> Path:
    files = write_project(package, load_template(name), out, **options)
    assert files == sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    for path in files:
        assert not re.search(r"@\w+@", path)
        assert not re.search(r"@[a-z_]+@", (out / path).read_text()), path
    assert (out / "README.md").is_file()
    return out


def run(*command: object, cwd: Path | None = None, stdin: str = "") -> str:
    """What a program that succeeds prints, on both of its outputs."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, input=stdin, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def configure(folder: Path, cpu: str) -> None:
    """What a user's first call of CMake does."""
    ninja = f"-DCMAKE_MAKE_PROGRAM={PROGRAMS / 'ninja'}"
    given = ["-G", "Ninja", ninja, "-S", ".", "-B", "build", "--toolchain", f"cmake/{cpu}.cmake"]
    run(PROGRAMS / "cmake", *given, cwd=folder)


def expected_label(package: Package) -> str:
    """What the example should print: of its text, or where the package takes only token ids, of a reference vector."""
    header = next(h for folder in package.includes for h in folder.glob(f"{package.prefix}.h")).read_text()
    if re.search(rf"{package.prefix.upper()}_HAS_TOKENIZER 1\b", header):
        (answer,) = classify(package, [EXAMPLE], "host")
        return answer.label
    vectors = load_vectors(package)
    return package.labels[int(np.argmax(vectors[len(vectors) // 2].logits))]


def test_the_templates_of_the_issue_ship():
    assert known_templates() == ["arduino", "bare", "cmake", "esp-idf", "platformio", "zephyr"]


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
target_link_libraries(app.elf PRIVATE intent::intent)
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
    build_and_boot("two", 'add_subdirectory("a vendor/intent")')
    run(PROGRAMS / "cmake", "--install", "two", "--prefix", tmp_path / "an installed", cwd=tmp_path)
    root = ["-DCMAKE_FIND_ROOT_PATH_MODE_PACKAGE=BOTH", f"-DCMAKE_PREFIX_PATH={tmp_path / 'an installed'}"]
    build_and_boot("three", "find_package(intent REQUIRED)", *root)


def test_constructors_run_before_main(board_package, tmp_path):
    """Those of C++, and C's own; the start-up runs what the linker script collects."""
    folder = project(board_package, "bare", tmp_path / "fw")
    main = folder / "main.c"
    early = '__attribute__((constructor)) static void early(void) { semihosting_write("constructed\\n"); }\n'
    main.write_text(main.read_text().replace("int main(void)", early + "int main(void)"))
    printed = run("make", "run", cwd=folder).splitlines()
    assert printed.index("constructed") < printed.index(expected_label(board_package))


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


def test_zephyr_is_a_module(host_package, tmp_path):
    """https://docs.zephyrproject.org/latest/develop/modules.html"""
    folder = project(host_package, "zephyr", tmp_path / "fw")
    module = yaml.safe_load((folder / "zephyr/module.yml").read_text())
    assert set(module) <= {"name", "build", "tests", "samples", "boards", "blobs", "security", "runners"}
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", module["name"])
    assert set(module["build"]) == {"cmake", "kconfig"}
    assert (folder / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    (symbol,) = re.findall(r"^config (\w+)$", (folder / module["build"]["kconfig"]).read_text(), re.MULTILINE)
    assert symbol == "INTENT"
    (samples,) = module["samples"]
    sample = folder / samples / "classify"
    assert f"CONFIG_{symbol}=y" in (sample / "prj.conf").read_text().splitlines()
    assert {"select FPU_SHARING if FPU", "imply FPU if ARM"} <= {
        line.strip() for line in (folder / "zephyr/Kconfig").read_text().splitlines()
    }
    assert all(re.fullmatch(r"CONFIG_[A-Z0-9_]+=\w+", line) for line in (sample / "prj.conf").read_text().splitlines())
    manifest = yaml.safe_load((sample / "sample.yaml").read_text())
    assert {"sample", "tests"} == set(manifest)
    (test,) = manifest["tests"].values()
    assert test["min_ram"] * 1024 > host_package.arena_bytes
    assert test["min_flash"] * 1024 > host_package.weights_bytes
    listing = (sample / "CMakeLists.txt").read_text()
    found = listing.index("find_package(Zephyr REQUIRED")
    assert (
        listing.index("ZEPHYR_EXTRA_MODULES") < found < listing.index("project(") < listing.index("target_sources(app")
    )


def test_two_packages_of_a_model_are_two_modules(host_package, tmp_path):
    """Zephyr took one of the two for the other, and dropped it: both had the model's name."""
    default = replace(host_package, prefix=DEFAULT_PREFIX)
    long = replace(host_package, prefix="a_prefix", model_name="m" * 60)
    names = [project_name(package) for package in (default, host_package, long)]
    assert names[1:] == [f"{names[0]}-{PREFIX}", "m" * 41 + "-a-prefix"]
    folder = project(host_package, "zephyr", tmp_path / "fw")
    assert yaml.safe_load((folder / "zephyr/module.yml").read_text())["name"] == names[1]


ZEPHYR = """\
cmake_minimum_required(VERSION 3.20)
project(standin C)
set(CMAKE_C_FLAGS "-Wall -Wextra -Werror")
function(zephyr_include_directories)
  foreach(folder ${ARGN})
    include_directories(${CMAKE_CURRENT_SOURCE_DIR}/${folder})
    set_property(GLOBAL APPEND PROPERTY folders ${CMAKE_CURRENT_SOURCE_DIR}/${folder})
  endforeach()
endfunction()
macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${name})
  add_library(${name} STATIC)
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/../include)
endmacro()
function(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()
function(zephyr_library_compile_options)
  target_compile_options(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()
set(CONFIG_INTENT y)
add_subdirectory(MODULE/zephyr zephyr)
get_property(folders GLOBAL PROPERTY folders)
add_executable(app MODULE/samples/classify/src/main.c)
target_include_directories(app PRIVATE ${folders} ${CMAKE_SOURCE_DIR})
target_link_libraries(app PRIVATE intent m)
"""


def test_zephyrs_cmake_builds_on_the_host(host_package, tmp_path):
    """With stand-ins for the functions of Zephyr's CMake that the module calls, and for its kernel.h."""
    folder = project(host_package, "zephyr", tmp_path / "fw")
    (tmp_path / "zephyr").mkdir()
    (tmp_path / "zephyr/kernel.h").write_text("#include <stdio.h>\n#define printk printf\n")
    (tmp_path / "CMakeLists.txt").write_text(ZEPHYR.replace("MODULE", folder.name))
    ninja = f"-DCMAKE_MAKE_PROGRAM={PROGRAMS / 'ninja'}"
    run(PROGRAMS / "cmake", "-G", "Ninja", ninja, "-S", ".", "-B", "build", cwd=tmp_path)
    run(PROGRAMS / "cmake", "--build", "build", cwd=tmp_path)
    assert run(tmp_path / "build/app") == f"label: {expected_label(host_package)}\n"


def test_arduino_is_a_library(host_package, tmp_path):
    """https://docs.arduino.cc/arduino-cli/library-specification, format 1.5, revision 2.2"""
    folder = project(host_package, "arduino", tmp_path / "fw")
    lines = (folder / "library.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    assert len(properties) == len(lines)
    required = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    optional = {"depends", "dot_a_linkage", "includes", "precompiled", "ldflags", "license", "email"}
    assert required <= set(properties) <= required | optional
    assert all(properties.values())
    assert re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9 _.-]{0,62}", properties["name"])
    assert not properties["name"].lower().startswith("arduino")
    assert re.fullmatch(SEMVER, properties["version"])
    assert properties["category"] in {
        "Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage",
        "Data Processing", "Other",
    }  # fmt: skip
    assert properties["url"].startswith("https://")
    assert properties["architectures"] == "*"
    assert properties["license"] == "Apache-2.0"
    assert all((folder / "src" / name).is_file() for name in properties["includes"].split(","))
    sketches = list((folder / "examples").glob("*/*.ino"))
    assert [sketch.stem for sketch in sketches] == [sketch.parent.name for sketch in sketches] == ["Classify"]
    # What the specification does not know in a library's root would be compiled or ignored in unforeseen ways.
    assert {path.name for path in folder.iterdir()} == {"library.properties", "src", "examples", "README.md", "LICENSE"}


ARDUINO_H = """\
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct StandIn {
    void begin(long) {}
    explicit operator bool() const { return true; }
    int available() { int c = getchar(); if (c == EOF) exit(0); ungetc(c, stdin); return 1; }
    int read() { return getchar(); }
    void println(const char *text) { puts(text); }
};
static StandIn Serial;
static void delay(unsigned long) { exit(0); }
"""


def test_arduinos_sketch_runs_on_the_host(host_package, tmp_path):
    """Every C file below src/ with -Isrc, the sketch as C++ with Arduino.h before it."""
    folder = project(host_package, "arduino", tmp_path / "fw")
    (tmp_path / "Arduino.h").write_text(ARDUINO_H)
    objects = []
    for source in sorted((folder / "src").rglob("*.c")):
        objects.append(tmp_path / f"{source.stem}.o")
        run("gcc", *HOST, f"-I{folder / 'src'}", "-c", source, "-o", objects[-1])
    sketch = folder / "examples/Classify/Classify.ino"
    (tmp_path / "main.cpp").write_text("void setup(); void loop(); int main() { setup(); for (;;) loop(); }\n")
    flags = ["-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", f"-I{folder / 'src'}"]
    run("g++", *flags, "-x", "c++", "-include", tmp_path / "Arduino.h", "-c", sketch, "-o", tmp_path / "sketch.o")
    run("g++", tmp_path / "main.cpp", tmp_path / "sketch.o", *objects, "-lm", "-o", tmp_path / "program")
    assert run(tmp_path / "program", stdin=f"{EXAMPLE}\n") == f"{expected_label(host_package)}\n"


def test_the_example_text_is_the_models_own(tmp_path, board_package):
    package = small.copy_of_package(board_package.path, tmp_path / "package")
    document = json.loads((package / "metadata.json").read_text())
    assert document["example"] is None  # of a folder without training.json
    document["example"] = "how's häuser @board@ at 5"
    (package / "metadata.json").write_text(json.dumps(document))
    own = load_package(package)
    folder = tmp_path / "fw"
    write_project(own, load_template("bare"), folder)
    source = tmp_path / "text.c"
    (line,) = re.findall(r"static const char text\[\] = .*;", next(folder.rglob("classify.h")).read_text())
    source.write_text(f"#include <stdio.h>\nint main(void) {{ {line} puts(text); return 0; }}\n")
    run("gcc", "-std=c99", source, "-o", tmp_path / "text")
    assert run(tmp_path / "text") == "how's häuser @board@ at 5\n"


def test_platformio_is_a_library_whose_example_prints_on_the_host(host_package, tmp_path):
    """https://docs.platformio.org/en/latest/manifests/library-json/index.html"""
    folder = project(host_package, "platformio", tmp_path / "fw")
    manifest = json.loads((folder / "library.json").read_text())
    known = {
        "$schema", "name", "version", "description", "keywords", "homepage", "repository", "authors", "license",
        "frameworks", "platforms", "headers", "examples", "dependencies", "export", "scripts", "build",
    }  # fmt: skip
    assert {"name", "version", "description", "build"} <= set(manifest) <= known
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", manifest["name"])
    assert len(manifest["name"]) <= 50
    assert re.fullmatch(SEMVER, manifest["version"])
    assert len(manifest["version"]) <= 20
    assert len(manifest["description"]) <= 255
    assert manifest["authors"]["name"]
    assert manifest["license"] == "Apache-2.0"
    build = manifest["build"]
    assert set(build) <= {"flags", "unflags", "includeDir", "srcDir", "srcFilter", "extraScript", "libArchive"}
    assert {"-ffp-contract=off"} <= set(build["flags"].split())
    assert (folder / build["includeDir"] / manifest["headers"]).is_file()
    for example in manifest["examples"]:
        assert set(example) == {"name", "base", "files"}
        assert all((folder / example["base"] / name).is_file() for name in example["files"])
    include = [f"-I{folder / build[key]}" for key in ("includeDir", "srcDir")]
    objects = []
    for source in sorted((folder / build["srcDir"]).rglob("*.c")):
        objects.append(tmp_path / f"{source.stem}.o")
        run("gcc", *HOST, *build["flags"].split(), *include, "-c", source, "-o", objects[-1])
    (tmp_path / "Arduino.h").write_text(ARDUINO_H)
    (tmp_path / "main.cpp").write_text("void setup(); void loop(); int main() { setup(); for (;;) loop(); }\n")
    sketch = folder / "examples/classify/src/main.cpp"
    flags = ["-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-Wno-unused", f"-I{tmp_path}", *include]
    run("g++", *flags, sketch, tmp_path / "main.cpp", *objects, "-lm", "-o", tmp_path / "program")
    assert run(tmp_path / "program") == f"{expected_label(host_package)}\n"


@pytest.mark.parametrize("name", ["x\n$(shell touch PWNED)\n#", 'x"\nexecute_process(COMMAND touch PWNED)\n#'])
def test_a_models_name_says_nothing_to_what_reads_a_project(name, board_package, tmp_path):
    """It may come from anywhere, and make and cmake run what a line of theirs says even where nothing is built."""
    for template in known_templates():
        out = project(replace(board_package, model_name=name), template, tmp_path / template)
        for path in (p for p in out.rglob("*") if p.is_file()):
            assert not [line for line in path.read_text().splitlines() if line.startswith(("$(", "execute_process"))]
    run("make", "-n", "-C", tmp_path / "bare")
    configure = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={PROGRAMS / 'ninja'}", "-S", ".", "-B", "build"]
    run(PROGRAMS / "cmake", *configure, "--toolchain", "cmake/cortex-m4.cmake", cwd=tmp_path / "cmake")
    assert not list(tmp_path.rglob("PWNED"))
