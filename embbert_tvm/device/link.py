"""Bytes to and from a program that this process starts: its pipes, with deadlines, and its end in every case."""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time

from embbert_tvm.errors import WorkError

_PR_SET_PDEATHSIG = 1


class ProcessLink:
    """A running program: `write` goes to its stdin, `read` comes from its stdout; `close` always ends it."""

    def __init__(self, command: list[str], name: str) -> None:
        """`name` is what messages call the program."""
        self._name = name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (close() closes it)
        prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
                # Should this process be killed, the kernel ends the program: it would run on without its pipes.
                preexec_fn=prctl and (lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)),
            )
        except OSError as error:
            self._stderr.close()
            raise WorkError(f"{name}: cannot be started ({error.strerror})") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        return self._process.pid

    def write(self, data: bytes) -> None:
        """Send all of `data`, which must be less than a pipe holds (64 KiB) as nothing waits here."""
        try:
            self._stdin.write(data)
        except OSError as error:
            raise self._gone() from error

    def read(self, deadline: float) -> bytes:
        """What has come, at least one byte; b"" once `deadline` (of time.monotonic()) has passed."""
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not self._selector.select(remaining):
            return b""
        data = os.read(self._stdout.fileno(), 65536)
        if not data:
            raise self._gone()
        return data

    def close(self) -> None:
        """End the program and wait until it has ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._selector.close()
        for stream in (self._stdin, self._stdout, self._stderr):
            with contextlib.suppress(OSError):
                stream.close()

    def _gone(self) -> WorkError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        code = self._process.returncode
        how = signal.Signals(-code).name if code is not None and code < 0 else f"status {code}"
        return WorkError(f"{self._name} ended before it answered ({how}){said}")
