"""The same package on the host and in QEMU: logits, refusals, faults, silence."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from toy import DEEP, FAULT, HANG, LABELS, MAX_LENGTH, MODEL, VOCABULARY, logits, write_package

from embbert_tvm.device.package import load_package, load_vectors
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError, WorkError

PLACES = ["host", "qemu", "qemu:mps2_an500"]
STRICT = ("-Werror", "-pedantic")


@pytest.mark.parametrize("place", PLACES)
def test_gives_the_reference_bits(toy, place):
    with open_place(place, toy) as device:
        for vector in load_vectors(toy):
            assert np.array_equal(device.run(vector.ids).logits.view("u4"), vector.logits.view("u4"))
        assert np.array_equal(device.run([7, 8, 9]).logits, logits([7, 8, 9]))


@pytest.mark.parametrize("place", ["host", "qemu"])
def test_info(toy, place):
    with open_place(place, toy) as device:
        info = device.info()
    assert (info.max_length, info.classes, info.vocabulary) == (MAX_LENGTH, len(LABELS), VOCABULARY)
    assert info.arena_bytes == toy.arena_bytes
    assert info.counts == (place == "qemu")


@pytest.mark.parametrize("place", ["host", "qemu"])
def test_the_c_is_clean_under_strict_flags(toy, place):
    with open_place(place, toy, flags=STRICT) as device:
        assert np.array_equal(device.run([3]).logits, logits([3]))


def test_the_c_is_clean_under_the_sanitizers(toy):
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-static-libasan")
    with open_place("host", toy, flags=flags) as device:
        for n in range(1, MAX_LENGTH + 1):
            assert np.array_equal(device.run(range(n)).logits, logits(list(range(n))))


@pytest.mark.parametrize("ids", [[], [1] * (MAX_LENGTH + 1), [-1], [65536]])
def test_refuses_ids_that_cannot_be_sent(toy, ids):
    with open_place("host", toy) as device, pytest.raises(InputError):
        device.run(ids)


@pytest.mark.parametrize("place", ["host", "qemu"])
def test_a_refusal_names_the_status_and_the_device_lives_on(toy, place):
    with open_place(place, toy) as device:
        with pytest.raises(WorkError, match="EMBBERT_E_TOKEN"):
            device.run([VOCABULARY])
        assert np.array_equal(device.run([5]).logits, logits([5]))


@pytest.mark.parametrize(("place", "message"), [("host", "SIGSEGV"), ("qemu", r"faulted at 0x0000.* \(cause 0x")])
def test_a_fault_is_reported(toy, place, message):
    with open_place(place, toy) as device, pytest.raises(WorkError, match=message):
        device.run([FAULT])


@pytest.mark.parametrize(("place", "message"), [("host", "SIGSEGV"), ("qemu", "stack ran over|faulted")])
def test_a_stack_that_runs_over_is_reported(toy, place, message):
    with open_place(place, toy) as device, pytest.raises(WorkError, match=message):
        device.run([DEEP])


@pytest.mark.parametrize("place", ["host", "qemu"])
def test_a_device_that_hangs_is_stopped_in_time(toy, place):
    open_place(place, toy).close()  # compiled
    with open_place(place, toy, timeout=3) as device:
        pid = device._link.pid
        start = time.monotonic()
        with pytest.raises(WorkError, match="did not answer in 3 s"):
            device.run([HANG])
        assert time.monotonic() - start < 5
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("moon", "unknown place 'moon': known are host"),
        ("qemu:", "unknown place"),
        ("host:x", "unknown place"),
        ("qemu:moon", "unknown board 'moon': known are .*mps2_an500"),
        ("serial:", "unknown place"),
    ],
)
def test_refuses_unknown_places(toy, place, message):
    with pytest.raises(InputError, match=message):
        open_place(place, toy)


def test_a_package_for_the_host_has_no_board_in_qemu(tmp_path):
    package = load_package(write_package(tmp_path / "p", target="host"))
    with pytest.raises(InputError, match="--on host"):
        open_place("qemu", package)


def test_another_models_firmware_is_noticed(tmp_path):
    package = load_package(write_package(tmp_path / "p", max_length=15))
    with pytest.raises(WorkError, match="another model"):
        open_place("host", package)


def test_c_that_does_not_compile_is_a_work_error_and_leaves_nothing(tmp_path):
    package = load_package(write_package(tmp_path / "p", model=MODEL + "int broken(void) { return x; }\n"))
    with pytest.raises(WorkError, match=r"could not make model\.c: .*error: .*x"):
        open_place("host", package)
    assert list((tmp_path / "p/build/host").iterdir()) == []


def test_an_image_too_big_for_the_board_says_by_how_much(tmp_path):
    package = load_package(write_package(tmp_path / "p"))
    (tmp_path / "p/codegen/host/include/embbert.h").write_text(
        (tmp_path / "p/codegen/host/include/embbert.h").read_text().replace("BYTES 64u", "BYTES 5000000u")
    )
    with pytest.raises(WorkError, match=r"does not fit: RAM is \d+ bytes too small"):
        open_place("qemu", package)


def test_compiles_once_and_again_when_a_source_changes(tmp_path):
    package = load_package(write_package(tmp_path / "p"))

    def built():
        open_place("host", package).close()
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "p/build/host").glob("*/firmware.elf")}

    first = built()
    assert built() == first
    source = package.sources[0]
    source.write_text(source.read_text() + "\n")
    assert len(built()) == 2


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("host", "gcc is not installed.*apt-get install gcc"),
        ("qemu", "(arm-none-eabi-gcc|qemu-system-arm) is not installed.*apt-get install"),
    ],
)
def test_a_missing_toolchain_names_its_package(tmp_path, monkeypatch, place, message):
    package = load_package(write_package(tmp_path / "p"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=message):
        open_place(place, package)


KILLED = """
import sys, time
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
print(open_place(sys.argv[2], load_package(sys.argv[1]))._link.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux alone")
@pytest.mark.parametrize("place", ["host", "qemu"])
def test_a_killed_program_leaves_no_device_behind(toy, place):
    program = subprocess.Popen([sys.executable, "-c", KILLED, toy.path, place], stdout=subprocess.PIPE, text=True)
    pid = int(program.stdout.readline())
    program.kill()
    program.communicate()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and _state(pid) != "Z" and time.monotonic() < deadline:
        time.sleep(0.02)
    # Where nothing adopts orphans, one that has ended stays in the table as a zombie.
    assert not Path(f"/proc/{pid}").exists() or _state(pid) == "Z"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return "gone"


def test_a_function_that_is_missing_is_named(tmp_path):
    model = "extern int elsewhere(void);\n" + MODEL.replace("(void)n;", "(void)n, elsewhere();")
    package = load_package(write_package(tmp_path / "p", model=model))
    with pytest.raises(WorkError, match="undefined reference to `elsewhere'"):
        open_place("host", package)
