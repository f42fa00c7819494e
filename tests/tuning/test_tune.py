"""Searching on QEMU: what is on record, what compile takes of it, and what goes wrong on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tvm
from tvm import tirx
from tvm.s_tir.meta_schedule import TuneContext

from embbert_tvm.compiler import CompileOptions, compile_model, find_source, kernel_calls
from embbert_tvm.device.package import load_package
from embbert_tvm.device.profile import profile
from embbert_tvm.errors import InputError
from embbert_tvm.target import load_board, load_cpu
from embbert_tvm.tuning import search
from embbert_tvm.tuning.logs import TunedSchedules, read_manifest
from embbert_tvm.tuning.measure import QemuPlace, Reading
from embbert_tvm.tuning.pool import Pool
from embbert_tvm.tuning.session import TuneOptions, find_target, tune
from embbert_tvm.tuning.space import has_space, space
from embbert_tvm.tuning.task import find_tasks, workload
from tests import small

pytest.importorskip("xgboost")
TARGET = "cortex-m7"


def places():
    return [QemuPlace(load_board("mps2_an500"))]


def run(path: Path, trials: int, progress=None, **options):
    options = {"length": 32, "runner": "qemu"} | options
    given = (TuneOptions(trials, **options), *([progress] if progress else []))
    return tune(find_source(small.folder()), find_target(TARGET), places(), path, *given)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    root = tmp_path_factory.mktemp("schedules")
    return root, run(root / TARGET / "small-int8", 24)


def test_every_trial_is_on_record(tuned):
    root, manifest = tuned
    records = (root / TARGET / "small-int8" / "database_tuning_record.json").read_text().splitlines()
    assert len(records) == manifest.trials == 24
    assert all(kernel.after <= kernel.before for kernel in manifest.kernels.values())
    assert manifest.failures == sum('"embbert' not in r and "10000000000" in r for r in records)


def test_compile_takes_the_log_and_computes_the_same_in_as_many_instructions_as_it_says(tuned, tmp_path):
    root, manifest = tuned
    schedules = TunedSchedules("small", [TARGET], "int8", [root])
    source, cpu = find_source(small.folder()), load_cpu(TARGET)
    compile_model(source, cpu, tmp_path / "tuned", tuned=schedules)
    plain = Path(small.package("int8", TARGET))
    assert schedules.used
    assert schedules.warnings == []
    assert (tmp_path / "tuned" / "reference.json").read_bytes() == (plain / "reference.json").read_bytes()
    counts = [
        profile(load_package(path), "qemu", [32]).lengths[0].total_instructions for path in (plain, tmp_path / "tuned")
    ]
    gain = sum((k.before - k.after) * k.calls for k in manifest.kernels.values())
    assert gain > 0
    # Of so small a model unrolling is all that is left to gain; what stands around a kernel in an image weighs as much.
    assert counts[0] - counts[1] == pytest.approx(gain, abs=0.003 * counts[0])


def test_a_killed_search_goes_on_and_loses_nothing(tuned, tmp_path):
    root, _ = tuned
    log = tmp_path / "log"
    shutil.copytree(root / TARGET / "small-int8", log)
    records = log / "database_tuning_record.json"
    whole = records.read_text().splitlines()
    records.write_text("\n".join(whole) + '\n[0, "half a rec')  # killed while it wrote
    # The manifest is written after the record: a search killed between the two knows it is one trial further.
    document = json.loads((log / "manifest.json").read_text())
    document["trials"] -= 1
    (log / "manifest.json").write_text(json.dumps(document))
    again = run(log, 28)
    lines = records.read_text().splitlines()
    assert again.trials == len(lines) == 28
    assert lines[:24] == whole


def test_a_log_of_something_else_is_not_resumed(tuned, tmp_path):
    root, _ = tuned
    shutil.copytree(root / TARGET / "small-int8", tmp_path / "log")
    with pytest.raises(InputError, match="has length 32, not 16"):
        run(tmp_path / "log", 30, length=16)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("tvm", "0.1", "was tuned with TVM 0.1"), ("format", 0, "format 0"), ("kernels", 3, "is not a manifest")],
)
def test_a_log_of_another_version_is_left_out_with_a_warning(tuned, tmp_path, key, value, words):
    root, _ = tuned
    log = tmp_path / TARGET / "small-int8"
    shutil.copytree(root / TARGET / "small-int8", log)
    document = json.loads((log / "manifest.json").read_text())
    (log / "manifest.json").write_text(json.dumps(document | {key: value}))
    schedules = TunedSchedules("small", [TARGET], "int8", [tmp_path])
    (warning,) = schedules.warnings
    assert words in warning
    assert warning.endswith(("ignored", "tune again"))


def test_a_log_of_another_shape_is_left_out_with_a_warning(tuned, tmp_path):
    root, _ = tuned
    log = tmp_path / TARGET / "small-int8"
    shutil.copytree(root / TARGET / "small-int8", log)
    document = json.loads((log / "manifest.json").read_text())
    document["kernels"] = {f"{i:016x}": k for i, k in enumerate(document["kernels"].values())}
    (log / "manifest.json").write_text(json.dumps(document))
    schedules = TunedSchedules("small", [TARGET], "int8", [tmp_path])
    mod = kernel_calls(find_source(small.folder()), load_cpu(TARGET)).intrinsic
    name, func = next((g.name_hint, f) for g, f in mod.functions.items() if "attend" in g.name_hint)
    assert schedules(name, func) is None
    assert any("of another shape" in warning for warning in schedules.warnings)


def test_a_stored_schedule_keeps_the_names_of_the_kernel_that_it_is_applied_to(tuned):
    """A log holds kernels as they were: names of buffers are no part of what identifies them."""
    root, manifest = tuned
    mod = kernel_calls(find_source(small.folder()), load_cpu(TARGET)).intrinsic
    better = {kernel.name for kernel in manifest.kernels.values() if kernel.after < kernel.before}
    name, func = next((g.name_hint, f) for g, f in mod.functions.items() if g.name_hint in better)
    first = func.params[0].name
    renamed = tvm.ir.load_json(tvm.ir.save_json(func).replace(f'"{first}"', '"renamed"'))
    scheduled = TunedSchedules("small", [TARGET], "int8", [root])(name, renamed)
    assert scheduled.params[0].name == "renamed"


def test_wrong_crashing_and_hanging_candidates_are_failures(tmp_path, monkeypatch):
    """Every other candidate is spoilt, each kind in its turn; the untuned kernels are measured as they are."""
    made = search.candidate
    spoil = {
        2: ("{", '{ for (;;) { __asm__ volatile(""); }', "did not end"),
        4: ("{", "{ *(volatile int *)0xF0000000u = *(volatile int *)0xF0000000u;", "crashed"),
        6: ("{", "{ return;", "elements are wrong"),
        8: ("{", "{ this is no C", "could not make"),
    }
    count = [0]

    def candidate(task, scheduled, number, features, forms):
        from dataclasses import replace

        one = made(task, scheduled, number, features, forms)
        if number <= before:
            return one
        count[0] += 1
        old, new, _ = spoil.get(count[0], ("", "", ""))
        if not old:
            return one
        head, _, rest = one.source.rpartition("\n{\n")
        return replace(one, source=f"{head}\n{new}\n{rest}")

    source, cpu = find_source(small.folder()), load_cpu(TARGET)
    calls = kernel_calls(source, cpu)
    tasks = [t for t in find_tasks(calls.intrinsic, calls.reference, list(range(2, 34))) if "attend" in t.name]
    before = len(tasks)
    monkeypatch.setattr(search, "candidate", candidate)
    monkeypatch.setattr("embbert_tvm.tuning.session.find_tasks", lambda *_: tasks)
    monkeypatch.setattr(f"{__name__}.places", lambda: [QemuPlace(load_board("mps2_an500"), timeout=4.0)])
    manifest = run(tmp_path / "log", 12)
    said = [json.loads(line)["error"] for line in (tmp_path / "log" / "failures.jsonl").read_text().splitlines()]
    assert manifest.trials == 12
    assert manifest.failures == len(said) >= 4
    for _, _, words in spoil.values():
        assert any(words in error for error in said), (words, said)


def test_a_lost_place_costs_no_trial(tmp_path):
    class Dying:
        name = "dying"

        def __init__(self, lives):
            self.lives = lives

        def open(self, image):
            return self

        def run(self, number):
            self.lives -= 1
            return Reading(error="gone", lost=True) if self.lives < 0 else Reading(instructions=number)

        def close(self):
            pass

    pool = Pool([Dying(2), Dying(1000)])
    got = dict(pool.stream(iter([(tmp_path, [0, 1, 2, 3]), (tmp_path, [4, 5, 6, 7])])))
    assert sorted(got) == list(range(8))
    assert all(reading.error is None for reading in got.values())


def test_manifests_say_what_is_wrong_with_them(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path)


def test_every_operator_of_a_float_model_has_designs():
    """What TVM cannot inline is left out: its analysis of a maximum over columns that are split ended the search."""
    mod = kernel_calls(find_source(small.folder()), load_cpu(TARGET), CompileOptions("fp32")).intrinsic
    funcs = [func for func in mod.functions.values() if isinstance(func, tirx.PrimFunc) and has_space(func)]
    assert len(funcs) > 5
    for func in funcs:
        context = TuneContext(
            mod=workload(func), target=tvm.target.Target(search.TARGET), space_generator=space(func), num_threads=1
        )
        assert context.generate_design_space()
