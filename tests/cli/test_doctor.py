"""embbert-tvm doctor."""

from __future__ import annotations

import pytest


def test_this_machine_can_deploy(cli):
    result = cli("doctor", "--json")
    assert result.status == 0
    assert result.json["ok"] is True
    found = {check["name"]: check["found"] for check in result.json["checks"]}
    assert found["apache-tvm"] == "0.27.0.post1"
    for name in ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        assert found[name][0].isdigit()


def test_lines_align(cli):
    result = cli("doctor")
    assert all(line.startswith(("ok", "absent")) for line in result.out.splitlines())


def test_what_is_missing_is_named_with_its_package(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = cli("doctor", "--json")
    assert result.status == 1
    missing = {check["name"]: check["get"] for check in result.json["checks"] if not check["found"]}
    assert missing["arm-none-eabi-gcc"] == "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"
    assert missing["qemu-system-arm"] == "apt-get install qemu-system-arm"
    assert result.err.count("\n") == 1
    assert "missing" in result.err


@pytest.mark.parametrize(("torch", "ffi", "status"), [(None, "0.1.14.post1", 0), ("2.13.0", "0.1.15", 1)])
def test_versions(cli, monkeypatch, torch, ffi, status):
    from embbert_tvm.device import doctor

    known = doctor.metadata.version

    def version(name: str) -> str:
        found = {"torch": torch, "apache-tvm-ffi": ffi}.get(name, "") or (known(name) if name != "torch" else None)
        if found is None:
            raise doctor.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(doctor.metadata, "version", version)
    result = cli("doctor")
    assert result.status == status
    assert ("0.1.15 is the wrong version: pip install apache-tvm-ffi==0.1.14.post1" in result.out) == bool(status)
    assert ("absent   torch" in result.out) == (torch is None)
