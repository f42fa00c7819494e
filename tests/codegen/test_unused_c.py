"""No line of C in a package is unused: macros, functions, constants, headers and branches, of all kinds of models."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import small
from random_ngrams import model_of

from embbert_tvm import api
from embbert_tvm.codegen.conditionals import builds_of, resolved
from embbert_tvm.codegen.unused_code import without_empty_headers, without_unused_code
from embbert_tvm.compiler import compile_model, find_source
from embbert_tvm.device.package import Package, load_package
from embbert_tvm.device.toolchain import find_tool
from embbert_tvm.target import load_cpu

TARGETS = ("cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m55", "rv32imc", "host")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
DEFINE = re.compile(r"^ *# *(?:define|undef) (\w+)", re.MULTILINE)
# Of a header: a function, a macro's instance, which defines its first argument, a type.
DEFINITION = re.compile(
    r"^(?:static |EMBBERT_INLINE |EMBBERT_MVE_APART )[^;={(\n]*?(\w+)\(|^EMBBERT_\w+\((\w+),"
    r"|^typedef [^;{]* (\w+)(?: __attribute__.*)?;|^\} (\w+);",
    re.MULTILINE,
)


def package_of(kind: str, target: str, tmp_path: Path) -> Package:
    out = tmp_path / "package"
    if kind in ("int8", "int4"):
        return load_package(small.package(kind, target))
    if kind == "ngrams":
        model_of("abcdefg", buckets=7200).save(tmp_path / "model")
        return api.compile(tmp_path / "model", target, out).contents
    if kind == "wide":
        folder = small.copy_of_folder(tmp_path / "model")
        model_of(small.LABELS, rank=3).save(folder / "wide")
    else:
        folder = small.folder_of_heads()
    compile_model(find_source(folder), load_cpu(target), out)
    return load_package(out)


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
    """What the CPU's compiler finds unused in the sources: its parser does, at any level."""
    cpu = load_cpu(package.target)
    kinds = ["macros", "function", "const-variable", "variable", "label", "value", "parameter"]
    flags = ["-std=c99", "-O0", "-S", "-o", "/dev/null", *cpu.cflags, *(f"-Wunused-{kind}" for kind in kinds)]
    include = [f"-I{folder}" for folder in package.includes]
    runs = [
        subprocess.run([find_tool(cpu, "gcc"), *flags, *include, path], capture_output=True, text=True, check=True)
        for path in package.sources
    ]
    return [line for run in runs for line in run.stderr.splitlines() if "warning" in line]


# What a build decides: another compiler than GCC, C++, a linker without sections, options of who compiles it.
OF_A_BUILD = re.compile(
    r"__GNUC__|__cplusplus|__ELF__|EMBBERT_(PROFILE|TRACE|WEIGHTS_SECTION|VALUES_FOURS)|NGRAMS_STATE"
)


def directives(text: str) -> list[str]:
    """The lines that a preprocessor obeys; those that end in a backslash go on in the next."""
    return [
        line for found in re.findall(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", text, re.MULTILINE) for line in found.split("\n")
    ]


def branches_never_taken(package: Package) -> list[str]:
    """The branches of `#if` that the preprocessors of neither the CPU's compiler nor this machine's enter."""
    branches: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="embbert-") as name:
        folder = Path(name)
        for path in {path for place in (*package.includes, package.sources[0].parent) for path in place.glob("*.[hc]")}:
            lines, conditions = [], []
            for line in directives(path.read_text()):
                lines.append(line)
                if match := re.match(r"\s*#\s*(if\w*|elif|else|endif)\b(.*)", line):
                    conditions = conditions[:-1] if match[1] == "endif" else conditions
                    conditions += [match[2]] if match[1].startswith("if") else []
                    if match[1] != "endif" and not OF_A_BUILD.search(conditions[-1]):
                        branches[f"MARK_{len(branches)}"] = f"{path.name}: {line} ({conditions[-1]})"
                        lines.append(list(branches)[-1])
            (folder / path.name).write_text("\n".join(lines) + "\n")
        taken = set()
        for cpu in (load_cpu(package.target), load_cpu("host")):
            for source in folder.glob("*.c"):
                command = [find_tool(cpu, "gcc"), "-std=c99", "-E", "-P", *cpu.cflags, "-O2", f"-I{folder}", source]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                taken |= set(re.findall(r"\bMARK_\d+\b", said))
    return [branches[mark] for mark in branches if mark not in taken]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["int8", "int4", "heads", "wide", "ngrams"])
def test_nothing_of_a_package_is_unused(kind, target, tmp_path):
    package = package_of(kind, target, tmp_path)
    texts = texts_of(package)
    interfaces = {"embbert.h", "embbert_tokenizer.h"} & set(texts)
    assert unused_names(texts, interfaces) == []
    assert warnings(package) == []
    assert branches_never_taken(package) == []
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


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("#if defined(__ARM_FEATURE_DSP)\na\n#else\nb\n#endif\n", "b\n"),
        ("#if defined(__ARM_FEATURE_DSP) && defined(__OPTIMIZE__)\na\n#elif ONE > 0\nb\n#else\nc\n#endif\n", "b\n"),
        (
            "#ifdef THEIRS\na\n#elif ONE == 2\nb\n#elif ONE\nc\n#else\nd\n#endif\n",
            "#ifdef THEIRS\na\n#else\nc\n#endif\n",
        ),
        ("#if ONE != 1\na\n#elif THEIRS\nb\n#endif\nc\n", "#if THEIRS\nb\n#endif\nc\n"),
        ("#if ONE && !NEVER\n#if THEIRS\na\n#endif\n#endif\n", "#if THEIRS\na\n#endif\n"),
        ("#if NEVER\n#if THEIRS\na\n#else\nb\n#endif\n#else\nc\n#endif\n", "c\n"),
        ("#ifndef GIVEN\n#define GIVEN 0\n#endif\n#if GIVEN\na\n#endif\n", None),
        ("#if THEIRS\n#define LATER 1\n#endif\n#if LATER\na\n#endif\n", None),
        ("#if ONE + THEIRS\na\n#endif\n", None),
        ("#if ?\na\n#endif\n", None),
    ],
)
def test_branches_that_no_build_takes_go_with_conditions_that_are_known(text, left):
    """left: None where all of the text stays."""
    defined = "#define ONE 1u\n#if THEIRS\n#define NEVER 0 /* nowhere */\n#endif\n"
    found = resolved({"a.h": defined, "a.c": text}, builds_of(load_cpu("rv32imc")))
    assert found == {"a.h": defined, "a.c": text if left is None else left}


def test_a_header_that_holds_nothing_any_more_goes_with_its_includes():
    empty = "/* Gone. */\n#ifndef B_H\n#define B_H\n\n#include <stdint.h>\n\n#endif\n"
    found = without_empty_headers(
        {"src/a.c": '#include "b.h"\n#include "c.h"\n', "src/b.h": empty, "src/c.h": "int c;\n"}
    )
    assert found == {"src/a.c": '#include "c.h"\n', "src/c.h": "int c;\n"}
