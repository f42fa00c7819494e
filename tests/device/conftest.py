"""The toy package, written and compiled once a process."""

from __future__ import annotations

import pytest
from toy import write_package

from embbert_tvm.device.package import Package, load_package


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return load_package(write_package(tmp_path_factory.mktemp("toy") / "package"))
