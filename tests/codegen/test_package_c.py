"""The C of a package: what compilers say of it, what it does when it is called, and that it is always the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small

from embbert_tvm.c_names import c_name, check_prefix
from embbert_tvm.codegen import c_api, c_files
from embbert_tvm.codegen.plan import solve
from embbert_tvm.codegen.steps import Program
from embbert_tvm.compiler import llvm_runner
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.device.protocol import STATUS_NAMES
from embbert_tvm.errors import InputError
from embbert_tvm.escape import c_comment, c_string
from embbert_tvm.graph.dataflow import Dataflow, constant, op_name
from embbert_tvm.graph.fuse_row_blocks import fuse_row_blocks
from embbert_tvm.graph.names import fingerprint
from embbert_tvm.kernels.isa import isa_of
from embbert_tvm.target import load_cpu

HERE = Path(__file__).parent
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")
ARM = ("arm-none-eabi-gcc", "-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard")
# Unoptimized GCC takes half as long, and no level has dropped a check. -w: with checks it unrolls no loop, which is a
# warning without a name; others see test_no_compiler_warns and test_builds.py.
CHECKED = ("-g1", "-O0", "-w", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-ffp-contract=off")
COMPILERS = {
    "gcc": ("gcc",),
    "clang": ("clang",),
    "gcc with conversions": ("gcc", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes"),
    "arm": ARM,
    "arm without DSP": ("arm-none-eabi-gcc", "-mcpu=cortex-m0plus", "-mthumb"),
}


def compiler(name: str) -> tuple[str, ...]:
    command = COMPILERS[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return command


def parts(folder: Path) -> tuple[list[str], list[str]]:
    package = load_package(folder)
    return [str(p) for p in package.sources], [f"-I{p}" for p in package.includes]


def call(*command: str) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or done.stdout
    assert not done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def arm_package() -> Path:
    """The small model for a CPU with DSP instructions."""
    return small.package(target="cortex-m7")


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("name", COMPILERS)
def test_no_compiler_warns(name, precision, tmp_path):
    sources, includes = parts(small.package(precision))
    for source in sources:
        call(*compiler(name), *STRICT, "-O2", *includes, "-c", source, "-o", tmp_path / "x.o")


@pytest.mark.parametrize("level", ["-O0", "-Og", "-O1", "-Os", "-O2", "-O3"])
@pytest.mark.parametrize("name", ["arm", "gcc"])
def test_no_compiler_warns_of_what_is_made_for_dsp(name, level, arm_package, tmp_path):
    """At every level: a firmware has its own, and inline assembly may find no register."""
    sources, includes = parts(arm_package)
    for source in (s for s in sources if not s.endswith("weights.c")):
        call(*compiler(name), *STRICT, level, *includes, "-c", source, "-o", tmp_path / "x.o")


@pytest.mark.parametrize(("name", "c"), [("g++", "gcc"), ("clang++", "clang")])
def test_a_caller_in_c_plus_plus(name, c, tmp_path):
    """A class that owns its model and arena, linked with the package's C."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    sources, includes = parts(small.package())
    objects = [tmp_path / f"{Path(source).stem}.o" for source in sources]
    for source, target in zip(sources, objects, strict=True):
        call(c, *STRICT, *includes, "-c", source, "-o", target)
    program = tmp_path / "caller"
    flags = ("-std=c++11", *STRICT[1:])
    call(name, *flags, *includes, HERE / "caller.cpp", *objects, "-lm", "-o", program)
    (line,) = call(program).splitlines()
    assert line.split() == bits_of(small.package(), [2, 17, 9])


def bits_of(folder: Path, ids: list[int]) -> list[str]:
    """The logits of a package on the host, as bits in hexadecimal."""
    with open_place("host", load_package(folder)) as device:
        return [f"{word:08x}" for word in device.run(ids).logits.view(np.uint32)]


def test_two_models_in_one_program(tmp_path):
    """Each gives what it gives alone, and no name is defined twice."""
    folders = {"first": small.package(prefix="first"), "second": small.package("fp32", prefix="second")}
    found = [parts(folder) for folder in folders.values()]
    sources, includes = [p for each, _ in found for p in each], [p for _, each in found for p in each]
    assert len({Path(p).name for p in sources}) == len(sources)
    program = tmp_path / "two"
    call("gcc", *STRICT, *CHECKED, *includes, HERE / "two_models.c", *sources, "-lm", "-o", program)
    expected = [[name, *bits_of(folder, [2, 17, 9, 30, 21])] for name, folder in folders.items()]
    assert [line.split() for line in call(program).splitlines()] == 2 * expected


def test_every_name_of_a_package_has_its_prefix(tmp_path):
    """What the linker sees, and macros that a firmware would see."""
    folder = small.package(prefix="mine")
    sources, includes = parts(folder)
    for source in sources:
        call("gcc", *STRICT, *includes, "-c", source, "-o", tmp_path / "x.o")
        defined = call("nm", "-g", "--defined-only", tmp_path / "x.o").split()[2::3]
        assert defined
        assert all(name.startswith("mine_") for name in defined)
    header = (folder / "codegen/host/include/mine.h").read_text()
    assert all(name.startswith("MINE_") for name in re.findall(r"#define (\w+)", header))
    assert "embbert_" not in header


