"""Cores that are no Cortex-M: the small EmbBERT gives TVM's bits there, and what the toolchain lacks is our own."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
import small

from embbert_tvm.device.footprint import footprint
from embbert_tvm.device.package import load_package, load_vectors
from embbert_tvm.device.places import open_place
from embbert_tvm.device.project import load_template, write_project
from embbert_tvm.resources import firmware
from embbert_tvm.target import load_cpu

CPUS = ["rv32imc", "rv32imac", "lx106"]


@pytest.fixture(scope="module", params=CPUS)
def package(request):
    return load_package(small.package(target=request.param))


def test_gives_the_reference_bits_over_the_protocol(package):
    with open_place("qemu", package) as device:
        assert device.holds.clock_hz > 0
        for vector in load_vectors(package):
            run = device.run(vector.ids)
            assert np.array_equal(run.logits.view("u4"), vector.logits.view("u4")), f"{len(vector.ids)} tokens"
        assert device.takes(small.TEXTS[0])
        text = device.classify(small.TEXTS[0])
        assert np.array_equal(text.run.logits.view("u4"), device.run(device.tokenize(small.TEXTS[0])).logits.view("u4"))
        tested = device.self_test(load_vectors(package)[0].ids)
    assert tested.same_logits
    assert tested.guards_intact
    measured = footprint(package, load_cpu(package.target))
    assert run.stack < measured.stack + 1024
    assert measured.weights == package.weights_bytes


@pytest.mark.parametrize("cpu", ["rv32imc", "lx106"])
def test_a_bare_project_builds_and_boots(cpu, tmp_path):
    folder = tmp_path / "fw"
    write_project(load_package(small.package(target=cpu)), load_template("bare"), folder)
    for goal in ([], ["run"]):
        done = subprocess.run(["make", *goal], cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr
    assert any(label in done.stdout + done.stderr for label in small.LABELS)


ARITHMETIC = r"""
#define ARITHMETIC_NAME(name) our##name
#include "arithmetic.c"
#include <stdio.h>
#include <string.h>

static uint64_t state = 88172645463325252u;

static uint32_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

/* Of all kinds: subnormal, infinite or not a number, near 1, zero, any. */
static uint32_t some_float(void)
{
    uint32_t bits = next();
    switch (next() % 6u) {
    case 0: return bits & 0x807FFFFFu;
    case 1: return (bits & 0x80000000u) | 0x7F800000u | (next() % 3u ? 0u : bits & 0x7FFFFFu);
    case 2: return (bits & 0x80FFFFFFu) | 0x3F000000u;
    case 3: return bits & 0x80000000u;
    default: return bits;
    }
}

static int same(float a, float b) { return a != a ? b != b : memcmp(&a, &b, sizeof a) == 0; }

int main(void)
{
    for (long i = 0; i < 300000; i++) {
        uint32_t p = some_float(), q = next() % 8u ? some_float() : p ^ (next() & 3u) ^ (next() & 0x80000000u);
        float a, b;
        memcpy(&a, &p, sizeof a);
        memcpy(&b, &q, sizeof b);
        if (!same(a + b, our__addsf3(a, b)) || !same(a - b, our__subsf3(a, b)) || !same(a * b, our__mulsf3(a, b)))
            return printf("float32 %08x %08x\n", p, q);
        uint32_t x = next() >> next() % 32u, y = (next() >> next() % 32u) | 1u;
        uint64_t u = (uint64_t)next() << 32 | x, v = (uint64_t)next() << 32 | y;
        int32_t s = -(int32_t)(x >> 1), t = (int32_t)(y >> 1 | 1u);
        if (our__udivsi3(x, y) != x / y || our__umodsi3(x, y) != x % y || our__divsi3(s, t) != s / t)
            return printf("division %u %u\n", x, y);
        if (our__divsi3((int32_t)x, t) != (int32_t)x / t || our__umulsidi3(x, y) != (uint64_t)x * y)
            return printf("division or product %u %u\n", x, y);
        if (our__muldi3(u, v) != u * v || !same((float)(int32_t)x, our__floatsisf((int32_t)x)))
            return printf("product or conversion %u %u\n", x, y);
        if (!same((float)s, our__floatsisf(s)) || !same((float)(x << 1), our__floatunsisf(x << 1)))
            return printf("conversion %u\n", x);
    }
    return 0;
}
"""


def test_the_arithmetic_that_a_toolchain_lacks_is_the_processors_own(tmp_path):
    """firmware/freestanding/arithmetic.c against this machine's instructions, bit for bit."""
    (tmp_path / "test.c").write_text(ARITHMETIC)
    program = tmp_path / "test"
    include = f"-I{firmware('freestanding')}"
    command = ["gcc", "-std=c99", "-O2", "-Wall", "-Wextra", "-ffp-contract=off", "-idirafter", include[2:]]
    subprocess.run([*command, tmp_path / "test.c", "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
