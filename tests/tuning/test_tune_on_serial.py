"""A board behind a serial port: QEMU on a pseudo-terminal, which each call of the flash command starts anew.

QEMU's DWT stands still, so that what comes for cycles is SysTick's count, as of a core without a DWT.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from embbert_tvm.target import load_board
from tests import small

pytest.importorskip("xgboost")
BOARD = load_board("mps2_an500")

FLASH = """
import os, re, signal, subprocess, sys
from pathlib import Path

image, port = sys.argv[1:]
pid = Path(port + ".pid")
if pid.exists():
    os.kill(int(pid.read_text()), signal.SIGKILL)
command = ["{qemu}", "-M", "{machine}", "-display", "none", "-monitor", "none", "-serial", "pty", "-kernel", image]
qemu = subprocess.Popen([*command, "-icount", "shift=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
pid.write_text(str(qemu.pid))
link = Path(port + ".new")
link.symlink_to(re.search(r"/dev/pts/[0-9]+", qemu.stdout.readline())[0])
link.replace(port)
with open(port + ".flashed", "a") as log:
    print(image, file=log)
"""


@pytest.fixture
def board(tmp_path):
    """(port, flash command)"""
    script, port = tmp_path / "flash.py", tmp_path / "port"
    script.write_text(FLASH.format(qemu=BOARD.qemu.program, machine=BOARD.qemu.machine))
    yield port, f"{sys.executable} {script} {{image}} {port}"
    pid = Path(f"{port}.pid")
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    body = "x = Gather(emb__weight, ids)\nlogits = ReduceMax <keepdims = 0> (x, rows)"
    weights = {"emb__weight": small.normal(40, 32), "rows": small.np.array([1])}
    Path("toy.onnx").write_bytes(small.classifier(body, **weights).SerializeToString())
    return "toy.onnx", "--target", BOARD.name, "--precision", "fp32", "--length", 16


@pytest.mark.skipif(shutil.which(BOARD.qemu.program) is None, reason="no QEMU")
def test_tune_flashes_a_board_and_asks_it_for_cycles(model, board, cli):
    port, flash = board
    place = ("--on", f"serial:{port}", "--flash", flash)
    done = cli("tune", *model, *place, "--trials", 3, "--json")
    assert done.status == 0, done.err
    found = done.json
    assert (found["objective"], found["runner"], found["trials"], found["failures"]) == ("cycles", "serial", 3, 0)
    assert found["log"] == f"schedules/{BOARD.name}/toy-fp32"
    flashed = Path(f"{port}.flashed").read_text().splitlines()
    assert len(flashed) >= 2
    records = Path(found["log"], "database_tuning_record.json").read_text().splitlines()
    seconds = [json.loads(line)[1][1][0] for line in records]
    assert all(0 < s < 1 for s in seconds)
    kernels = [k for k in found["kernels"].values() if k["trials"]]
    assert sum(k["trials"] for k in kernels) == 3
    # A SysTick tick is so many instructions: what an untuned kernel takes by it, it takes by QEMU's own count.
    (tuned,) = (
        k for k in cli("tune", *model, "--trials", 1, "-o", "by-qemu", "--json").json["kernels"].values() if k["trials"]
    )
    (same,) = (k for k in found["kernels"].values() if k["name"] == tuned["name"])
    assert same["before"] * BOARD.qemu.instructions_per_tick == pytest.approx(tuned["before"], rel=0.05)


@pytest.mark.parametrize(
    ("place", "flash", "status", "words"),
    [
        ("serial:/dev/ttyNONE9", "true {image}", 2, "/dev/ttyNONE9: cannot be opened"),
        ("serial:/dev/ttyNONE9", "false {image}", 1, "--flash: false failed: 1"),
        ("serial:/dev/ttyNONE9", "true", 2, "has no {image}"),
        ("serial:/dev/ttyNONE9", "it's {image}", 2, "is not a command line (no closing quotation)"),
        ("serial:/dev/ttyNONE9", "no-such-flasher {image}", 2, "--flash: no-such-flasher cannot be run"),
    ],
)
def test_a_board_that_cannot_be_had(model, cli, place, flash, status, words):
    done = cli("tune", *model, "--on", place, "--flash", flash, "--trials", 1)
    assert done.status == status
    (line,) = done.err.splitlines()
    assert words in line
    assert not Path("schedules", BOARD.name).is_dir() or not list(Path("schedules", BOARD.name).iterdir())
