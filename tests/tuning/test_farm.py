"""A tracker and three servers on loopback, one of which dies while trials go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embbert_tvm.errors import InputError
from embbert_tvm.tuning import farm

pytest.importorskip("tornado")
psutil = pytest.importorskip("psutil")
ROOT = Path(farm.__file__).resolve().parents[2]


@pytest.mark.parametrize("text", ["9190", "host:", ":1", "host:0", "host:99999", "host:port"])
def test_an_address_is_host_and_port(text):
    with pytest.raises(InputError, match="must be HOST:PORT"):
        farm.address(text)


def test_a_tracker_that_is_not_there():
    with pytest.raises(InputError, match="no tracker answers"):
        farm.farm_places("127.0.0.1:9", "mps2_an500")


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = "from embbert_tvm.cli import main; main()"
    command = [sys.executable, "-c", code, "farm", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def end(process):
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()


def test_three_servers_one_killed(tmp_path):
    from embbert_tvm.codegen.lower import schedule
    from embbert_tvm.compiler import find_source, kernel_calls
    from embbert_tvm.target import load_board, load_cpu
    from embbert_tvm.tuning.bench import Bench, candidate
    from embbert_tvm.tuning.search import _Pool
    from embbert_tvm.tuning.task import find_tasks
    from tests import small

    cpu, board = load_cpu("cortex-m7"), load_board("mps2_an500")
    mod, described = kernel_calls(find_source(small.folder()), cpu)
    task = next(t for t in find_tasks(mod, described, list(range(2, 34))) if t.name.startswith("blocked_layer"))
    bench = Bench(task, cpu, board, tmp_path / "bench")
    made = [candidate(task, schedule(task.func), n, cpu.features) for n in range(2)]
    image = bench.link(made, [bench.compile(c) for c in made])

    tracker = start("tracker", "--port", "19190")
    servers = []
    try:
        assert "19190" in tracker.stderr.readline()
        servers = [start("serve", "--tracker", "127.0.0.1:19190", "--board", "mps2_an500") for _ in range(3)]
        for server in servers:
            assert "serves at port" in server.stderr.readline()
        places = wait_for(3)
        stream = _Pool(places).stream(iter([(image, [2 * n, 2 * n + 1]) for n in range(12)]))
        found = [next(stream)]
        end(servers.pop())
        found += list(stream)
        assert sorted(index for index, _ in found) == list(range(24))
        counts = {reading.instructions for _, reading in found if reading.error is None}
        assert len(counts) <= 2
        assert sum(reading.error is not None for _, reading in found) <= 1
    finally:
        for process in (*servers, tracker):
            end(process)


def wait_for(count):
    deadline = time.monotonic() + 60
    while True:
        places = farm.farm_places("127.0.0.1:19190", "mps2_an500")
        if len(places) == count:
            return places
        assert time.monotonic() < deadline
        time.sleep(0.5)
