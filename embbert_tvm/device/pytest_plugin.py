"""A pytest plugin: tests of a compiled package on a device, without a test file (docs/on-device-tests.md).

It is loaded by every pytest of an environment that has embbert-tvm, so it imports nothing else before it is asked to.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from _pytest._code.code import TerminalRepr

    from embbert_tvm.device.device import Device
    from embbert_tvm.device.package import Package, Vector

SELF_TEST_LENGTHS = (1, 2, 31, 64)
# What the protocol server takes of the stack beside what the model does, in bytes.
SERVER_STACK = 256

_DEVICE = pytest.StashKey["Device"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("embbert", "embbert-tvm: a compiled package on a device")
    group.addoption("--embbert-package", metavar="PACKAGE", help="test this compiled package on --embbert-device")
    group.addoption(
        "--embbert-device",
        metavar="PLACE",
        help="host, qemu, qemu:BOARD, qemu:CPU of a package for that CPU, or serial:PORT[@BAUD]",
    )
    group.addoption("--embbert-soak", metavar="N", type=int, default=100, help="inferences of the soak (default: 100)")


def pytest_configure(config: pytest.Config) -> None:
    package, place = config.getoption("--embbert-package"), config.getoption("--embbert-device")
    if (package is None) != (place is None):
        raise pytest.UsageError("--embbert-package and --embbert-device belong together: give both")
    if package is not None and config.getoption("numprocesses", None):
        raise pytest.UsageError("a device takes one question at a time: leave pytest-xdist's -n out")
    if config.getoption("--embbert-soak") < 1:
        raise pytest.UsageError("--embbert-soak: must be 1 or more")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _DEVICE in config.stash:
        config.stash[_DEVICE].close()


@pytest.hookimpl(tryfirst=True)  # so that -k and -m choose among these too
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--embbert-package") is None:
        return
    from embbert_tvm.device.package import load_package
    from embbert_tvm.device.places import open_place
    from embbert_tvm.errors import EmbbertError

    try:
        package = load_package(config.getoption("--embbert-package"))
        device = open_place(_place(config.getoption("--embbert-device"), package), package)
        config.stash[_DEVICE] = device
        for name, check in _checks(package, device, config.getoption("--embbert-soak")):
            items.append(DeviceItem.from_parent(session, name=f"{device.place}::{name}", check=check))
    except EmbbertError as error:
        raise pytest.UsageError(str(error)) from error


def _place(place: str, package: Package) -> str:
    """qemu:CPU means the board that emulates the package's CPU."""
    return "qemu" if place == f"qemu:{package.target}" else place


class Failure(Exception):
    """What a device did wrong, in one line."""


class DeviceItem(pytest.Item):
    def __init__(self, *, check: Callable[[], None], **rest: Any) -> None:
        super().__init__(**rest)
        self._check = check

    def runtest(self) -> None:
        self._check()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str | TerminalRepr:
        from embbert_tvm.errors import EmbbertError

        if isinstance(excinfo.value, (Failure, EmbbertError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        return "embbert-tvm", None, self.name


def _checks(package: Package, device: Device, soak: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """The tests by name, in their order."""
    from embbert_tvm.device.package import load_vectors

    vectors = load_vectors(package)
    for vector in vectors:
        yield f"reference vector of {len(vector.ids)} tokens", partial(_vector, package, device, vector)
    lengths = sorted({*(n for n in SELF_TEST_LENGTHS if n <= package.max_length), package.max_length})
    for length in lengths:
        yield f"self-test of {length} tokens", partial(_self_test, package, device, length)
    yield "stack", lambda: _stack(package, device)
    yield f"soak of {soak} inferences", lambda: _soak(package, device, vectors, soak)


def _vector(package: Package, device: Device, vector: Vector) -> None:
    from embbert_tvm.device.validate import Comparer

    compared = Comparer(package)
    compared.add(device.run(vector.ids).logits, vector.logits, f"the run of {len(vector.ids)} tokens")
    if failure := compared.result().first_failure:
        raise Failure(f"{failure} from what TVM's LLVM build of the model gives")


def _self_test(package: Package, device: Device, length: int) -> None:
    from embbert_tvm.device.profile import synthetic_ids

    ids = synthetic_ids(package, length)
    found = device.self_test(ids)
    if not found.same_logits:
        raise Failure("the logits depend on what the arena held before: a step reads what none has written")
    if not found.guards_intact:
        raise Failure("bytes beside the arena were written")
    if not found.memory_intact:
        raise Failure("weights or tables on the device are not the package's: a bit of its flash has changed")
    if not found.answer_known:
        raise Failure("the device gives other logits to the ids that the package carries than TVM's LLVM build of it")
    if found.arena > package.arena_bytes:
        raise Failure(f"{found.arena} bytes of arena are in use, the plan has {package.arena_bytes}")
    if zlib.crc32(device.run(ids).logits.astype("<f4").tobytes()) != found.logits_crc:
        raise Failure("the self-test's logits are not those of a run")


def _stack(package: Package, device: Device) -> None:
    from embbert_tvm.device.footprint import footprint
    from embbert_tvm.device.profile import synthetic_ids
    from embbert_tvm.errors import InputError
    from embbert_tvm.target import load_cpu

    used = device.run(synthetic_ids(package, package.max_length)).stack
    if used is None:
        pytest.skip(f"{device.place} does not tell how much stack is used")
    try:
        worst = footprint(package, load_cpu(package.target)).stack
    except InputError as error:
        pytest.skip(f"the compiler's account of the stack: {error}")
    if worst is not None and used > worst + SERVER_STACK:
        raise Failure(
            f"{used} bytes of stack were used; the model's worst case is {worst}, the server's {SERVER_STACK}"
        )


def _soak(package: Package, device: Device, vectors: list[Vector], count: int) -> None:
    first = [device.run(vector.ids).logits.tobytes() for vector in vectors]
    order = random.Random(count)
    for number in range(count):
        index = order.randrange(len(vectors))
        if device.run(vectors[index].ids).logits.tobytes() != first[index]:
            raise Failure(f"inference {number + 1} of {count} gives other logits than the same ids gave at first")