def test_a_package_of_another_prefix_is_served():
    assert bits_of(small.package(prefix="mine"), [2, 17, 9]) == bits_of(small.package(), [2, 17, 9])


@pytest.mark.parametrize("prefix", ["", "Mine", "1x", "a-b", "int", "embbert_x", "x_", "a" * 32, "é"])
def test_prefixes_that_c_cannot_have_are_refused(prefix):
    with pytest.raises(InputError, match="--prefix"):
        check_prefix(prefix)


def test_the_hosts_names_of_statuses_are_the_headers():
    header = (small.package() / "codegen/host/include/embbert.h").read_text()
    names = re.findall(r"^    (EMBBERT_\w+)(?: = 0)?,? /\*", header, re.MULTILINE)
    assert dict(enumerate(names)) == STATUS_NAMES


@pytest.fixture(scope="module", params=["host", "cortex-m7"])
def answers(request, tmp_path_factory) -> list[str]:
    """What api_test.c says of the small model's package for a CPU, run on this machine under sanitizers."""
    sources, includes = parts(small.package(target=request.param))
    program = tmp_path_factory.mktemp("api") / "api"
    call("gcc", *STRICT, *CHECKED, *includes, HERE / "api_test.c", *sources, "-lm", "-o", program)
    return call(program).splitlines()


def test_every_status_and_no_byte_beside_the_arena(answers):
    assert not [line for line in answers if line.startswith("wrong")]


def test_the_content_of_the_arena_does_not_matter_and_the_bits_are_those_of_llvm(answers):
    run, seen = llvm_runner(small.quantized().mod), 0
    vocabulary = load_package(small.package()).metadata["vocabulary"]
    for line in answers:
        if line.startswith("logits"):
            _, n, *bits = line.split()
            expected = run([(i * 31 + int(n)) % vocabulary for i in range(int(n))])
            assert bits == [f"{word:08x}" for word in expected.view(np.uint32)], f"length {n}"
            seen += 1
    assert seen == 18


def test_every_status_has_a_text(answers):
    texts = [line.removeprefix("status ") for line in answers if line.startswith("status ")]
    assert len(texts) == len(set(texts)) == len(c_api.STATUSES)
    assert texts == [status.text for status in c_api.STATUSES]


def test_labels_are_utf8_as_they_are(answers):
    labels = [bytes.fromhex(line.split()[1]).decode() for line in answers if line.startswith("label")]
    assert labels == list(small.LABELS)


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("play", '"play"'),
        ('say "on"', r'"say \042on\042"'),
        ("a\\b", r'"a\134b"'),
        ("??/", r'"\077\077/"'),
        ("%d\n", r'"%d\012"'),
        ("é1", r'"\303\2511"'),
        ("", '""'),
    ],
)
def test_c_string(text, literal):
    assert c_string(text) == literal


@pytest.mark.parametrize("name", ["a */ b", "back\\slash", "new\nline", "\u202e?", "// x"])
def test_a_title_stays_in_its_comment(name):
    assert not set(c_comment(name)) & set("*/\\\n\u202e")


@pytest.mark.parametrize(
    ("name", "expected"), [("x", "x"), ("int", "int_"), ("1x", "_1x"), ("a b", "a_b"), ("L", "L_2"), ("é", "n_")]
)
def test_c_name(name, expected):
    assert c_name(name, {"L"}) == expected


def test_names_that_c_or_the_entry_point_use_compile(tmp_path):
    """A model whose layers are called int, L, arena, ids and logits."""
    from embbert_tvm.compiler import CompileOptions, compile_model, find_source
    from embbert_tvm.target import load_cpu

    names = ("int", "arena", "L", "embbert", "infer")
    lines = ["x = Gather(ids__weight, ids)"]
    weights = {"ids__weight": small.normal(40, 8), "logits__weight": small.normal(8, 3)}
    last = "x"
    for name in names:
        lines += [f"m_{name} = MatMul({last}, {name}__weight)", f"s_{name} = Sin(m_{name})"]
        weights[f"{name}__weight"] = small.normal(8, 8, seed=len(name))
        last = f"s_{name}"
    lines += ["z = Constant<value_int=0>()", f"p = Gather<axis=1>({last}, z)", "logits = MatMul(p, logits__weight)"]
    path = tmp_path / "m.onnx"
    path.write_bytes(small.classifier("\n".join(lines), **weights).SerializeToString())
    out = tmp_path / "package"
    compile_model(find_source(path), load_cpu("host"), out, CompileOptions(precision="fp32", max_length=9))
    sources, includes = parts(out)
    for source in sources:
        call("gcc", *STRICT, *includes, "-c", source, "-o", tmp_path / "x.o")


