"""Each workaround does its work; and each fails here once TVM no longer needs it, so that it can go."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import NamedTuple

import pytest
import small
from tvm import IRModule
from tvm.ir.transform import module_pass as tvms_module_pass
from tvm.relax.frontend.onnx import from_onnx, onnx_frontend

from embbert_tvm.graph.tvm_workarounds import (
    importer_knows,
    module_pass,
    quiet_importer,
    raised_by_passes,
)


def said(program: str) -> str:
    """What a Python program of its own prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


FORKED = """
import json, os, sys
{}
for program in json.loads(sys.stdin.read()):
    if os.fork() == 0:
        try:
            exec(program, {{}})
            sys.stdout.flush()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.wait()[1] == 0, program
    print("{}", flush=True)
"""
END = "-- the next --"


def each_said(common: str, programs: list[str]) -> list[str]:
    """What programs print, each in a process of its own that goes on from where `common` ended: TVM's import is most of
    the time that one takes."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED.format(common, END)],
        input=json.dumps(programs), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [text.strip() for text in done.stdout.split(END)[:-1]]


OURS = "from embbert_tvm.graph.tvm_workarounds import import_tvm_without_extras\nimport_tvm_without_extras()\n"
IMPORTED = """
import os, sys, tvm
loaded = {name: name in sys.modules for name in (
    "torch", "tvm.backend.cuda.ptx", "tvm.s_tir.meta_schedule.search_strategy", "tvm.s_tir.dlight.gpu"
)}
from tvm.s_tir import dlight, meta_schedule
used = [dlight.gpu.Fallback.__name__, meta_schedule.Database.__name__, meta_schedule.SearchStrategy.__name__]
modules = [m for n, m in sorted(sys.modules.items()) if n.startswith("tvm.") and n.endswith("_ffi_api")]
modules = [m for m in modules if "disco" not in m.__name__ and "backend" not in m.__name__]
names = sorted(f"{m.__name__}.{n}" for m in modules for n in vars(m))
switched = "TVM_DEVICE_BACKEND_AUTOLOAD" in os.environ
import json
print(json.dumps([loaded, used, repr(tvm.runtime.disco), len(modules), names, switched]))
"""


class Imported(NamedTuple):
    """What TVM is after its import: modules that are loaded, by name, names of classes that are imported when used, its
    runtime of many devices, how many modules it fills by names, those names, whether a variable of ours is left."""

    loaded: dict[str, bool]
    used: list[str]
    disco: str
    modules: int
    names: list[str]
    switched: bool


# PyTorch is there for whoever wants it, beside TVM.
BOTH = "import torch, tvm\nprint(float(torch.ones(2).sum()), tvm.runtime.tensor(torch.ones(2).numpy()).shape[0])"
INTRINSICS = "tvm.s_tir.tensor_intrin"
# They take half a minute, so that here they cannot be imported at all.
TUNE = """
import sys
from tvm.s_tir import meta_schedule as ms
{}
try:
    ms.TuneContext(target="llvm")
    print("made")
except ImportError as error:
    print(error.name)
"""
WITHOUT = "from embbert_tvm.graph.tvm_workarounds import without_gpu_intrinsics\nwithout_gpu_intrinsics()"
LEAVE = """
import os
os.dup2(1, 2)  # what is said of errors too
from tvm import relax
from embbert_tvm.graph.tvm_workarounds import abandon_function
builder = relax.BlockBuilder()
x = relax.Var("x", relax.TensorType([1], "float32"))
try:
    with builder.function("main", [x]):
        with builder.dataflow():
            raise ValueError
except ValueError:
    {}
