"""No line of C in a package is unused: macros, functions, constants and headers, of every kind of model and CPU."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import small
from random_ngrams import model_of

from embbert_tvm import api
from embbert_tvm.codegen.unused_code import without_unused_code
from embbert_tvm.device.package import Package
from embbert_tvm.device.toolchain import find_tool
from embbert_tvm.options import CompileOptions
from embbert_tvm.target import load_cpu

TARGETS = ("cortex-m4", "cortex-m7", "cortex-m55", "rv32imc", "host")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
DEFINE = re.compile(r"^ *# *(?:define|undef) (\w+)", re.MULTILINE)
# Of a header: a function, a macro's instance, which defines its first argument, a type.
DEFINITION = re.compile(
    r"^(?:static |EMBBERT_INLINE |EMBBERT_MVE_APART )[^;={(\n]*?(\w+)\(|^EMBBERT_\w+\((\w+),"
    r"|^typedef [^;{]* (\w+)(?: __attribute__.*)?;|^\} (\w+);",
    re.MULTILINE,
)


def model_folder(kind: str, tmp_path: Path) -> Path:
    if kind == "ngrams":
        model_of("abcdefg", buckets=7200).save(tmp_path / "model")
        return tmp_path / "model"
    if kind == "wide":
        folder = small.copy_of_folder(tmp_path / "model")
        model_of(small.LABELS, rank=3).save(folder / "wide")
        return folder
    return small.folder_of_heads() if kind == "heads" else small.folder()


def texts_of(package: Package) -> dict[str, str]:
    """The C of a package without comments, by the names of the files."""
    folders = {path.parent for path in package.sources} | set(package.includes)
    return {path.name: COMMENT.sub(" ", path.read_text()) for folder in folders for path in folder.glob("*.[hc]")}


def unused_names(texts: dict[str, str], interfaces: set[str]) -> list[str]:
    """Names that the files define and nothing names where they are not defined, nor makes by ##."""
    words = Counter(word for text in texts.values() for word in re.findall(r"\w+", text))
    pasted = [
        re.compile("".join(r"(\w+)" if part.islower() and part[0] != "_" else part for part in re.split("##", one)))
        for text in texts.values()
        for one in re.findall(r"\w+(?:##\w+)+", text)
    ]

    def is_made(name: str) -> bool:
        return any(m and all(words[part] for part in m.groups()) for m in (p.fullmatch(name) for p in pasted))

    inside = [text for name, text in texts.items() if name not in interfaces]
    defined = Counter(name for text in inside for name in DEFINE.findall(text))
    defined += Counter("".join(names) for text in inside for names in DEFINITION.findall(text))
    assert len(defined) > 10
    return sorted(name for name, count in defined.items() if words[name] <= count and not is_made(name))


def warnings(package: Package) -> list[str]:
    """What the CPU's compiler finds unused in the sources."""
    cpu = load_cpu(package.target)
    kinds = ["macros", "function", "const-variable", "variable", "label", "value", "parameter"]
    flags = ["-std=c99", "-O1", "-S", "-o", "/dev/null", *cpu.cflags, *(f"-Wunused-{kind}" for kind in kinds)]
    include = [f"-I{folder}" for folder in package.includes]
    runs = [
        subprocess.run([find_tool(cpu, "gcc"), *flags, *include, path], capture_output=True, text=True, check=True)
        for path in package.sources
    ]
    return [line for run in runs for line in run.stderr.splitlines() if "warning" in line]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["int8", "int4", "heads", "wide", "ngrams"])
def test_nothing_of_a_package_is_unused(kind, target, tmp_path):
    options = CompileOptions(precision="int4") if kind == "int4" else CompileOptions()
    package = api.compile(model_folder(kind, tmp_path), target, tmp_path / "package", options).contents
    texts = texts_of(package)
    interfaces = {"embbert.h", "embbert_tokenizer.h"} & set(texts)
    assert unused_names(texts, interfaces) == []
    assert warnings(package) == []
    included = set().union(*(re.findall(r'#include "(\w+\.h)"', text) for text in texts.values()))
    assert {name for name in texts if name.endswith(".h")} - {"embbert.h"} <= included


HEADER = """\
#ifndef A_H
#define A_H
/* Of a pair. */
#define FIRST_OF(x) SECOND_OF(x)
#define SECOND_OF(x) \\
    ((x) + 1)

/* Stays for the macro that is left. */
#define KEPT 1
#define GONE KEPT
#if KEPT
#define MADE_8_LAST "end"
#define MADE_9_LAST "end"
#else
#define ONLY_HERE 0
#endif
#ifdef KEPT
#define NOWHERE
#endif

/* Nobody calls it. */
static inline int nobody(int n)
{
    if (n > 1) {
        return nobody(n - 1);
    }

    return ONLY_THERE;
}
#define ONLY_THERE 1

static inline int called(int n) { return n; }
#endif
"""


def test_definitions_that_nothing_names_go_with_their_comments_and_what_is_empty_then():
    source = "#define USE(x, steps) MADE_##steps##_LAST KEPT\nx = USE(called(8), 8);\n"
    found = without_unused_code({"a.h": HEADER, "a.c": source})
    assert found["a.c"] == source
    assert found["a.h"] == (
        "#ifndef A_H\n#define A_H\n\n/* Stays for the macro that is left. */\n#define KEPT 1\n"
        '#if KEPT\n#define MADE_8_LAST "end"\n#else\n#endif\n\n'
        "static inline int called(int n) { return n; }\n#endif\n"
    )
