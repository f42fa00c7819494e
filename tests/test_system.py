"""requirements/system.sh on machines that lack things, made of stubs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "requirements" / "system.sh"
NEEDS = [
    "gcc=gcc",
    "gcc:libc.so=libc6-dev",
    "python3:venv=python3-venv",
    "qemu-none=qemu-system-arm",
    "q=qemu-system-arm",
]


@pytest.fixture
def machine(tmp_path):
    """Run the script with only these programs: stubs given as shell, and what the shell itself needs."""

    def run(needs: list[str], **stubs: str) -> subprocess.CompletedProcess[str]:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in ("sh", "env", "mktemp", "grep", "tail", "rm", "cat"):
            (folder / name).symlink_to(shutil.which(name))
        for name, body in ({"id": "echo 1000"} | stubs).items():
            (folder / name.replace("_", "-")).write_text(f"#!/bin/sh\n{body}\n")
            (folder / name.replace("_", "-")).chmod(0o755)
        return subprocess.run(
            [shutil.which("sh"), SCRIPT, *needs], env={"PATH": str(folder)}, capture_output=True, text=True
        )

    return run


def test_says_nothing_where_all_is_there(machine):
    done = machine(NEEDS[:3], gcc="echo /lib/libc.so", python3="exit 0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_names_each_package_once_in_one_line(machine):
    done = machine(NEEDS, gcc="echo libc.so", python3="exit 1", apt_get="exit 0")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("apt-get install libc6-dev python3-venv qemu-system-arm\n")


def test_without_apt(machine):
    done = machine(NEEDS)
    assert done.returncode == 1
    assert done.stderr.startswith("missing: gcc libc6-dev python3-venv qemu-system-arm (Debian's names)")


@pytest.mark.parametrize(
    "stubs", [{"id": "echo 0"}, {"sudo": '[ "$1" = -n ] && exit 0; echo sudo >>"$0.log"; exec "$@"'}]
)
def test_installs_as_root_or_with_sudo(machine, tmp_path, stubs):
    done = machine(["q=qemu-system-arm"], apt_get='echo "$@" >>"$0.log"', **stubs)
    assert (done.returncode, done.stdout, done.stderr) == (0, "installing qemu-system-arm\n", "")
    called = (tmp_path / "bin/apt-get.log").read_text().splitlines()
    assert called == ["update -qq", "install -qq -y --no-install-recommends qemu-system-arm"]
    assert (tmp_path / "bin/sudo.log").exists() == ("sudo" in stubs)


def test_a_failing_apt_is_one_line(machine):
    done = machine(["q=qemu-system-arm"], id="echo 0", apt_get="echo some noise; echo 'E: no network'; exit 100")
    assert done.returncode == 1
    assert done.stderr == "apt-get could not install qemu-system-arm: E: no network\n"
