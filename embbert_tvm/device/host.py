"""A package on this machine: compiled by its own C compiler, spoken to over pipes."""

from __future__ import annotations

from collections.abc import Sequence

from embbert_tvm.device.build import build
from embbert_tvm.device.device import Device
from embbert_tvm.device.link import ProcessLink
from embbert_tvm.device.package import Package
from embbert_tvm.target import load_cpu

TIMEOUT = 60.0


def open_host(package: Package, timeout: float | None = None, flags: Sequence[str] = ()) -> Device:
    """The package's C on this machine; it counts no instructions."""
    program = build(package, load_cpu("host"), flags=flags)
    link = ProcessLink([str(program.resolve())], "the program on the host")
    return Device(link, package, "host", timeout or TIMEOUT)
