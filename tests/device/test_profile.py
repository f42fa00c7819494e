"""Instructions step by step, on the toy package: a step of known length, and a firmware that cannot tell."""

from __future__ import annotations

import pytest
from toy import LOOP, STEPS, VOCABULARY, write_package

from embbert_tvm.device import protocol
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.device.profile import profile, synthetic_ids
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.target import load_board

FLAGS = (f"-DEMBBERT_PROFILE={len(STEPS)}", "-Werror", "-pedantic")


@pytest.fixture(scope="module")
def device(toy):
    with open_place("qemu", toy, flags=FLAGS) as opened:
        yield opened


def test_the_step_that_works_is_the_one_that_counts(device):
    idle, busy = device.profile([LOOP, 1, 0]), device.profile([LOOP, 500, 11])
    rate = load_board("mps2_an500").qemu.instructions_per_tick
    assert busy[0] - idle[0] == pytest.approx(2 * (500 << 11), abs=2 * rate)
    assert busy[1] == pytest.approx(idle[1], abs=rate)


def test_steps_add_up_to_the_run(device):
    assert sum(device.profile([LOOP, 99, 9])) == pytest.approx(device.run([LOOP, 99, 9]).instructions, abs=200)


def test_wrong_requests_are_refused(device):
    with pytest.raises(WorkError, match="EMBBERT_E_TOKEN"):
        device.profile([VOCABULARY])
    with pytest.raises(InputError, match="takes 1 to 16"):
        device.profile([1] * 17)
    with pytest.raises(WorkError, match="wrong length"):
        device._request(protocol.PROFILE, b"odd", 5)


def test_a_firmware_that_is_not_built_for_it_says_so(toy):
    with open_place("qemu", toy) as plain, pytest.raises(WorkError, match="type that it does not know"):
        plain.profile([1])


def test_the_host_counts_nothing(toy):
    with pytest.raises(InputError, match="the host counts no instructions"):
        profile(toy, "host", [4])


def test_synthetic_ids_are_the_same_each_time_and_all_over_the_vocabulary(toy):
    ids = synthetic_ids(toy, 200)
    assert ids == synthetic_ids(toy, 200)
    assert len(set(ids)) == 200
    assert 0 <= min(ids) < 20
    assert VOCABULARY - 20 < max(ids) < VOCABULARY


def test_a_short_reply_is_another_models():
    with pytest.raises(WorkError, match="another model"):
        protocol.unpack_profile(bytes(20), 3)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (None, "steps: is missing"),
        ([5], r"steps\[0\]: must have a name"),
        ([{"name": "a", "kernel": "b", "macs": [1, 2]}], r"steps\[0\]\.macs: must be null or three"),
        ([{"name": "a", "kernel": "b", "macs": [1, 2, True]}], r"steps\[0\]\.macs"),
    ],
)
def test_malformed_steps(tmp_path, steps, message):
    write_package(tmp_path / "p", steps=steps)
    with pytest.raises(InputError, match=message):
        load_package(tmp_path / "p")


def test_a_package_without_steps(tmp_path):
    package = load_package(write_package(tmp_path / "p", steps=[]))
    with pytest.raises(InputError, match="no steps"):
        profile(package, "qemu", [4])
