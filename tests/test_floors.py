"""The rules of what may import, print and name what; arrows and circles are drawn from the imports."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import embbert_tvm
from embbert_tvm.target import known_cpus

PACKAGE = Path(embbert_tvm.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the ground up; what stands on one line may not import what stands beside it.
FLOORS = """
    errors version escape resources table progress reasons cache
    heads
    c_names data target
    rejection
    target_file models
    kernels
    graph
    options
    codegen
    device
    cycles sensitivity
    mixed pruning
    hub_export
    source
    ngram_compiler
    compiler
    tuning
    api
    training
    measuring
    report
    cli
    __main__
"""
FLOOR = {room: number for number, line in enumerate(FLOORS.split("\n")) for room in line.split()}


@functools.cache
def imports(path: Path) -> set[str]:
    """The modules that a file imports, also inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def file_of(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if module.startswith("embbert_tvm") and candidate.is_file():
            return candidate
    return None


def reached(path: Path, seen: set[Path] | None = None) -> dict[str, Path]:
    """Everything that importing a file imports, with the file that does."""
    seen = {path} if seen is None else seen
    found = dict.fromkeys(imports(path), path)
    for name in list(found):
        inner = file_of(name)
        if inner is not None and inner not in seen:
            seen.add(inner)
            found |= {**reached(inner, seen), **found}
    return found


def below(*folders: str) -> list[Path]:
    return [m for m in MODULES if any(m == PACKAGE / f or PACKAGE / f in m.parents for f in folders)]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.AST, types_too: bool) -> Iterator[str]:
    """The names that a module imports, those inside of functions too. types_too: and those for a type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING" and not types_too:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imported(node, types_too)


def arrows(types_too: bool) -> dict[str, set[str]]:
    """The modules of ours that each of them imports."""
    names = {name_of(path) for path in MODULES}
    found: dict[str, set[str]] = {}
    for path in MODULES:
        name, used = name_of(path), set()
        for full in imported(ast.parse(path.read_text()), types_too):
            used.add(full if full in names else full.rpartition(".")[0])
        found[name] = {other for other in used & names if other != name}
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """What is left of a graph when everything is taken away, again and again, that imports nothing that is left."""
    left = dict(graph)
    while free := [name for name, used in left.items() if not used & left.keys()]:
        for name in free:
            del left[name]
    # And what nothing in a circle imports.
    while free := [name for name in left if not any(name in used for used in left.values())]:
        for name in free:
            del left[name]
    return [sorted(left)] if left else []


def test_no_arrow_goes_back():
    """A floor imports what stands below it, and itself; types of what stands above it are not named either."""
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} - {
        "__init__"
    } == FLOOR.keys() - {"__init__"}
    back = []
    for name, used in arrows(types_too=True).items():
        for other in used:
            mine, theirs = (full.split(".")[1:2] or ["__init__"] for full in (name, other))
            if (
                mine != theirs
                and mine != ["__init__"]
                and theirs != ["__init__"]
                and FLOOR[theirs[0]] >= FLOOR[mine[0]]
            ):
                back.append(f"{name} -> {other}")
    assert back == []


def test_no_modules_import_each_other():
    """Not by way of others, nor inside of functions."""
    assert circles(arrows(types_too=False)) == []


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [["b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


@pytest.mark.parametrize(
    ("where", "never"),
    [
        (("device", "firmware", "target.py", "errors.py", "resources.py"), ("torch", "tvm")),
        (("kernels", "codegen"), ("torch", "transformers")),
        (("data",), ("torch", "tvm")),
        (("graph/passes", "graph/quantize"), ("transformers",)),
    ],
)
def test_what_is_never_imported(where, never):
    """Not by way of another module either."""
    files = below(*where)
    assert files
    for path in files:
        for name, importer in reached(path).items():
            assert name.split(".")[0] not in never, f"{path} imports {name} in {importer}"


def test_the_compile_command_calls_the_library_alone():
    ours = {name for name in imports(PACKAGE / "cli" / "compile.py") if name.startswith("embbert_tvm.")}
    assert {name.split(".")[1] for name in ours} - {"cli"} == {"api", "errors", "measuring", "progress", "report"}


def test_reports_only_render():
    """report/ compiles, runs and measures nothing: of measuring/ it takes the types."""
    never = {"compiler", "ngram_compiler", "codegen", "graph", "kernels", "source", "tuning", "sensitivity"}
    for path in below("report"):
        for name in imports(path):
            room, _, rest = name.removeprefix("embbert_tvm.").partition(".")
            assert room not in never, f"{path} imports {name}"
            assert name not in ("subprocess", "embbert_tvm.device.places", "embbert_tvm.device.toolchain"), path
            if room == "measuring" and rest.count("."):
                assert rest.rpartition(".")[2][0].isupper() or rest == "figures.layer_of", f"{path} calls {name}"


def test_only_the_command_line_prints_or_reads_options():
    for path in MODULES:
        if PACKAGE / "cli" in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "func", None), "id", "")
            assert name != "print", f"{path}:{node.lineno} prints"
        assert "click" not in imports(path), path


def test_no_cpu_is_named_in_python():
    """`host`, where the compiler itself runs, is no name of a part; cli/ may have a default."""
    names = [name for name in known_cpus() if name != "host"]
    names += [name.replace("-", "_") for name in names]
    pattern = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))), re.IGNORECASE)
    for path in MODULES:
        if PACKAGE / "cli" in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and pattern.fullmatch(node.value):
                raise AssertionError(f"{path}:{node.lineno} names {node.value}")


def test_one_module_asks_the_library_for_ids():
    """What `tokenizers` raises is a bare Exception or a panic: data/tokenizer.py makes InputErrors of both."""
    asked = re.compile(r"\.encode_batch\(|\b(?:tokenizer|loaded|merged|before|after)\.encode\(")
    assert [m.name for m in MODULES if asked.search(m.read_text())] == ["tokenizer.py"]
