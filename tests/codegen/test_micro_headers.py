"""Which headers of micro-kernels a package ships: those that its kernels use, and no other."""

from __future__ import annotations

import re

import pytest
import small

from embbert_tvm.codegen import micro_headers
from embbert_tvm.device.package import load_package

ALL = {"embbert_arithmetic.h", "embbert_dsp.h", "embbert_half.h", "embbert_low_bits.h", "embbert_mve.h"}


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("x = a + b;", ""),
        ("x = multiply_high(a, m);", "arithmetic"),
        ("embbert_dsp_dot_ldrd_16(c, a, b, n);", "dsp"),
        ("embbert_mve_product_64(c, a, b, n);", "mve arithmetic"),
        ("y = half_to_float(x);", "half"),
        ("embbert_mve_half_softmax(y, x, n);", "mve_half half"),
        ("embbert_unpack(out, low, high, m, n);", "low_bits"),
        ("/* not multiply_high(a, m) */ x = 1; // half_to_float(x)", ""),
    ],
)
def test_a_name_brings_its_header_and_what_that_needs(text, headers):
    found = {path.name for path in micro_headers.needed(text)}
    assert {f"embbert_{name}.h" for name in headers.split()} <= found
    if not headers:
        assert found == set()
    assert ("embbert_mve_half.h" in found) == ("mve_half" in headers.split())


def test_every_header_has_what_it_includes():
    for name in ALL:
        text = next(path.read_text() for path in micro_headers.needed(f'#include "{name}"\n') if path.name == name)
        shipped = {path.name for path in micro_headers.needed(text)} | {name}
        assert set(re.findall(r'#include "(\w+\.h)"', text)) <= shipped


def test_an_int8_package_needs_no_floating_point_of_the_c_library():
    """As Zephyr's minimal one, whose math.h has no INFINITY and no copysign."""
    package = load_package(small.package())
    folder = package.sources[0].parent
    texts = {path.name: path.read_text() for path in [*folder.glob("*.h"), *package.sources]}
    assert not any(
        re.search(r"#include <(math|stdio|stdlib)\.h>|\bINFINITY\b|\bldexp\(", text) for text in texts.values()
    )
    included = set().union(*(re.findall(r'#include "(\w+\.h)"', text) for text in texts.values()))
    assert {name for name in texts if name.endswith(".h")} == included - {"embbert.h"}
    assert all(text.startswith("/* SPDX-License-Identifier: Apache-2.0 */\n") for text in texts.values())
