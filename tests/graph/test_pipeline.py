"""The pipeline: its passes as instruments of TVM see them, and what travels with the module between them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import small
import tvm
from tvm import IRModule
from tvm.ir.instrument import PassTimingInstrument, pass_instrument

from embbert_tvm.errors import InputError
from embbert_tvm.graph import pipeline
from embbert_tvm.graph.attributes import account_of, bare, with_account, with_written, written_of
from embbert_tvm.graph.calibrate import load_calibration, sha256
from embbert_tvm.graph.precision import PLANS
from embbert_tvm.graph.qdq import QuantizedConstant
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.graph.tvm_workarounds import module_pass
from embbert_tvm.kernels.isa import DSP


@pass_instrument
class Names:
    """Which passes ran, in order."""

    def __init__(self):
        self.seen = []

    def run_after_pass(self, mod, info):
        self.seen.append(str(info.name))


def statistics():
    return load_calibration(small.folder() / "calibration.json", sha256(small.folder() / "model.onnx"))


def whole(plan=PLANS["int8"]):
    passes = (*pipeline.front(small.onnx_of_folder()), pipeline.quantized(plan, statistics()))
    return (*passes, *pipeline.back(DSP, in_half=False))


def test_instruments_see_every_pass_by_its_name_in_order():
    names, passes = Names(), whole()
    with pipeline.instrumented(names):
        pipeline.run(passes)
    phases = [name for name in names.seen if name in pipeline.PHASES]
    assert phases == list(pipeline.PHASES)
    simplification = names.seen[names.seen.index("1-imported") + 1 : names.seen.index("2-simplified")]
    asked = [getattr(one, "__name__", None) or str(one.info.name) for one in pipeline.SIMPLIFICATION]
    # TVM's own passes, which ours call, are seen too.
    assert [name for name in simplification if name in asked] == asked
    assert names.seen.index("quantize_operators") < names.seen.index("fuse_rows") < names.seen.index("5-calls")


def test_tvm_times_the_phases():
    timing, passes = PassTimingInstrument(), pipeline.front(small.onnx_of_folder())
    with pipeline.instrumented(timing):
        pipeline.run(passes)
        report = timing.render()
    for name in ("1-imported", "import_model", "fuse_rms_norm", "2-simplified"):
        assert f"{name}: " in report


def test_instruments_of_the_caller_are_kept():
    outer, inner = Names(), Names()
    with tvm.transform.PassContext(instruments=[outer]):
        with pipeline.instrumented(inner):
            pipeline.run((module_pass(lambda mod: mod, "nothing"),), IRModule({}))
    assert outer.seen == inner.seen == ["nothing"]


@pytest.mark.parametrize("error", [InputError("no: such thing"), KeyboardInterrupt(), SystemExit(143), ValueError("x")])
def test_what_a_pass_raises_reaches_the_caller_itself(error):
    def fail(mod):
        raise error

    passes = [module_pass(lambda mod: mod, "before"), pipeline._phase("a phase", [fail])]
    with pytest.raises(type(error)) as raised:
        pipeline.run(passes, IRModule({}))
    assert raised.value is error


def test_an_error_of_tvms_own_is_not_taken_for_an_earlier_one():
    def fail(mod):
        raise InputError("first")

    with pytest.raises(InputError, match="first"):
        pipeline.run((module_pass(fail),), IRModule({}))

    def fail_in_tvm(mod):
        return 3  # no module

    with pytest.raises(TypeError):
        pipeline.run((module_pass(fail_in_tvm),), IRModule({}))


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16", "int8-outliers"])
def test_what_is_known_of_a_module_travels_with_it(precision):
    """Names, choices, specifications, the plan and low-bit weights come back from the attributes as they went in."""
    made = quantize(small.simplified(), statistics(), PLANS[precision])
    back = account_of(with_account(made))
    assert (back.constants, back.choices, back.origins, back.plan) == (
        made.constants, made.choices, made.origins, made.plan,
    )  # fmt: skip
    known = {name: spec for name, spec in made.specs.items() if spec is not None}
    assert {name: spec for name, spec in back.specs.items() if spec is not None} == known
    assert bool(known) == (precision != "fp16")
    assert back.blocks.keys() == made.blocks.keys()
    assert bool(back.blocks) == (precision == "int4")
    for key, block in made.blocks.items():
        found = back.blocks[key]
        assert found.format == block.format
        for name in ("levels", "multipliers", "scale"):
            was, now = getattr(block, name), getattr(found, name)
            assert was.dtype == now.dtype
            np.testing.assert_array_equal(was, now)
    assert not [name for name in back.mod.attrs or {} if str(name).startswith("embbert.")]


def test_integers_that_a_file_holds_survive_simplification():
    steps = QuantizedConstant(np.arange(6, dtype=np.int8).reshape(2, 3), np.float32([0.5]), np.array(1, np.int8), 1)
    mod = with_written(pipeline.run(pipeline.front(small.onnx_of_folder())[:1]), {"key": steps})
    found = written_of(pipeline.simplify(mod))
    assert found.keys() == {"key"}
    assert found["key"].axis == 1
    for name in ("steps", "scale", "zero"):
        was, now = getattr(steps, name), getattr(found["key"], name)
        assert (was.dtype, was.shape) == (now.dtype, now.shape)
        np.testing.assert_array_equal(was, now)
    assert written_of(bare(mod)) is None


def test_a_module_that_was_not_quantized_is_told_apart():
    with pytest.raises(ValueError, match="carries no account"):
        account_of(small.simplified())


def test_a_phase_refuses_a_model_by_the_importers_error():
    model = small.onnx_of_folder()
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.INT64, [1, "L"]))
    with pytest.raises(InputError, match="one input"):
        pipeline.run(pipeline.front(model))
