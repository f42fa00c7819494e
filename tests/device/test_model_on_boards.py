"""The shipped model on every CPU that can hold it: the reference bits in QEMU, and bytes that are the linker's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import small

from embbert_tvm.api import CompileReport, compile
from embbert_tvm.compiler import CompileOptions, compile_model, find_source
from embbert_tvm.device.build import build
from embbert_tvm.device.footprint import footprint
from embbert_tvm.device.link_map import FILL, contributions
from embbert_tvm.device.package import Package, load_package, load_vectors
from embbert_tvm.device.places import open_place
from embbert_tvm.device.toolchain import find_tool
from embbert_tvm.errors import WorkError
from embbert_tvm.resources import resource
from embbert_tvm.target import Board, Cpu, load_board, load_cpu

MODEL = resource("models", "embbert-snips")
CPUS = ["cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"]
SERVER = 128  # bytes of stack of main() and what it keeps over a run
GUARDS = 2 * 16  # bytes that the server keeps before and after the arena, to see that they stay

pytestmark = pytest.mark.usefixtures("optimized")


class Compiled(NamedTuple):
    cpu: Cpu
    board: Board
    package: Package
    report: CompileReport


@pytest.fixture(scope="module", params=CPUS)
def compiled(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "package"
    report = compile(MODEL, request.param, folder).report
    assert report.warnings == ()
    cpu = load_cpu(request.param)
    return Compiled(cpu, load_board(cpu.emulation_board), load_package(folder), report)


@pytest.fixture(scope="module")
def image(compiled) -> Path:
    """firmware.elf of the package on its board."""
    return build(compiled.package, compiled.cpu, compiled.board)


def test_gives_the_reference_bits_on_two_kilobytes_of_stack(compiled):
    with open_place("qemu", compiled.package) as device:
        for vector in load_vectors(compiled.package):
            run = device.run(vector.ids)
            assert np.array_equal(run.logits.view("u4"), vector.logits.view("u4")), f"{len(vector.ids)} tokens"
    computed = compiled.report.ram.stack
    assert 0 < run.stack <= computed + SERVER
    assert computed + SERVER <= 2048


def test_the_longest_slice_is_a_hundredth_of_an_inference_at_most(compiled):
    assert 0 < compiled.report.longest_slice <= 0.01


def symbols(compiled: Compiled, image: Path) -> dict[str, tuple[str, int]]:
    """Section and size of each object in an image, by name."""
    command = [find_tool(compiled.cpu, "objdump"), "-t", image]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line[17:].split() for line in lines if len(line) > 17 and line[15] == "O"]
    return {row[-1]: (row[0], int(row[1], 16)) for row in rows}


def test_the_arena_and_the_weights_are_the_images_symbols(compiled, image):
    found = symbols(compiled, image)
    assert found["memory"] == (".bss", compiled.report.ram.arena + GUARDS)
    assert compiled.package.arena_bytes == compiled.report.ram.arena
    arrays = [size for section, size in found.values() if section == ".weights"]
    assert sum(arrays) == compiled.report.flash.weights == compiled.package.weights_bytes


def test_code_and_weights_are_the_linkers_map(compiled, image):
    """The report's bytes are what the map of an image with the package alone says, piece by piece, and the map of the
    whole firmware holds the same pieces."""
    measured, flash = footprint(compiled.package, compiled.cpu), compiled.report.flash
    assert sum(measured.parts.values()) == flash.total
    assert measured.parts["package.embbert_weights.o"] == flash.weights
    firmware = contributions(image.with_suffix(".map").read_text(), (".text", ".weights"))
    for name in ("package.embbert_kernels.o", "package.embbert_weights.o"):
        assert firmware[name] == measured.parts[name]
    assert measured.parts[FILL] < 1024
    assert sum(firmware.values()) == sum(
        size for name, size in section_sizes(compiled, image).items() if name in (".text", ".weights")
    )


def section_sizes(compiled: Compiled, image: Path) -> dict[str, int]:
    command = [find_tool(compiled.cpu, "size"), "-A", "-d", image]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {words[0]: int(words[1]) for words in map(str.split, lines) if len(words) == 3 and words[1].isdigit()}


@pytest.fixture
def nano(tmp_path) -> Path:
    """A model folder: the Nano preset with random weights."""
    torch = pytest.importorskip("torch")
    from embbert_tvm.data.tokenizer import train_tokenizer
    from embbert_tvm.graph.float_tensors import calibrate_folder
    from embbert_tvm.graph.onnx_export import export_folder
    from embbert_tvm.models.config import PRESETS
    from embbert_tvm.models.embbert import EmbBert

    torch.manual_seed(0)
    config = PRESETS["nano"]
    tokenizer = train_tokenizer(small.TEXTS, 300)
    tokenizer.add_special_tokens([f"<filler {i}>" for i in range(config.vocabulary_size - tokenizer.get_vocab_size())])
    model = EmbBert(config, len(small.LABELS))
    export_folder(model.save_pretrained(tmp_path / "nano", name="nano", labels=small.LABELS, tokenizer=tokenizer))
    calibrate_folder(tmp_path / "nano", [small.some_ids(n, config.vocabulary_size, n) for n in (1, 20, 80)])
    return tmp_path / "nano"


def test_nano_runs_on_a_microbit_up_to_80_tokens(nano, tmp_path):
    """256 KB of flash and 16 KB of RAM, an M0: what docs/adding-a-board.md says of it."""
    compile_model(find_source(nano), load_cpu("cortex-m0plus"), tmp_path / "p", CompileOptions(max_length=80))
    package = load_package(tmp_path / "p")
    with open_place("qemu:microbit", package) as device:
        for vector in load_vectors(package):
            run = device.run(vector.ids)
            assert np.array_equal(run.logits.view("u4"), vector.logits.view("u4")), f"{len(vector.ids)} tokens"
    assert run.stack < load_board("microbit").stack_bytes


def test_the_base_model_does_not_fit_a_microbit(tmp_path):
    compile_model(find_source(MODEL), load_cpu("cortex-m0plus"), tmp_path / "p")
    with pytest.raises(WorkError, match=r"does not fit: FLASH is \d+ bytes too small"):
        open_place("qemu", load_package(tmp_path / "p"))


def test_the_base_model_runs_at_256_tokens_inside_a_netduinoplus2(tmp_path):
    """An STM32F405: 1 MB of flash, 128 KB of SRAM, 64 KB of CCM. The image lies inside."""
    report = compile(MODEL, "netduinoplus2", tmp_path / "p").report
    assert (report.board, report.target, report.max_length) == ("netduinoplus2", "cortex-m4", 256)
    assert report.warnings == ()
    package, board = load_package(tmp_path / "p"), load_board("netduinoplus2")
    assert package.board == board
    with open_place("qemu", package) as device:
        assert device.place == "qemu:netduinoplus2"
        for vector in load_vectors(package):
            run = device.run(vector.ids)
            assert np.array_equal(run.logits.view("u4"), vector.logits.view("u4")), f"{len(vector.ids)} tokens"
    assert len(vector.ids) == 256
    assert run.stack < board.stack_bytes
    (image,) = (tmp_path / "p").glob("build/netduinoplus2/*/firmware.elf")
    command = [find_tool(load_cpu("cortex-m4"), "objdump"), "-h", image]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split() for line in lines if line.split()[:1] and line.split()[0].isdigit()]
    placed = {name: (int(start, 16), int(size, 16)) for _, name, size, start, *_ in rows if int(start, 16)}
    assert {".text", ".weights", ".stack", ".bss"} <= set(placed)
    for name, (start, size) in placed.items():
        assert any(r.origin <= start and start + size <= r.origin + r.bytes for r in board.memory), name
