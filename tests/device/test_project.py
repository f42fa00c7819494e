"""Projects that their tools build for themselves, checked against published formats; their C compiled on the host as
the tools lay it out."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import small
import yaml
from projects import HOST, PREFIX, PROGRAMS, SEMVER, configure, expected_label, project, run

from embbert_tvm.c_names import DEFAULT_PREFIX
from embbert_tvm.device.package import Package, load_package
from embbert_tvm.device.project import (
    EXAMPLE,
    component_name,
    known_templates,
    load_template,
    project_name,
    write_project,
)


@pytest.fixture(scope="module")
def host_package() -> Package:
    return load_package(small.package(prefix=PREFIX))


@pytest.fixture(scope="module")
def board_package() -> Package:
    return load_package(small.package(target="cortex-m4", prefix=PREFIX))


def test_the_templates_of_the_issue_ship():
    assert known_templates() == ["arduino", "bare", "cmake", "esp-idf", "platformio", "zephyr"]


def test_zephyr_is_a_module(host_package, tmp_path):
    """https://docs.zephyrproject.org/latest/develop/modules.html"""
    folder = project(host_package, "zephyr", tmp_path / "fw")
    module = yaml.safe_load((folder / "zephyr/module.yml").read_text())
    assert set(module) <= {"name", "build", "tests", "samples", "boards", "blobs", "security", "runners"}
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", module["name"])
    assert set(module["build"]) == {"cmake", "kconfig"}
    assert (folder / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    (symbol,) = re.findall(r"^config (\w+)$", (folder / module["build"]["kconfig"]).read_text(), re.MULTILINE)
    assert symbol == "EMBBERT_INTENT"
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


def test_no_prefix_is_a_name_of_the_build_system(tmp_path):
    """`--prefix test` switched a part of Zephyr on (CONFIG_TEST), and CMake keeps the target `test` for itself."""
    package = load_package(small.package(target="cortex-m4", prefix="test"))
    module = project(package, "zephyr", tmp_path / "zephyr")
    assert "config EMBBERT_TEST\n" in (module / "zephyr/Kconfig").read_text()
    assert (module / "samples/classify/prj.conf").read_text().startswith("CONFIG_EMBBERT_TEST=y\n")
    assert "zephyr_library_named(embbert_test)" in (module / "zephyr/CMakeLists.txt").read_text()
    configure(project(package, "cmake", tmp_path / "cmake"), "cortex-m4")
    assert [path.name for path in (project(package, "esp-idf", tmp_path / "idf") / "components").iterdir()] == [
        component_name("test")
    ]
    assert component_name(DEFAULT_PREFIX) == DEFAULT_PREFIX


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
set(CONFIG_EMBBERT_INTENT y)
add_subdirectory(MODULE/zephyr zephyr)
get_property(folders GLOBAL PROPERTY folders)
add_executable(app MODULE/samples/classify/src/main.c)
target_include_directories(app PRIVATE ${folders} ${CMAKE_SOURCE_DIR})
target_link_libraries(app PRIVATE embbert_intent m)
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
