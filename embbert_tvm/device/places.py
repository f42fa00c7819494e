"""Where a package can run, by the names that `--on` takes."""

from __future__ import annotations

from collections.abc import Sequence

from embbert_tvm.device.device import Device
from embbert_tvm.device.host import open_host
from embbert_tvm.device.package import Package
from embbert_tvm.device.qemu import open_qemu
from embbert_tvm.device.serial_port import open_serial
from embbert_tvm.errors import InputError


def open_place(place: str, package: Package, timeout: float | None = None, flags: Sequence[str] = ()) -> Device:
    """A device in `place` that holds `package`: `host`, `qemu` (the board of its CPU), `qemu:BOARD`, or what is at a
    serial port, `serial:PORT` or `serial:PORT@BAUD`.

        with open_place("qemu", package) as device:
            device.run([2, 17, 4]).logits

    Compiles what is not compiled yet, with `flags` added; the firmware behind a serial port is as it is. `timeout` is
    seconds a request. Raises InputError for a place that there is not or that lacks its tools, WorkError for a device
    that does not come up or holds something else.
    """
    kind, _, rest = place.partition(":")
    if place == "host":
        device = open_host(package, timeout, flags)
    elif kind == "qemu" and (rest or place == kind):
        device = open_qemu(package, rest or None, timeout, flags)
    elif kind == "serial" and rest:
        device = open_serial(package, rest, timeout)
    else:
        raise InputError(f"unknown place {place!r}: known are host, qemu, qemu:BOARD and serial:PORT[@BAUD]")
    try:
        device.check()
    except BaseException:
        device.close()
        raise
    return device
