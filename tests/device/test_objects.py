"""When a C file is compiled, and when its object is taken from the user's cache folder."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import small

from embbert_tvm import cache
from embbert_tvm.device import objects
from embbert_tvm.device.build import FIRMWARE_FLAGS_VARIABLE, HOST_FLAGS_VARIABLE, build
from embbert_tvm.device.footprint import footprint
from embbert_tvm.device.objects import compile_object
from embbert_tvm.device.package import load_package
from embbert_tvm.errors import WorkError
from embbert_tvm.target import load_board, load_cpu

SOURCE = """#include <limits.h>
#include "near.h"
#include "far.h"
#include <system.h>
int f(void) { return NEAR + FAR; }
"""


class Place:
    """A C file with its headers, and a gcc that counts what it compiles."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cpu = folder, load_cpu("host")
        for name, text in {
            "source/f.c": SOURCE,
            "source/near.h": "#define NEAR 1\n",
            "include/far.h": '#include "farther.h"\n',
            "include/farther.h": "#define FAR 2\n",
            "include/other.h": "",
            "system/system.h": "",
        }.items():
            self.write(name, text)
        real, program = shutil.which("gcc"), folder / "bin" / "gcc"
        self.write("bin/gcc", f'#!/bin/sh\ncase " $* " in *" -c "*) echo >>{folder}/log;; esac\nexec {real} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.flags = ["-O1", "-isystem", str(folder / "system"), "-fcallgraph-info=su"]

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def compile(self, folder: str = "include") -> tuple[bytes, str]:
        output = self.folder / "f.o"
        compile_object(self.cpu, self.flags, [self.folder / folder], self.folder / "source" / "f.c", output)
        graph = output.with_suffix(".ci")
        found = output.read_bytes(), graph.read_text() if graph.exists() else ""
        output.unlink()
        graph.unlink(missing_ok=True)
        return found

    def compiled_anew(self) -> tuple[bytes, str]:
        """What the compiler gives, whatever is kept."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(cache.VARIABLE, "")
            return self.compile()

    @property
    def runs(self) -> int:
        log = self.folder / "log"
        return len(log.read_text()) if log.exists() else 0


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return Place(tmp_path)


def test_an_object_is_compiled_once(place):
    first = place.compile()
    assert first[0].startswith(b"\x7fELF")
    assert "f.c" in first[1]
    assert place.compile() == first
    assert place.runs == 1
    place.folder.joinpath("include").rename(place.folder / "elsewhere")
    assert place.compile("elsewhere") == first
    assert place.runs == 1
    assert sorted(path.name for path in place.folder.iterdir() if path.is_file()) == ["log"]


def test_a_call_graph_needs_a_compilation_but_the_object_is_the_same(place):
    asked = place.flags
    place.flags = asked[:-1]
    place.compile()
    place.flags = asked
    with_graph = place.compile()
    assert place.runs == 2
    assert with_graph == place.compile()
    place.flags = asked[:-1]
    assert place.compile() == (with_graph[0], "")
    assert place.runs == 2


def newer(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


CHANGES = {
    "the file": lambda place, monkeypatch: place.write("source/f.c", SOURCE + "\n"),
    "a header beside it": lambda place, monkeypatch: place.write("source/near.h", "#define NEAR 3\n"),
    "a header of a header": lambda place, monkeypatch: place.write("include/farther.h", "#define FAR 3\n"),
    "a header that comes before": lambda place, monkeypatch: place.write("source/farther.h", "#define FAR 3\n"),
    "a header of the system": lambda place, monkeypatch: newer(place.folder / "system" / "system.h"),
    "a header of the system goes": lambda place, monkeypatch: (
        place.folder.joinpath("system").rename(place.folder / "old"),
        place.flags.__setitem__(2, str(place.folder / "old")),
    ),
    "the compiler": lambda place, monkeypatch: newer(place.folder / "bin" / "gcc"),
    "a program of the compiler": lambda place, monkeypatch: monkeypatch.setattr(
        objects, "_state", lambda path, state=objects._state: state(path) + "+" * (path.name == "cc1")
    ),
    "a flag": lambda place, monkeypatch: place.flags.append("-DMORE"),
    "a variable": lambda place, monkeypatch: monkeypatch.setenv("CPATH", str(place.folder)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_is_compiled_anew_when_anything_changes_that_decides_it(place, monkeypatch, change):
    place.compile()
    change(place, monkeypatch)
    objects._programs.cache_clear()
    place.compile()
    place.compile()
    assert place.runs == 2


def test_a_header_that_it_does_not_include_changes_nothing(place):
    place.compile()
    place.write("include/other.h", "#define OTHER 1\n")
    place.compile()
    assert place.runs == 1


def test_where_a_macro_names_a_header_all_count(place):
    place.flags.append('-DNAMED="other.h"')
    place.write("source/f.c", f"#include NAMED\n{SOURCE}")
    place.compile()
    place.write("include/other.h", "#define OTHER 1\n")
    place.compile()
    assert place.runs == 2


@pytest.mark.parametrize(
    ("flag", "text", "runs"),
    [
        ("-DEMBBERT_PROFILE=3", "", 1),
        ("-DEMBBERT_PROFILE=3", "int profile = EMBBERT_PROFILE;\n", 2),
        ("-DSERVER_TEXT_BYTES=9u", "#define JOIN(a, b) a##b\nint bytes = JOIN(SERVER_TEXT, _BYTES);\n", 2),
    ],
    ids=["not named", "named", "may be put together"],
)
def test_a_macro_of_ours_decides_what_names_it(place, flag, text, runs):
    place.write("source/f.c", SOURCE + text)
    place.flags.append(flag)
    place.compile()
    place.flags[-1] = f"{flag[:-1]}7" if flag.endswith("3") else "-DSERVER_TEXT_BYTES=7u"
    place.compile()
    assert place.runs == runs


@pytest.mark.parametrize(
    ("before", "after", "runs"),
    [
        ("/* one */ int a;", "/* another,\n it's */ int a;", 2),
        ("/* one */ int a; // two", "/* another: \"it's */ int a; //", 1),
        ('const char *a = "/* one */";', 'const char *a = "/* two */";', 2),
        ('const char *a = "x??/" /* one */";', 'const char *a = "x??/" /* two */";', 2),
        ("#define EMBBERT_A 1\nint a;", "#define EMBBERT_A 2u /* two */\nint a;", 1),
        ("#define EMBBERT_A 1\nint a = EMBBERT_A;", "#define EMBBERT_A 2\nint a = EMBBERT_A;", 2),
        ("#define EMBBERT_A 1\n#ifdef EMBBERT_A\n#endif", "#define EMBBERT_A 2\n#ifdef EMBBERT_A\n#endif", 2),
        ("#define EMBBERT_A 1\n#define EMBBERT_B EMBBERT_A", "#define EMBBERT_A 2\n#define EMBBERT_B EMBBERT_A", 2),
        ("#define EMBBERT_A 1 + \\\n 2\nint a;", "#define EMBBERT_A 1 + \\\n 3\nint a;", 2),
        ("#define EMBBERT_BY_FLAG 1\nint a;", "#define EMBBERT_BY_FLAG 2\nint a;", 2),
        ("#define ANOTHER 1\nint a;", "#define ANOTHER 2\nint a;", 2),
    ],
)
def test_comments_and_macros_of_ours_that_nothing_names_decide_nothing(place, before, after, runs):
    place.flags += ["-DEMBBERT_C=EMBBERT_BY_FLAG", "-std=c99"]
    place.write("include/other.h", f"{before}\n")
    place.write("source/f.c", f'{SOURCE}#include "other.h"\n')
    first = place.compile()
    place.write("include/other.h", f"{after}\n")
    second = place.compile()
    assert place.runs == runs
    assert runs == 2 or first == second == place.compiled_anew()


def test_without_a_cache_it_is_compiled_each_time(place, monkeypatch):
    first = place.compile()
    monkeypatch.setenv(cache.VARIABLE, "")
    assert place.compile() == first
    assert place.runs == 2


def test_an_object_that_is_damaged_is_compiled_anew(place):
    first = place.compile()
    for file in place.folder.joinpath("cache").iterdir():
        file.write_bytes(file.read_bytes()[:-5])
    assert place.compile() == first
    assert place.runs == 2


def test_what_does_not_compile_is_not_kept(place):
    place.write("source/near.h", "")
    for _ in range(2):
        with pytest.raises(WorkError, match=r"gcc could not make f\.c: .*NEAR"):
            place.compile()
    assert place.runs == 2


@pytest.mark.parametrize("cpu", ["host", "cortex-m7"])
def test_a_package_measures_the_same_from_kept_objects(toy, cpu, tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, "")
    without = footprint(toy, load_cpu(cpu))
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    assert [footprint(toy, load_cpu(cpu)) for _ in range(2)] == [without, without]
    assert any(tmp_path.joinpath("cache").iterdir())


@pytest.mark.parametrize(("few", "again"), [(100_000, set()), (1, {"embbert_weights.c", "embbert_tokenizer.c"})])
def test_a_firmware_is_linked_of_the_objects_that_were_measured(few, again, tmp_path, monkeypatch):
    """All but those of long tables, which are measured without their values."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("embbert_tvm.device.footprint._FEW_VALUES", few)
    package = load_package(small.copy_of_package(small.package("int8", "cortex-m7"), tmp_path / "package"))
    compiled, call = [], objects.call

    def recorded(*arguments):
        compiled.extend(path.name for path in arguments[2] if isinstance(path, Path) and path.suffix == ".c")
        return call(*arguments)

    monkeypatch.setattr(objects, "call", recorded)
    footprint(package, load_cpu("cortex-m7"))
    measured = set(compiled)
    compiled.clear()
    build(package, load_cpu("cortex-m7"), load_board("mps2_an500"))
    assert measured == {path.name for path in package.sources}
    assert measured.intersection(compiled) == again


def test_the_same_flags_for_another_cpu_are_another_object(place):
    first = place.compile()
    place.cpu = replace(place.cpu, name="other")
    assert place.compile() == first  # what a CPU is called decides nothing
    assert place.runs == 1


@pytest.mark.parametrize(
    ("variable", "target", "board"),
    [("EMBBERT_TVM_HOST_CFLAGS", "host", None), ("EMBBERT_TVM_FIRMWARE_CFLAGS", "cortex-m4", "mps2_an386")],
)
def test_flags_of_the_environment_come_last_for_the_programs_that_they_name(
    variable, target, board, tmp_path, monkeypatch
):
    asked = []

    def compile_nothing(cpu, flags, folders, source, output):
        asked.append(flags)
        output.touch()

    monkeypatch.setattr("embbert_tvm.device.build.compile_object", compile_nothing)
    monkeypatch.setattr("embbert_tvm.device.build.call", lambda *_: "")
    for name in (HOST_FLAGS_VARIABLE, FIRMWARE_FLAGS_VARIABLE):
        monkeypatch.setenv(name, "-Og -g" if name == variable else "-DNEVER")
    package = load_package(small.copy_of_package(small.package(target=target), tmp_path / "package"))
    build(package, load_cpu(target), board and load_board(board))
    assert {flags[-2:] for flags in asked} == {("-Og", "-g")}
    assert not any("-DNEVER" in flags for flags in asked)
