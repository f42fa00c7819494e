"""The precision plan: what it says of an operator, its file, and that what it has in float runs in float."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st

from embbert_tvm.compiler import CompileOptions, compile_model, find_source, llvm_runner
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import load_calibration, sha256
from embbert_tvm.graph.precision import (
    FORMAT,
    METHODS,
    PRECISIONS,
    WEIGHTS,
    PrecisionPlan,
    named_plan,
    plan_text,
    read_plan,
)
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.models.reference import Reference
from embbert_tvm.target import load_cpu

NAMES = st.text("ab_*?", min_size=1, max_size=6)


def some(values):
    return st.dictionaries(NAMES, st.sampled_from(sorted(values)), max_size=4)


PLANS = st.builds(
    PrecisionPlan,
    st.sampled_from(sorted(PRECISIONS)),
    some(PRECISIONS),
    some(WEIGHTS),
    st.sampled_from(METHODS),
    some(METHODS),
)


@given(PLANS)
def test_a_file_holds_the_plan(tmp_path_factory, plan):
    path = tmp_path_factory.getbasetemp() / "plan.json"
    path.write_text(plan_text(plan))
    assert read_plan(path) == plan
    assert list(read_plan(path).operators) == list(plan.operators)


def test_a_whole_name_goes_before_a_pattern_and_a_later_pattern_before_an_earlier():
    plan = PrecisionPlan("int8", {"a_x": "int8", "a_*": "fp32", "*_y": "int8"}, {"a_z": "int8"})
    assert [plan.precision(name).name for name in ("a_x", "a_z", "a_y", "b")] == ["int8", "fp32", "int8", "int8"]
    assert [plan.weights(name) for name in ("a_z", "a_w", "b")] == ["int8", "float32", "int8"]


BAD = [
    ("no JSON", "{", "is not JSON"),
    ("a list", "[]", "is not a plan file"),
    ("another format", '{"format": "x"}', "is not a plan file"),
    ("another key", {"operator": {}}, "the key operator is not known: choose one of default, operators"),
    ("a list of operators", {"operators": []}, "operators: must be an object from names to names"),
    ("a number for a precision", {"operators": {"a": 8}}, "operators: must be an object from names to names"),
    ("an unknown precision", {"operators": {"a": "int5"}}, "precision int5 is not known: choose one of int8"),
    ("an unknown default", {"default": "int5"}, "precision int5 is not known"),
    ("an unknown format", {"weights": {"a": "int5"}}, "weight format int5 is not known"),
    ("a float format", {"weights": {"a": "float16"}}, "weight format float16 is not known"),
    ("an unknown method", {"ranges": {"a": "guess"}}, "calibration method guess is not known"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=[b[0] for b in BAD])
def test_what_is_no_plan_is_refused(tmp_path, name, content, message):
    path = tmp_path / "plan.json"
    path.write_text(content if isinstance(content, str) else json.dumps({"format": FORMAT} | content))
    with pytest.raises(InputError) as refused:
        read_plan(path)
    assert message in str(refused.value)
    assert str(path) in str(refused.value)


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(InputError, match="int5 is not known: choose one of int8"):
        named_plan("int5")


def statistics():
    return load_calibration(small.folder() / "calibration.json", sha256(small.folder() / "model.onnx"))


def planned(**operators):
    return quantize(small.simplified(), statistics(), PrecisionPlan("int8", operators))


# All of the small model, which is exported and calibrated when a test runs, not when tests are collected.
OPERATORS = (
    "blocks_0_norm", "blocks_0_query", "blocks_0_matmul_2", "blocks_0_conv_multiply", "blocks_1_norm",
    "blocks_1_query", "blocks_1_matmul_2", "blocks_1_conv_multiply", "blocks_1_subtract", "head",
)  # fmt: skip


def test_the_operators_are_these():
    assert tuple(planned().plan.operators) == OPERATORS


@pytest.mark.parametrize("name", OPERATORS)
def test_what_is_in_float_runs_in_float_between_conversions(name):
    """Every operator in turn: its Relax operators are those of the float module, the others stay integers."""
    mixed, whole = planned(**{name: "fp32"}), planned()
    assert mixed.plan.operators == whole.plan.operators | {name: "fp32"}
    floats = [c for c in mixed.choices if c.precision == "float32"]
    assert name in {c.name for c in floats}
    assert {c.reason for c in floats} == {"requested"}
    integers = [c for c in mixed.choices if c.precision == "int8" and "quantize_" not in c.kernel]
    made_before = [c for c in whole.choices if c.precision == "int8" and "quantize_" not in c.kernel]
    assert len(integers) >= len(made_before) - 2
    ids = small.some_ids(17, 70)
    reference = Reference(small.folder() / "model.onnx")(ids)
    assert np.abs(llvm_runner(mixed.mod)(ids) - reference).max() <= 0.1 * np.abs(reference).max()


def test_a_row_that_was_not_observed_has_the_range_of_its_tensor():
    """Every operator alone in int8, by statistics of an older simplification."""
    found = statistics()
    older = replace(found, tensors={k: v for k, v in found.tensors.items() if "slice" not in k and "take" not in k})
    assert len(older.tensors) < len(found.tensors)
    for name in OPERATORS:
        alone = quantize(small.simplified(), older, PrecisionPlan("int8", {"*": "fp32", name: "int8"}))
        assert any(c.precision == "int8" for c in alone.choices)


def test_a_name_that_is_no_operator_is_refused():
    with pytest.raises(InputError, match="operators: the model has no blocks_0_conv_add; it has blocks_0"):
        planned(blocks_0_conv_add="fp32")


def test_a_pattern_names_many():
    mixed = planned(**{"blocks_0_*": "fp32"})
    assert {k for k, v in mixed.plan.operators.items() if v == "fp32"} == {
        k for k in mixed.plan.operators if k.startswith("blocks_0_")
    }


def test_fp16_stores_halves_and_computes_in_float(tmp_path):
    """Half of fp32's weights; logits within what rounding to 11 bits leaves; float16 is what lies between."""
    found = {}
    for precision in ("fp16", "fp32"):
        compile_model(
            find_source(small.folder()), load_cpu("host"), tmp_path / precision, CompileOptions(precision=precision)
        )
        found[precision] = load_package(tmp_path / precision)
    metadata = json.loads((tmp_path / "fp16" / "metadata.json").read_text())
    whole = json.loads((tmp_path / "fp32" / "metadata.json").read_text())
    assert whole["weights_bytes"] <= 2 * metadata["weights_bytes"] <= whole["weights_bytes"] + 16
    assert metadata["arena"]["bytes"] < 0.6 * whole["arena"]["bytes"]
    assert {o["dtype"] for o in metadata["outputs"] if o["name"] != "logits"} <= {"float16", "int32", "bool", "uint8"}
    assert {o["precision"] for o in metadata["operators"]} <= {"float16", "int32", "bool"}
    reference = Reference(small.folder() / "model.onnx")
    with open_place("host", found["fp16"]) as device:
        for length in (1, 2, 17, 48):
            ids = small.some_ids(length, 70)
            expected, logits = reference(ids), device.run(ids).logits
            assert np.abs(logits - expected).max() <= 0.01 * max(1.0, np.abs(expected).max())
            assert not np.array_equal(logits, expected)


def test_fp16_and_fp32_in_one_plan_are_refused():
    with pytest.raises(InputError, match="fp16 and fp32 in one plan"):
        planned(blocks_0_query="fp16", head="fp32")
