"""A tracker and three servers on loopback, one of which dies while trials go on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from embbert_tvm.codegen.lower import schedule
from embbert_tvm.errors import InputError
from embbert_tvm.target import load_board, load_cpu
from embbert_tvm.tuning import farm
from embbert_tvm.tuning.bench import Bench, candidate
from embbert_tvm.tuning.pool import Pool
from tests.tuning.rounding import rounding_task

pytest.importorskip("tornado")
psutil = pytest.importorskip("psutil")
ROOT = Path(farm.__file__).resolve().parents[2]


@pytest.mark.parametrize("text", ["9190", "host:", ":1", "host:0", "host:99999", "host:port"])
def test_an_address_is_host_and_port(text):
    with pytest.raises(InputError, match="must be HOST:PORT"):
        farm.address(text)


def test_a_tracker_that_is_not_there():
    for ask in (farm.farm_places, farm.serve):
        with pytest.raises(InputError, match=r"127.0.0.1:9: no tracker answers there \(connection refused\)"):
            ask("127.0.0.1:9", "mps2_an500")


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="cannot listen there"):
        farm.track("127.0.0.1", taken.getsockname()[1])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def bound(port):
    """The socket of a server that has bound its port and does not listen yet; nothing new where the port is taken."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with suppress(OSError):
        found.bind(("0.0.0.0", port))
    return found


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = "from embbert_tvm.cli import main; main()"
    command = [sys.executable, "-c", code, "farm", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def end(process):
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one that ended in between
            child.kill()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()


def test_three_servers_one_killed(tmp_path):
    tracker = start("tracker", "--port", str(port := free_port()))
    servers = []
    starting = bound(9190)
    try:
        cpu, board, task = load_cpu("cortex-m7"), load_board("mps2_an500"), rounding_task()
        bench = Bench(task, cpu, board, tmp_path / "bench")
        made = [candidate(task, schedule(task.func), n, cpu.features) for n in range(2)]
        image = bench.link(made, [bench.compile(c) for c in made])
        assert str(port) in tracker.stderr.readline()
        serve = ("serve", "--tracker", f"127.0.0.1:{port}", "--board", "mps2_an500")
        servers = [start(*serve) for _ in range(3)]
        for server in servers:
            line = server.stderr.readline()
            assert "serves at port" in line
            assert "9190" not in line
        places = wait_for(3, port)
        stream = Pool(places).stream(iter([(image, [2 * n, 2 * n + 1]) for n in range(12)]))
        found = [next(stream)]
        end(servers.pop())
        found += list(stream)
        assert sorted(index for index, _ in found) == list(range(24))
        assert len({reading.instructions for _, reading in found if reading.error is None}) <= 2
        assert sum(reading.error is not None for _, reading in found) <= 1
    finally:
        starting.close()
        for process in (*servers, tracker):
            end(process)


def wait_for(count, port):
    deadline = time.monotonic() + 60
    while True:
        places = farm.farm_places(f"127.0.0.1:{port}", "mps2_an500")
        if len(places) == count:
            return places
        assert time.monotonic() < deadline
        time.sleep(0.2)
