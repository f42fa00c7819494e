"""What the tests share: the toy package of toy.py, and the command line in this process."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import once
import pytest
import small
from toy import TEXTS, complete, write_package

from embbert_tvm import cache
from embbert_tvm.device import build
from embbert_tvm.graph.tvm_workarounds import import_tvm_without_extras

import_tvm_without_extras()  # as commands do; tests import tvm plainly

# On two cores PyTorch is twenty times faster with one thread, and pytest-xdist uses the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Modules are imported to stay: looking through them for garbage took a seventh of the time that tests are collected in.
gc.disable()

# Files of more than half a minute, and of more than twenty seconds.
_SLOWEST = (
    "test_fuse_row_blocks", "test_pooled_tokens", "test_in_integers", "test_bits", "test_bits_of_codes", "test_builds",
    "test_architectures_compiled", "test_kinds_and_exporters", "test_tokenizer_c", "test_tune", "test_fuzz",
    "test_blob", "test_model_on_boards", "test_equations", "test_boards", "test_distances", "test_mixed",
    "test_compile_cli", "test_api", "test_package_c", "test_unused_c",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Give all processes of a run one folder: small.py shares models there, and nothing is kept in the user's cache."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="embbert-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ[small.FOLDER_VARIABLE] = folder
        os.environ[cache.VARIABLE] = os.path.join(folder, "cache")
        # What runs a few texts takes GCC longer to optimize than it saves; tests of bits and of builds use `optimized`.
        os.environ.setdefault(build.HOST_FLAGS_VARIABLE, "-O0")
        os.environ.setdefault(build.FIRMWARE_FLAGS_VARIABLE, "-O1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: one that comes last would leave the other processes without work."""
    items.sort(key=lambda item: _SLOWEST.index(name) if (name := item.path.stem) in _SLOWEST else len(_SLOWEST))


def pytest_collection_finish() -> None:
    """Collect garbage from here on, but seldom, and not among what was imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def pytest_runtest_setup() -> None:
    once.patch()
    module = sys.modules.get("embbert_tvm.training.linear_problems")
    if module is not None:
        module._STEPS = 10  # a quarter: a few short texts are told apart as well


class Result(NamedTuple):
    """What a command left: its exit status, stdout and stderr."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        """The one JSON object on stdout."""
        return json.loads(self.out)


@pytest.fixture(scope="module")
def optimized():
    """Programs of this machine and firmware are compiled as a user's."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (build.HOST_FLAGS_VARIABLE, build.FIRMWARE_FLAGS_VARIABLE):
            patch.delenv(name)
        yield


@pytest.fixture
def cli(monkeypatch, capfd):
    """Call `embbert-tvm` with arguments; gives a Result."""
    from embbert_tvm.cli import main

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["embbert-tvm", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        return Result(status, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def toy_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a toy package, with tokenizer and float model; compiled once a process."""
    return complete(write_package(tmp_path_factory.mktemp("toy") / "package"))


@pytest.fixture(scope="session")
def toy(toy_package: Path):
    """The toy package, read."""
    from embbert_tvm.device.package import load_package

    return load_package(toy_package)


@pytest.fixture
def tsv(tmp_path) -> Path:
    """A labelled set of toy.TEXTS."""
    path = tmp_path / "set.tsv"
    labels = ["lights", "music", "weather", "music", "lights", "weather"]
    path.write_text("label\ttext\n" + "".join(f"{a}\t{b}\n" for a, b in zip(labels, TEXTS, strict=True)))
    return path
