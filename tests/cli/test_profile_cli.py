"""embbert-tvm profile."""

from __future__ import annotations

import pytest


def test_json(cli, toy_package):
    result = cli("profile", toy_package, "--on", "qemu:mps2_an500", "--length", "4,16", "--json")
    assert (result.status, result.err) == (0, "")
    assert (result.json["target"], result.json["on"]) == ("cortex-m7", "qemu:mps2_an500")
    assert 0 < result.json["stack_bytes"] < 1024
    short, long = result.json["lengths"]
    assert (short["length"], long["length"]) == (4, 16)
    assert 0 < short["total_instructions"] < long["total_instructions"] < 10_000
    assert long["total_cycles"] is long["total_macs"] is None  # the first step's are not known
    loops, sums = long["layers"]
    assert (loops["name"], loops["kernel"], loops["macs"]) == ("loops", "loop", None)
    assert (sums["name"], sums["macs"]) == ("sums", 3 * 16)
    assert loops["share"] + sums["share"] == pytest.approx(1)
    assert sums["instructions"] > loops["instructions"]


def test_table(cli, toy_package):
    result = cli("profile", toy_package)
    assert result.status == 0
    title, head, *rows = result.out.splitlines()
    assert title == "toy, int8 for cortex-m7, on qemu:mps2_an500: instructions"
    assert head.split() == ["step", "kernel", "L=12", "share", "MAC", "MAC/instr"]  # it takes no more than 16
    assert [row.split()[0] for row in rows[:3]] == ["loops", "sums", "all"]
    assert rows[4].endswith("QEMU counts instructions, not cycles.")


def test_cycles_by_model(cli, toy_package):
    result = cli("profile", toy_package, "--length", "4", "--cycles", "--json")
    assert (result.status, result.err) == (0, "")
    (weighed,) = result.json["cycles"]
    assert (weighed["target"], weighed["length"]) == ("cortex-m7", 4)
    assert {"llvm-mca", "dual-measured", "dual-ports", "worst"} == set(weighed["cycles"])
    assert weighed["cycles"]["worst"] >= max(weighed["cycles"].values())
    shown = cli("profile", toy_package, "--length", "4", "--cycles").out
    assert "Estimated cycles at L=4" in shown
    assert "worst" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--length", "4,x"], "--length 4,x: must be whole numbers"),
        (["--length", "0"], "length 0: "),
        (["--length", "17"], "takes 1 to 16 tokens"),
        (["--on", "host"], "the host counts no instructions"),
        (["--on", "moon"], "unknown place 'moon'"),
    ],
)
def test_bad_input(cli, toy_package, arguments, message):
    result = cli("profile", toy_package, *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1