def numbers(text: str, name: str) -> list[str]:
    body = re.search(rf"\b{name}\[\d+\][^=]*= \{{(.*?)\}};", text, re.DOTALL)[1]
    return [word.strip() for word in body.split(",") if word.strip()]


def test_weights_are_printed_as_they_are():
    rng = np.random.default_rng(0)
    constants = {
        "bytes": extremes(rng, "int8"), "words": extremes(rng, "int32"), "short": extremes(rng, "int16"),
        "real": np.float32([0.1, -0.0, 1e-45, 3.4028235e38, 2.0, np.inf, -np.inf, np.nan, 1 / 3]).reshape(3, 3),
        "scalar": np.array(7, np.int32),
    }  # fmt: skip
    program = Program((), constants, (), (), solve(()), 1, 1, 1)
    text = c_files.weights(program, "m", "t")
    for name, value in constants.items():
        words = numbers(text, f"t_{name}")
        if value.dtype == np.float32:
            special = {"INFINITY": np.inf, "-INFINITY": -np.inf, "NAN": np.nan}
            found = np.float32([special[w] if w in special else w.removesuffix("f") for w in words])
            finite = np.isfinite(value.reshape(-1))
            np.testing.assert_array_equal(found.view(np.uint32)[finite], value.reshape(-1).view(np.uint32)[finite])
            np.testing.assert_array_equal(found, value.reshape(-1))
        else:
            found = np.array([{"INT32_MIN": -(2**31)}.get(w, w) for w in words]).astype(value.dtype)
            np.testing.assert_array_equal(found, value.reshape(-1))
    assert "#include <math.h>" in text
    assert program.weights_bytes == sum(v.nbytes for v in constants.values())


def extremes(rng: np.random.Generator, dtype: str) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.concatenate([rng.integers(limits.min, limits.max, 50), [limits.min, limits.max]]).astype(dtype)


def test_the_weights_of_a_package_are_those_of_the_module():
    text = (small.package() / "codegen/host/src/embbert_weights.c").read_text()
    chosen, checked = fuse_row_blocks(small.quantized(), isa_of(load_cpu("host").features)), set()
    for _, value in Dataflow(chosen.mod).bindings:
        fields = value.args[1].fields if op_name(value) in ("call_tir", "call_tir_inplace") else []
        for array in filter(lambda a: a is not None and a.dtype.kind == "i", map(constant, fields)):
            name = chosen.constants[fingerprint(array)]
            found = np.array(numbers(text, f"embbert_{name}")).astype(array.dtype)
            np.testing.assert_array_equal(found, array.reshape(-1))
            checked.add(name)
    assert checked >= {"embedder_token_table", "blocks_0_query_weight", "blocks_1_conv_bias", "head_weight"}


SCRIPT = """
import sys
from pathlib import Path
from embbert_tvm.graph.tvm_workarounds import import_tvm_without_extras
import_tvm_without_extras()
from embbert_tvm.compiler import CompileOptions, compile_model, find_source
from embbert_tvm.target import load_cpu
compile_model(find_source(Path(sys.argv[1])), load_cpu(sys.argv[3]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("target", ["host", "cortex-m7"])
def test_the_same_model_gives_the_same_bytes(target, tmp_path):
    """In another process, with another hash of strings."""
    first = small.package(target=target)
    environment = os.environ | {"PYTHONHASHSEED": "4242"}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(small.folder()), str(tmp_path / "second"), target],
        env=environment, check=True, capture_output=True,
    )  # fmt: skip
    second = tmp_path / "second"
    files = {str(p.relative_to(second)) for p in second.rglob("*") if p.is_file()}
    assert files == {str(p.relative_to(first)) for p in first.rglob("*") if p.is_file() and "build" not in p.parts}
    for name in files:
        assert (second / name).read_bytes() == (first / name).read_bytes(), name


def test_no_path_of_this_machine_is_in_a_package():
    package = small.package()
    for path in package.rglob("*"):
        if path.is_file() and "build" not in path.parts:
            content = path.read_bytes()
            assert str(small.folder()).encode() not in content, path
            assert str(Path.home()).encode() + b"/" not in content, path


def test_metadata_is_of_the_contract():
    document = json.loads((small.package() / "metadata.json").read_text())
    assert set(document) >= {
        "version", "format", "model_name", "target", "precision", "max_length", "labels", "classes", "arena",
        "weights_bytes", "operators", "sources", "includes",
    }  # fmt: skip
    assert (document["version"], document["format"]) == (7, "embbert-tvm 1")
    assert document["labels"] == list(small.LABELS)
    assert all(set(o) == {"name", "kernel", "precision", "reason"} for o in document["operators"])
    header = (small.package() / "codegen/host/include/embbert.h").read_text()
    for macro, value in [
        ("MAX_LENGTH", "48"), ("CLASSES", "3"), ("VOCABULARY", str(document["vocabulary"])),
        ("ARENA_BYTES", f"{document['arena']['bytes']}u"), ("ARENA_ALIGN", "16"),
    ]:  # fmt: skip
        assert re.search(rf"^#define EMBBERT_{macro} {value}\b", header, re.MULTILINE)
