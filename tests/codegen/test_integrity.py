"""What a package knows of itself finds any flipped bit, and an answer that is another."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small

from embbert_tvm.codegen import integrity
from embbert_tvm.data.tokenizer import save_tokenizer
from embbert_tvm.data.tokenizer_json import read_spec
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.device.protocol import STATUS_NAMES
from embbert_tvm.resources import resource

sys.path.insert(0, str(resource("benchmarks")))

import tokenizer as benchmark
from tokenizer_kinds import KINDS

HERE = Path(__file__).parent
FLIPS = 1500
STRICT = ("-std=gnu99", "-Wall", "-Wextra", "-Werror", "-O2", "-Wno-cast-qual")


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16", "fp32"])
def test_every_flipped_bit_is_found(precision, tmp_path):
    """In weights, scales, tables and the tokenizer; and whatever the size of a slice, what is whole is found whole."""
    package = load_package(small.package(precision))
    includes = [f"-I{folder}" for folder in {*package.includes, package.sources[0].parent}]
    sources = [path for path in package.sources if not path.stem.endswith("_model")]
    program = tmp_path / "check"
    command = ["gcc", *STRICT, *includes, HERE / "check_test.c", *sources, "-lm", "-o", program]
    subprocess.run(list(map(str, command)), check=True)
    first, last = subprocess.run(
        [str(program), str(FLIPS)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    parts, _, size, _, found, _, wrong, _, before, answer = first.split()
    assert int(size) > package.weights_bytes
    assert int(parts) > 10
    assert (int(found), int(wrong)) == (FLIPS, 0)
    assert (STATUS_NAMES[int(before)], STATUS_NAMES[int(answer)]) == ("EMBBERT_E_ARGUMENT", "EMBBERT_OK")
    assert STATUS_NAMES[int(last)] == "EMBBERT_E_ARGUMENT"


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_wrong_answer_and_a_wrong_weight_fail_the_self_test(precision, tmp_path):
    """On the device too: one number of the weights, one bit of the known answer."""
    package = load_package(small.package(precision))
    ids = [2, 17, 9]
    with open_place("host", package) as device:
        sound = device.self_test(ids)
    assert (sound.memory_intact, sound.answer_known, sound.same_logits) == (True, True, True)
    for file, flags in (("_weights.c", (False, False)), ("_model.c", (True, False))):
        spoilt = small.copy_of_package(package.path, tmp_path / file)
        (path,) = (p for p in load_package(spoilt).sources if p.name.endswith(file))
        path.write_text(damaged(path.read_text(), file))
        with open_place("host", load_package(spoilt)) as device:
            result = device.self_test(ids)
        assert result.same_logits
        assert result.memory_intact == flags[0]
        assert not result.answer_known or file == "_weights.c"


def damaged(text: str, file: str) -> str:
    """The C with the first number of its first constant, or of the known answer, changed."""
    if file == "_weights.c":
        return re.sub(r"(= \{\n +)(-?)([^,]+)", r"\1\g<2>2", text, count=1)
    found = re.search(r"float32 as bits \*/\n +0x..([0-9a-f])", text)
    assert found is not None
    return f"{text[: found.start(1)]}{int(found[1], 16) ^ 8:x}{text[found.end(1) :]}"


DUMP = """
#include <stdio.h>

int main(void)
{
    size_t bytes;
    const void *part;
    for (size_t i = 0; (part = embbert_tokenizer_part(i, &bytes)) != NULL; i++)
        fwrite(part, 1, bytes, stdout);
    return 0;
}
"""


@pytest.mark.parametrize("name", KINDS)
def test_the_tables_of_every_tokenizer_are_read_as_the_compiler_lays_them_out(name, tmp_path):
    save_tokenizer(KINDS[name](), tmp_path / "tokenizer.json")
    (path,) = benchmark.write_sources(read_spec(tmp_path / "tokenizer.json"), tmp_path, max_length=16)
    source = path.read_text()
    named, tables = integrity.tokenizer_parts(source, "embbert")
    path.write_text(source + named + DUMP)
    subprocess.run(["gcc", "-std=c99", "-O0", "-w", path, "-o", tmp_path / "dump"], check=True)
    found = subprocess.run([tmp_path / "dump"], capture_output=True, check=True).stdout
    assert found == b"".join(table.tobytes() for table in tables)
    assert len(tables) == len(set(re.findall(r"^static const \w+ (\w+)\[", source, re.M)))


def test_arrays_are_read_as_they_lie_in_memory():
    text = (
        "static const uint16_t a[3] = {\n    1, 65535, 0x10,\n};\n\nstatic const int8_t b[2][2] = {\n    {-1, 2},\n"
        "    {3, -128},\n};\nstatic const float c[1] = {\n    0.5f,\n};\nstatic const uint32_t d[1][3] = {\n"
        "    {4294967295u, 0, 7},\n};\nstatic int32_t e[1] = {\n    5,\n};\n"
        "static const uint32_t f[][2] = {{0xFFu, 0x1F}, {3, 4}};\nstatic const double g[2] = {\n    1e-05, -2.5,\n};\n"
    )
    found = integrity.tables_of(text)
    assert {name: (str(v.dtype), v.tolist()) for name, v in found.items()} == {
        "a": ("uint16", [1, 65535, 16]),
        "b": ("int8", [[-1, 2], [3, -128]]),
        "c": ("float32", [0.5]),
        "d": ("uint32", [[4294967295, 0, 7]]),
        "f": ("uint32", [[255, 31], [3, 4]]),
        "g": ("float64", [1e-05, -2.5]),
    }
    assert integrity.crc32([np.frombuffer(b"1234", np.int8), np.frombuffer(b"56789", np.int8)]) == 0xCBF43926
