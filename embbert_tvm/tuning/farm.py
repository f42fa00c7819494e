"""A farm: boards behind TVM's RPC tracker and servers, and the places that `tune` makes of them.

On the wire is TVM's RPC alone: an image is uploaded, and the functions that a server registers here are called.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embbert_tvm.errors import EmbbertError, InputError, WorkError
from embbert_tvm.graph.tvm_workarounds import import_tvm_without_extras
from embbert_tvm.target import Board, load_board
from embbert_tvm.tuning.measure import TIMEOUT, Place, QemuPlace, Reading, SerialPlace

_OPEN, _RUN, _CLOSE = "embbert.tuning.open", "embbert.tuning.run", "embbert.tuning.close"
LOOPBACK = "127.0.0.1"
_REACH_SECONDS = 2.0  # seconds for a tracker to answer


def address(text: str, option: str = "--tracker") -> tuple[str, int]:
    """HOST:PORT; InputError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"{option} {text}: must be HOST:PORT")
    return host, int(port)


def _register(board: Board, serial: str | None, flash: str | None) -> None:
    """Register the functions that clients call, in a server's process."""
    from tvm import register_global_func

    place: Place = QemuPlace(board) if serial is None else SerialPlace(serial, flash or "")
    sessions: dict[str, Any] = {}

    def run(number: int) -> str:
        return json.dumps(asdict(sessions["now"].run(number)))

    def close() -> None:
        if "now" in sessions:
            sessions.pop("now").close()

    def open_(name: str) -> str:
        from tvm import get_global_func

        close()
        try:
            sessions["now"] = place.open(Path(get_global_func("tvm.rpc.server.workpath")(name)))
        except EmbbertError as error:
            return str(error)
        return ""

    # A session is a fork, and TVM ends one that takes too long by SIGTERM, which a command line may have made its own.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    for name, function in ((_OPEN, open_), (_RUN, run), (_CLOSE, close)):
        register_global_func(name, function, override=True)


def _serve_in_thread(start: Callable[[], Any]) -> Any:
    """A server of TVM's that works in threads of this process: tvm.rpc's own classes start a second process, which
    imports TVM once more. Its threads end with the process."""
    made: queue.Queue = queue.Queue()

    def run() -> None:
        try:
            made.put(start())
        except (OSError, ValueError) as error:
            made.put(error)

    # A thread that a daemon starts is one too.
    threading.Thread(target=run, daemon=True).start()
    state = made.get()
    if isinstance(state, Exception):
        raise InputError(f"cannot listen there: {state}") from state
    return state


def track(host: str, port: int):
    """Start a tracker; its `thread` goes on until the process ends. Raises InputError where it cannot listen."""
    import_tvm_without_extras()
    from tvm.rpc.tracker import PopenTrackerServerState

    return _serve_in_thread(lambda: PopenTrackerServerState(host, port=port, port_end=port + 1, silent=True))


def serve(
    tracker: str,
    board: str,
    key: str | None = None,
    serial: str | None = None,
    flash: str | None = None,
    host: str = LOOPBACK,
):
    """Start a server that puts a board behind a tracker; its `thread` goes on until the process ends, `port` is where
    it listens. Its name at the tracker is `key`, or the board's.

    host: the address to listen at. Whoever reaches it can upload and run code here: TVM's RPC knows no password.
    serial, flash: as of measure.SerialPlace; without them QEMU emulates the board. Raises InputError for a board that
    cannot be served, and where no tracker answers.
    """
    known, where = load_board(board), address(tracker)
    if serial is None and known.qemu is None:
        raise InputError(f"QEMU does not emulate {known.name}: give --serial PORT and --flash COMMAND")
    if serial is not None and not flash:
        raise InputError("--serial: needs --flash COMMAND, which puts {image} on the board")
    if serial is None and flash:
        raise InputError("--flash: is of a board behind --serial PORT")
    check_reachable(tracker)
    import_tvm_without_extras()
    from tvm.rpc.server import PopenRPCServerState

    _register(known, serial, flash)
    options = {"port": 9190, "port_end": 9999, "key": key or known.name, "tracker_addr": where, "silent": True}
    # With SO_REUSEADDR two servers that start together could bind one port, and the second then fail to listen.
    return _serve_in_thread(lambda: PopenRPCServerState(host, **options, reuse_addr=False))


def check_reachable(tracker: str) -> None:
    """InputError where nobody listens, for which TVM waits a minute."""
    try:
        socket.create_connection(address(tracker), timeout=_REACH_SECONDS).close()
    except OSError as error:
        words = str(error.strerror or error).lower()
        raise InputError(f"--tracker {tracker}: no tracker answers there ({words}): start `farm tracker`") from error


class _RemoteSession:
    def __init__(self, remote: Any) -> None:
        self._remote = remote
        self._run = remote.get_function(_RUN)

    def run(self, number: int) -> Reading:
        try:
            return Reading(**json.loads(self._run(number)))
        except Exception as error:  # of whatever kind TVM's RPC raises
            return Reading(error=f"its server was lost: {str(error).strip().splitlines()[-1]}", lost=True)

    def close(self) -> None:
        try:
            self._remote.get_function(_CLOSE)()
        except Exception:  # a server that is gone has nothing to close
            return


@dataclass(frozen=True)
class FarmPlace:
    """Whichever board of a key the tracker has free, one at a time."""

    tracker: str
    key: str
    number: int
    timeout: float = TIMEOUT

    @property
    def name(self) -> str:
        return f"rpc:{self.key}/{self.number}"

    def open(self, image: Path) -> _RemoteSession:
        from tvm import rpc

        host, port = address(self.tracker)
        try:
            check_reachable(self.tracker)
            session = rpc.connect_tracker(host, port)
            remote = session.request(self.key, session_timeout=600, max_retry=5)
            remote.upload(str(image), image.name)
            trouble = str(remote.get_function(_OPEN)(image.name))
        except Exception as error:  # of whatever kind TVM's RPC raises
            words = str(error).strip().splitlines()[-1]
            raise WorkError(f"{self.name}: no board of the farm could be had: {words}") from error
        if trouble:
            raise WorkError(f"{self.name}: {trouble}")
        return _RemoteSession(remote)


def farm_places(tracker: str, key: str) -> Sequence[FarmPlace]:
    """A place for each server of that key that the tracker knows; InputError where there is none."""
    from tvm import rpc

    check_reachable(tracker)
    host, port = address(tracker)
    try:
        summary = rpc.connect_tracker(host, port).summary()
    except Exception as error:  # of whatever kind TVM's RPC raises
        raise InputError(f"--tracker {tracker}: what listens there is not a tracker") from error
    servers = [s for s in summary["server_info"] if s["key"] == f"server:{key}"]
    if not servers:
        others = sorted({s["key"].removeprefix("server:") for s in summary["server_info"]})
        raise InputError(f"--key {key}: the tracker knows no such server, but {', '.join(others) or 'none'}")
    return [FarmPlace(tracker, key, n) for n in range(len(servers))]
