"""A command that is told to end leaves nothing half-written."""

import signal
import subprocess
import sys
import time

import pytest
import small


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_compile_that_is_ended(tmp_path, number):
    """While it works, as the module that its first phase dumps tells."""
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-m", "embbert_tvm", "compile", str(small.folder()), "-o", str(tmp_path / "out" / "p")]
    command += ["--dump-ir", str(tmp_path / "ir")]
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
        while not list(tmp_path.glob("ir/*")) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert running.poll() is None
        running.send_signal(number)
        out, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode != 0
    assert out == ""
    assert list((tmp_path / "out").iterdir()) == []
