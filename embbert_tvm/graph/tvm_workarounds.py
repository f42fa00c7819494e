"""Every place where TVM is bent, one function each, with the reason.

tests/graph/test_tvm_workarounds.py holds a test for each that fails once TVM no longer needs it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm import IRModule, relax

_failed = threading.local()


_AUTOLOAD = "TVM_DEVICE_BACKEND_AUTOLOAD"


def import_tvm_without_extras() -> None:
    """Import TVM, and keep it from importing with it what nothing here uses.

    PyTorch: where it is installed, tvm_ffi/__init__.py and _convert.py of 0.1.14 import it to avoid a clash of symbols
    on Windows: 1.7 s and 200 MB of every compilation. It can be imported afterwards; only tvm_ffi's direct conversion
    of its tensors is missing then. The back ends of GPUs, which import their instructions and schedules, and the
    runtime of many devices, which the wheel lacks: TVM looks for its C++ and catches the error, but what makes that,
    the first of all, reads the symbols of every library for its backtrace: 0.25 s together. Where TVM or PyTorch is
    imported already, nothing is done.
    """
    if "tvm_ffi" in sys.modules or "torch" in sys.modules:
        return
    absent = ("torch", "tvm.runtime.disco")
    given = os.environ.get(_AUTOLOAD)
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    os.environ[_AUTOLOAD] = "0"
    try:
        with _names_listed_once(), _imported_when_used(_LATER):
            importlib.import_module("tvm")
    finally:
        for name in absent:
            del sys.modules[name]
        if given is None:
            del os.environ[_AUTOLOAD]
        else:
            os.environ[_AUTOLOAD] = given


_LATER = frozenset({"tvm.s_tir.meta_schedule", "tvm.s_tir.dlight"})


class _Later(importlib.abc.MetaPathFinder):
    """Finds modules so that they are run when something of them is first used."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


@contextmanager
def _imported_when_used(names: frozenset[str]) -> Iterator[None]:
    """Let modules be run when something of them is first used, instead of when they are imported.

    With itself TVM imports the search for schedules and the schedules of GPUs: a quarter of its modules.
    """
    finder = _Later(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def _names_listed_once() -> Iterator[None]:
    """Let tvm_ffi list the names of all functions, a call each, where there are new ones.

    TVM fills some fifty modules with functions by the beginnings of their names, and tvm_ffi lists all for each.
    """
    registry: Any = importlib.import_module("tvm_ffi.registry")
    listing, found = registry.list_global_func_names, list[str]()

    def names() -> list[str]:
        name_of = registry.get_global_func("ffi.FunctionListGlobalNamesFunctor")()
        count = name_of(-1)
        if len(found) != count:
            found[:] = [name_of(number) for number in range(count)]
        return found

    registry.list_global_func_names = names
    try:
        yield
    finally:
        registry.list_global_func_names = listing


def recorded_schedules(workloads: Path, records: Path) -> Callable[[IRModule, Any], Any]:
    """A function from a module and a TVM target to the best schedule of its `main` on record, or None.

    workloads, records: the files of a JSON database of MetaSchedule. tvm.s_tir.meta_schedule imports the whole search
    with the class that reads them: its C++ is asked instead. What that raises has no common class.
    """
    import tvm

    of = "s_tir.meta_schedule.Database"
    database = tvm.get_global_func(f"{of}JSONDatabase")(str(workloads), str(records), False, "structural")
    query = tvm.get_global_func(f"{of}QueryTuningRecord")

    def best(mod: IRModule, target: Any) -> Any:
        record = query(database, mod, target, "main")
        if record is None:
            return None
        # The trace on the module itself: QuerySchedule gives that of the log, with the names that it had then.
        schedule = tvm.s_tir.Schedule(mod)
        record.trace.apply_to_schedule(schedule, remove_postproc=False)
        return schedule

    return best


def without_gpu_intrinsics() -> None:
    """Keep MetaSchedule from importing the tensor intrinsics of every GPU when it makes a context.

    tvm.s_tir.meta_schedule.TuneContext imports tvm.s_tir.tensor_intrin, which takes longer than a short search; none of
    its intrinsics is used here. It must be called before the first context is made.
    """
    name = "tvm.s_tir.tensor_intrin"
    sys.modules.setdefault(name, types.ModuleType(name))


@contextmanager
def quiet_importer() -> Iterator[None]:
    """Drop what the ONNX importer prints where it fails: on stdout from Python, and on stderr from C++.

    relax/frontend/onnx/onnx_frontend.py prints the operator that it was at, and the C++ below it warns by LOG(WARNING)
    whatever Python's logging is set to, so that the file descriptor itself is turned away. Other threads that write to
    stderr meanwhile are not heard.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def importer_knows(operators: dict[str, Any]) -> Iterator[None]:
    """Add converters of operators to the ONNX importer. It has no registry: the function that it asks is replaced."""
    from tvm.relax.frontend.onnx import onnx_frontend

    known = onnx_frontend._get_convert_map
    onnx_frontend._get_convert_map = lambda: {**known(), **operators}
    try:
        yield
    finally:
        onnx_frontend._get_convert_map = known


def abandon_function(builder: relax.BlockBuilder) -> None:
    """Give up a function whose dataflow block is open. BlockBuilder's own context manager leaves the block when an
    exception goes through it, and the destructor then warns on stderr."""
    builder._end_block()


def module_pass(transform: Callable[[IRModule], IRModule], name: str | None = None) -> Any:
    """A function from module to module as a TVM module pass, which instruments of a PassContext see by its name.

    What it raises comes out of TVM's C++ as a RuntimeError of the same text: `raised_by_passes` brings the exception
    itself back.
    """
    import tvm

    def run(mod: IRModule, context: Any) -> IRModule:
        try:
            made = transform(mod)
        except BaseException as error:
            _failed.error = error
            raise
        _failed.error = None
        return made

    return tvm.ir.transform.module_pass(run, opt_level=0, name=name or getattr(transform, "__name__", "pass"))


@contextmanager
def raised_by_passes() -> Iterator[None]:
    """Raise what a pass of `module_pass` raised, KeyboardInterrupt and SystemExit too, as it was raised.

    tvm_ffi keeps the class of an exception only where it was registered by name, and of that only the message.
    """
    _failed.error = None
    try:
        yield
    except Exception:
        original, _failed.error = _failed.error, None
        if original is None:
            raise
        raise original from original.__cause__
