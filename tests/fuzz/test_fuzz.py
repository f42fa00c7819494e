"""The fuzzers of fuzz/, each for a moment, and all of the corpus that is kept."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import small

from embbert_tvm.device.package import load_package

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
sys.path.insert(0, str(FUZZ))
import counts  # noqa: E402
import mutate  # noqa: E402
import readers  # noqa: E402
import run  # noqa: E402
import tokens  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """A file that several tests link is compiled once: clang takes seconds for kernels under sanitizers."""
    compile_one, made = run.instrumented, {}

    def once(package, source, sanitizer, _):
        key = source, sanitizer
        if key not in made:
            made[key] = compile_one(package, source, sanitizer, tmp_path_factory.mktemp("objects"))
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "instrumented", once)
        yield


def test_the_targets_find_nothing_in_the_corpus_and_a_moment_beyond(tmp_path):
    outcomes = run.fuzz(1, ("int4",), sanitizers=("address",), folder=tmp_path)
    assert [o.target for o in outcomes] == list(run.TARGETS)
    assert not [o for o in outcomes if o.finding]
    for o in outcomes:
        assert o.inputs >= len(list((FUZZ / "corpus" / o.target).iterdir()))


def test_a_wrong_byte_beside_the_arena_is_found(tmp_path):
    """The fuzzer sees what it is there to see."""
    package = load_package(small.package("int4"))
    kernels = next(path for path in package.sources if path.stem.endswith("_model"))
    spoilt = tmp_path / kernels.name
    text = kernels.read_text()
    assert text.count("    model->arena = (uint8_t *)arena;") == 1
    spoilt.write_text(text.replace("    model->arena = (uint8_t *)arena;", "    model->arena = (uint8_t *)arena + 64;"))
    sources = tuple(spoilt if path == kernels else path for path in package.sources)
    changed = replace(package, sources=sources, includes=(*package.includes, kernels.parent))
    program = run.build("classify", changed, run.objects(changed, "address", tmp_path), "address", tmp_path)
    _, finding = run.run(program, 0, tmp_path / "found")
    assert finding


def test_the_tokenizer_gives_the_librarys_ids():
    compared, _, differing = tokens.compare(load_package(small.package()), 60, seed=1, most=3000)
    assert compared > 2500
    assert differing == []


def test_what_is_changed_is_right_before(tmp_path):
    """Else every command would refuse it early, and nothing behind would be tried. One kind of each command."""
    slow = ("device tokenizer", "calibration", "calibration set", "config", "log", "labels", "cpu", "onnx")
    found = readers.refused(readers.seeds(tmp_path), [name for name in readers.KINDS if name not in slow])
    assert found == []


def test_inputs_without_libfuzzer_are_counted(tmp_path, monkeypatch):
    """And what one of them breaks is kept: here a parser that takes any checksum."""
    package = load_package(small.package("int4"))
    program = run.build_driver("frames", package, "address", tmp_path)
    checked, finding = run.drive(program, 1, 3000)
    assert checked > 3000
    assert finding == ""
    spoilt = tmp_path / "firmware"
    for folder in ("src", "include"):
        shutil.copytree(run.FIRMWARE / folder, spoilt / folder)
    parser = (spoilt / "src" / "frames.c").read_text()
    assert parser.count("|| get_u32(frame + end) != crc32(frame + 2, end - 2)") == 1
    (spoilt / "src" / "frames.c").write_text(parser.replace("|| get_u32(frame + end) != crc32(frame + 2, end - 2)", ""))
    monkeypatch.setattr(run, "FIRMWARE", spoilt)
    checked, finding = run.drive(run.build_driver("frames", package, "address", tmp_path), 1, 3000)
    assert checked == 0
    assert "targets/frames.c:" in finding
    assert (tmp_path / "drive-frames.found-1").stat().st_size > 0


def test_counting_goes_on_where_it_ended(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setitem(counts.PARTS, "frames", lambda number: (asked.append(number), (30, []))[1])
    log = tmp_path / "log"
    for goal in (50, 100):
        counts.count(log, {"frames": goal})
        with log.open("a") as file:
            file.write('{"kind": "fra')
    assert asked == [0, 1, 2, 3]
    assert counts.table(counts.read(log)).splitlines()[-1].split()[:2] == ["frames", "120"]


def test_no_mutated_input_ends_in_a_trace():
    slow = ("safetensors", "calibration", "calibration set", "record", "log", "labels")
    names = [name for name in readers.KINDS if name not in slow]
    tally = readers.fuzz(120, names, seed=3)
    assert tally.findings == []
    assert sum(tally.counts.values()) >= 100
    assert {kind for kind, _ in tally.counts} == set(names)


@pytest.mark.parametrize(
    ("status", "said", "left"),
    [
        (1, "embbert-tvm: unforeseen KeyError: 'x': a fault", False),
        (1, "Traceback (most recent call last):\n", False),
        (2, "", False),
        (2, "something else\n", False),
        (139, "", False),
        (2, "embbert-tvm: wrong\n", True),
    ],
)
def test_what_counts_as_a_finding(status, said, left, tmp_path):
    if left:
        (tmp_path / "out").mkdir()
    assert readers.complaint(status, said, tmp_path / "out")


@pytest.mark.parametrize(("status", "said"), [(0, ""), (0, "warning: x\n"), (2, "embbert-tvm: x\n"), (2, "Error: x\n")])
def test_what_does_not(status, said, tmp_path):
    assert readers.complaint(status, said, tmp_path / "out") == ""


def test_changes_are_the_same_for_the_same_seed():
    import random

    data = small.onnx_of_folder().SerializeToString()
    for change in (mutate.of_bytes, mutate.of_onnx):
        one, other = (change(data, random.Random(5)) for _ in range(2))
        assert one == other
        assert one != data
