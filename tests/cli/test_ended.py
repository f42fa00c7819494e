"""A command that is told to end leaves nothing half-written."""

import signal
import subprocess
import sys
import time

import pytest
import small

from embbert_tvm.device.package import load_package


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_compile_that_is_ended(tmp_path, number):
    command = [sys.executable, "-m", "embbert_tvm", "compile", str(small.folder()), "-o", str(tmp_path / "package")]
    # A shell has what it starts in the background ignore SIGINT, and all that this starts.
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 60
        while not any(tmp_path.iterdir()) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert running.poll() is None
        running.send_signal(number)
        out, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode != 0
    assert out == ""
    # On a busy machine the package may be in its place, whole, before the signal arrives.
    assert [path.name for path in tmp_path.iterdir()] in ([], ["package"])
    if (tmp_path / "package").exists():
        assert load_package(tmp_path / "package").steps
