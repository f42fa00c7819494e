"""The wheel outside the checkout, and what each part may import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A Python in which some modules do not exist.
WITHOUT = "import sys\nfor name in {modules!r}: sys.modules[name] = None\n"
CALL = WITHOUT + "from embbert_tvm.cli import main\nmain()\n"
IMPORT_ALL = WITHOUT + (
    "import importlib, pkgutil, embbert_tvm.target, embbert_tvm.device as device\n"
    "for m in pkgutil.iter_modules(device.__path__): importlib.import_module('embbert_tvm.device.' + m.name)\n"
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel does."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", "wheel", "--no-deps"]
    subprocess.run([*pip, "-w", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_the_wheel_compiles_and_runs_outside_the_checkout_without_torch(installed, tmp_path):
    def call(*arguments: object) -> dict:
        done = subprocess.run(
            [sys.executable, "-c", CALL.format(modules=["torch"]), *map(str, arguments), "--json"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert (
        call("compile", "embbert-snips", "--target", "cortex-m7", "-o", "package")["flash_bytes"]["weights"] <= 400_000
    )
    for place in ("host", "qemu"):
        (result,) = call("run", "package", "--on", place, "play some jazz")["results"]
        assert result["label"] == "PlayMusic"
    assert call("doctor")["ok"]


def test_devices_need_neither_torch_nor_tvm():
    subprocess.run([sys.executable, "-c", IMPORT_ALL.format(modules=["torch", "tvm"])], check=True)