del builder
"""


@pytest.fixture(scope="module")
def with_plain() -> list[str]:
    """What programs say after `import tvm`: TVM imported, tuning, tuning with what is ours, a block that is left, one
    with what is ours."""
    programs = [TUNE.format(f"sys.modules[{INTRINSICS!r}] = None"), TUNE.format(WITHOUT)]
    programs += [LEAVE.format("pass"), LEAVE.format("abandon_function(builder)")]
    return each_said("import tvm", [IMPORTED, *programs])


@pytest.fixture(scope="module")
def with_ours() -> list[str]:
    """TVM imported after what is ours, and PyTorch with it."""
    return each_said(f"{OURS}import tvm", [IMPORTED, BOTH])


@pytest.fixture(scope="module")
def plain(with_plain) -> Imported:
    return Imported(*json.loads(with_plain[0]))


@pytest.fixture(scope="module")
def ours(with_ours) -> Imported:
    return Imported(*json.loads(with_ours[0]))


def test_tvm_imports_torch_unless_it_is_kept_from_it(plain, ours, with_ours):
    assert plain.loaded["torch"], "tvm_ffi no longer imports torch: drop import_tvm_without_extras"
    assert not ours.loaded["torch"]
    assert with_ours[1] == "2.0 2"


def test_tvm_imports_other_devices_unless_it_is_kept_from_it(plain, ours):
    name = "tvm.backend.cuda.ptx"
    assert plain.loaded[name], "TVM loads no back ends on its own: drop TVM_DEVICE_BACKEND_AUTOLOAD"
    assert plain.disco == "None", "this TVM has the runtime of many devices: import it"
    assert (ours.loaded[name], ours.disco, ours.switched) == (False, "None", False)


def test_modules_of_functions_are_the_same_by_one_listing(plain, ours):
    """A module that is filled from names listed too early would lack functions that are registered later."""
    assert plain.modules > 30, "TVM fills few modules by names: drop _names_listed_once"
    assert (ours.modules, ours.names) == (plain.modules, plain.names)


def test_tvm_imports_its_search_unless_it_is_left_until_it_is_used(plain, ours):
    names = [f"tvm.s_tir.{name}" for name in ("meta_schedule.search_strategy", "dlight.gpu")]
    assert all(plain.loaded[name] for name in names), "TVM imports no search on its own: drop _imported_when_used"
    assert not any(ours.loaded[name] for name in names)
    assert ours.used == plain.used == ["Fallback", "Database", "SearchStrategy"]


def test_a_compilation_imports_no_search(tmp_path):
    """The shipped model has schedules on record, and its segments are a running sum."""
    program = f"""
import sys
from embbert_tvm import api
made = api.compile("embbert-snips", "cortex-m7", {str(tmp_path / "package")!r})
later = "tvm.s_tir.meta_schedule.", "tvm.s_tir.dlight."
print(made.report.tuned != (), any(name.startswith(later) for name in sys.modules))
print("numpy.ma" in sys.modules, "torch" in sys.modules)
"""
    assert said(program).split() == ["True", "False", "False", "False"]


def test_metaschedule_imports_gpu_intrinsics_unless_it_is_kept_from_it(with_plain):
    _, asked, ours, *_ = with_plain
    assert asked.startswith(INTRINSICS), "MetaSchedule no longer imports them: drop without_gpu_intrinsics"
    assert ours == "made"


def mismatched():
    """A model whose matrix has too many rows."""
    body = "x = Gather(emb__weight, ids)\nlogits = MatMul(x, fc__weight)"
    return small.classifier(body, emb__weight=small.normal(40, 8), fc__weight=small.normal(9, 3))


def test_the_importer_prints_where_it_fails(capfd):
    model = mismatched()
    with pytest.raises(Exception):  # noqa: B017, PT011 (of whatever kind)
        from_onnx(model, keep_params_in_input=False)
    shown = capfd.readouterr()
    assert shown.out or shown.err, "the importer no longer prints: drop quiet_importer"
    with quiet_importer():
        os.write(2, b"as C++ does\n")
        # Also what is said of the builder that goes with the exception.
        with contextlib.suppress(Exception):
            from_onnx(model, keep_params_in_input=False)
    assert capfd.readouterr() == ("", "")


def test_the_importer_is_taught_an_operator():
    assert not hasattr(onnx_frontend, "register_converter"), "the importer has a registry: drop importer_knows"
    known = onnx_frontend._get_convert_map()
    with importer_knows({"Ours": object}):
        assert onnx_frontend._get_convert_map() == {**known, "Ours": object}
    assert "Ours" not in onnx_frontend._get_convert_map()


def test_a_builder_warns_of_a_block_that_an_exception_left(with_plain):
    *_, left, abandoned = with_plain
    assert "block" in left.lower(), "BlockBuilder cleans up by itself: drop abandon_function"
    assert abandoned == ""


def test_tvm_loses_the_class_of_an_exception():
    class Mine(Exception):
        pass

    def fail(mod, context=None):
        raise Mine("it")

    with pytest.raises(RuntimeError) as raised:
        tvms_module_pass(fail, opt_level=0, name="fail")(IRModule({}))
    assert type(raised.value) is RuntimeError, "TVM raises what was raised: drop raised_by_passes"
    with pytest.raises(Mine), raised_by_passes():
        module_pass(fail)(IRModule({}))
