"""A farm: boards behind TVM's RPC tracker and servers, and the places that `tune` makes of them.

On the wire is TVM's RPC alone: an image is uploaded, and the functions that a server registers here are called.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embbert_tvm.errors import EmbbertError, InputError, WorkError
from embbert_tvm.target import load_board
from embbert_tvm.tuning.measure import TIMEOUT, Place, QemuPlace, Reading, SerialPlace

_OPEN, _RUN, _CLOSE = "embbert.tuning.open", "embbert.tuning.run", "embbert.tuning.close"


def address(text: str, option: str = "--tracker") -> tuple[str, int]:
    """HOST:PORT; InputError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"{option} {text}: must be HOST:PORT")
    return host, int(port)


def _register(board: str, serial: str | None, flash: str | None) -> None:
    """In a server's process: the functions that clients call, on the board of that name or file."""
    from tvm import register_global_func

    place: Place = QemuPlace(load_board(board)) if serial is None else SerialPlace(serial, flash or "")
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

    for name, function in ((_OPEN, open_), (_RUN, run), (_CLOSE, close)):
        register_global_func(name, function, override=True)


def serve(tracker: str, board: str, key: str | None = None, serial: str | None = None, flash: str | None = None):
    """Start a server that puts a board behind a tracker; the tvm.rpc.Server. Its name there is `key`, or the board's.

    serial, flash: as of measure.SerialPlace; without them QEMU emulates the board. Raises InputError for a board that
    cannot be served.
    """
    from tvm import rpc

    known = load_board(board)
    if serial is None and known.qemu is None:
        raise InputError(f"QEMU does not emulate {known.name}: give --serial PORT and --flash COMMAND")
    if serial is not None and not flash:
        raise InputError("--serial: needs --flash COMMAND, which puts {image} on the board")
    where = board if board == known.name else str(Path(board).resolve())
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    return rpc.Server(
        host="0.0.0.0",
        port=9190,
        port_end=9999,
        key=key or known.name,
        tracker_addr=address(tracker),
        server_init_callback=functools.partial(_register, where, serial, flash),
        silent=True,
    )


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

    host, port = address(tracker)
    try:
        summary = rpc.connect_tracker(host, port).summary()
    except Exception as error:  # of whatever kind TVM's RPC raises
        raise InputError(f"--tracker {tracker}: no tracker answers there") from error
    servers = [s for s in summary["server_info"] if s["key"] == f"server:{key}"]
    if not servers:
        others = sorted({s["key"].removeprefix("server:") for s in summary["server_info"]})
        raise InputError(f"--key {key}: the tracker knows no such server, but {', '.join(others) or 'none'}")
    return [FarmPlace(tracker, key, n) for n in range(len(servers))]
