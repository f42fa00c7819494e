"""The pytest plugin, as a user calls it, on the toy package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy import HANG, MODEL, write_package

pytest_plugins = ["pytester"]

PLUGIN = ("-p", "embbert_tvm.device.pytest_plugin", "-p", "no:cacheprovider", "-v")


@pytest.fixture
def call(pytester, monkeypatch):
    """pytest in a folder of its own, without the plugins that are installed here."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return lambda *arguments: pytester.runpytest_inprocess(*PLUGIN, *map(str, arguments))


def device_tests(package, place="host", *more):
    return "--embbert-device", place, "--embbert-package", package, *more


@pytest.mark.parametrize(("place", "on"), [("host", "host"), ("qemu:cortex-m7", "qemu:mps2_an500")])
def test_a_sound_package_passes_without_a_test_file(call, toy_package, place, on):
    result = call(*device_tests(toy_package, place, "--embbert-soak", 20))
    stack = {"skipped": 1} if place == "host" else {}
    result.assert_outcomes(passed=8 - len(stack), **stack)
    result.stdout.fnmatch_lines(
        [
            f"*{on}::reference vector of 1 tokens PASSED*",
            f"*{on}::reference vector of 16 tokens PASSED*",
            f"*{on}::self-test of 16 tokens PASSED*",
            f"*{on}::soak of 20 inferences PASSED*",
        ]
    )


def test_it_leaves_other_tests_alone(call, pytester):
    pytester.makepyfile("def test_one(): pass")
    call().assert_outcomes(passed=1)


def test_it_adds_to_other_tests(call, pytester, toy_package):
    pytester.makepyfile("def test_one(): assert False")
    call(*device_tests(toy_package)).assert_outcomes(passed=7, failed=1, skipped=1)


def broken(tmp_path, line, before="EMBBERT_STEP(1);"):
    model = MODEL.replace(f"    {before}", f"    {line}\n    {before}")
    assert model != MODEL
    return write_package(tmp_path / "broken", model=model)


@pytest.mark.parametrize(
    ("line", "failed", "message"),
    [
        ("logits[2] += 0.5f;", 3, "the run of 1 tokens differs by 0.5 from what TVM's LLVM build of the model gives"),
        ("sums[16] = 1u;", 3, "bytes beside the arena were written"),
        ("logits[0] += sums[15] == 0x5A5A5A5Au;", 3, "the logits depend on what the arena held before"),
        (
            "static uint32_t runs; logits[0] += ++runs > 30u;",
            1,
            "inference * of 100 gives other logits than the same ids gave at first",
        ),
    ],
    ids=["bits", "guard", "unwritten", "soak"],
)
def test_what_is_wrong_is_told_in_a_line(call, tmp_path, line, failed, message):
    result = call(*device_tests(broken(tmp_path, line)))
    assert result.parseoutcomes()["failed"] == failed
    result.stdout.fnmatch_lines([f"*{message}*"])
    assert "Traceback" not in result.stdout.str()


def test_a_stack_that_is_deeper_than_the_report_says(call, tmp_path):
    """A frame that the compiler's account does not have: assembly that moves the stack pointer."""
    words = ["sub sp, #1024", "movs r3, #0", "str r3, [sp]", "add sp, #1024"]
    text = "\\n\\t".join([".syntax unified", *words])
    line = f'__asm__ volatile("{text}" ::: "r3", "memory");'
    package = broken(tmp_path, f"\n#ifdef __arm__\n{line}\n#endif\n")
    result = call(*device_tests(package, "qemu"))
    result.stdout.fnmatch_lines(["* bytes of stack were used; the model's worst case is *, the server's 256"])
    result.assert_outcomes(passed=7, failed=1)


def test_a_device_that_stops_answering_fails_its_tests(call, tmp_path, monkeypatch):
    package = write_package(tmp_path / "p")
    document = json.loads((package / "reference.json").read_text())
    document["vectors"] = [{"ids": [HANG], "logits": document["vectors"][0]["logits"]}]
    (package / "reference.json").write_text(json.dumps(document))
    monkeypatch.setattr("embbert_tvm.device.host.TIMEOUT", 3)
    result = call(*device_tests(package), "-k", "vector")
    result.assert_outcomes(failed=1, deselected=5)
    result.stdout.fnmatch_lines(["*host did not answer in 3 s*"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--embbert-device", "host"], "belong together: give both"),
        (["--embbert-device", "moon", "--embbert-package", "{toy}"], "unknown place 'moon'"),
        (["--embbert-device", "host", "--embbert-package", "nowhere"], "is not a compiled package"),
        (["--embbert-device", "serial:/dev/ttyNONE9", "--embbert-package", "{toy}"], "cannot be opened"),
        (["--embbert-soak", "0"], "must be 1 or more"),
    ],
)
def test_bad_input(call, toy_package, arguments, message):
    result = call(*(word.format(toy=toy_package) for word in arguments))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{message}*"])
    assert "Traceback" not in result.stderr.str()


def test_it_is_an_entry_point():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '[project.entry-points.pytest11]\nembbert = "embbert_tvm.device.pytest_plugin"\n' in project
