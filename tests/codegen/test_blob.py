"""Weights apart from the firmware: what a blob may change, what refuses it, and the example of updates."""

from __future__ import annotations

import ctypes
import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import small
from onnx import numpy_helper
from random_ngrams import model_of

from embbert_tvm import api
from embbert_tvm.codegen.blob import layout_hash
from embbert_tvm.device.package import Package, load_text_vectors, load_vectors
from embbert_tvm.device.places import open_place
from embbert_tvm.device.project import known_templates, load_template, write_project
from embbert_tvm.device.protocol import STATUS_NAMES
from embbert_tvm.graph.float_tensors import calibrate_folder
from embbert_tvm.options import CompileOptions
from embbert_tvm.rejection import DISTANCE, ENERGY, Rejection
from embbert_tvm.resources import firmware
from embbert_tvm.target import load_board

HERE = Path(__file__).parent
WARNED = ("-std=gnu99", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
STATUS = {name.removeprefix("EMBBERT_"): value for value, name in STATUS_NAMES.items()}
OK, E_MAGIC, E_VERSION, E_LAYOUT = (STATUS[name] for name in ("OK", "E_MAGIC", "E_VERSION", "E_LAYOUT"))
E_SIZE, E_DAMAGED, E_ALIGN, E_ARGUMENT = (STATUS[f"E_{name}"] for name in ("SIZE", "DAMAGED", "ALIGN", "ARGUMENT"))


def retrained(folder: Path, seed: int = 7) -> Path:
    """`folder` with other weights, of other scales, calibrated anew, and other names of its labels."""
    model = onnx.load(folder / "model.onnx")
    rng = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size > 8:
            value = value * rng.uniform(0.5, 2) + 0.1 * value.std() * rng.standard_normal(value.shape)
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
    onnx.save(model, folder / "model.onnx")
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    config |= {"labels": ["wave", "a longer name", "größe"], "name": "another"}
    (folder / "config.json").write_text(json.dumps(config))
    calibrate_folder(folder, [small.some_ids(n, config["config"]["vocabulary_size"], n) for n in range(1, 49)])
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    return small.folder(), retrained(small.copy_of_folder(tmp_path_factory.mktemp("retrained") / "model"))


@pytest.fixture(scope="module")
def pair(folders, tmp_path_factory) -> list[Package]:
    """The packages of a model and of the same retrained. A Cortex-M3's C runs on this machine too."""
    out, options = tmp_path_factory.mktemp("blobs"), CompileOptions(weights="blob")
    return [api.compile(f, "cortex-m3", out / f"{n}", options).contents for n, f in enumerate(folders)]


@pytest.fixture(scope="module")
def shorter(folders, tmp_path_factory) -> Package:
    """The first one for shorter texts: its code is another."""
    out, options = tmp_path_factory.mktemp("shorter"), CompileOptions(weights="blob", max_length=32)
    return api.compile(folders[0], "cortex-m3", out / "package", options).contents


def blob_of(package: Package) -> bytes:
    return (package.path / "weights.bin").read_bytes()


class Firmware:
    """A package's C on this machine, which takes any blob."""

    def __init__(self, package: Package, folder: Path) -> None:
        library = folder / "firmware.so"
        sources = [*package.sources, *(f"-I{path}" for path in package.includes)]
        subprocess.run(["gcc", "-O1", "-fPIC", "-shared", *map(str, sources), "-o", str(library)], check=True)
        self.c, self.package = ctypes.CDLL(str(library)), package
        self.c.embbert_label.restype = ctypes.c_char_p
        self.model = ctypes.create_string_buffer(65536)
        self.room = [ctypes.create_string_buffer(size + 16) for size in (package.arena_bytes, len(blob_of(package)))]

    def start(self, blob: bytes) -> int:
        arena, place = (ctypes.addressof(room) + -ctypes.addressof(room) % 16 for room in self.room)
        ctypes.memmove(place, blob, len(blob))
        size = ctypes.c_size_t(self.package.arena_bytes)
        return self.c.embbert_init(self.model, ctypes.c_void_p(arena), size, ctypes.c_void_p(place))

    def run(self, ids) -> list[int]:
        given, logits = (ctypes.c_int32 * len(ids))(*ids), (ctypes.c_uint32 * self.package.classes)()
        assert self.c.embbert_run(self.model, given, ctypes.c_size_t(len(ids)), logits) == OK
        return list(logits)

    def classify(self, text: str) -> tuple[int, list[int]]:
        """The label's index and the logits' bits, of embbert_result_t."""
        result = ctypes.create_string_buffer(8192)
        data = text.encode()
        assert self.c.embbert_classify(self.model, data, ctypes.c_size_t(len(data)), result) == OK
        (label,) = struct.unpack_from("N", result)
        return label, list(struct.unpack_from(f"{self.package.classes}I", result, 16))

    def label(self, index: int) -> str:
        return self.c.embbert_label(self.model, ctypes.c_size_t(index)).decode()

    def known_answer(self) -> int:
        return self.c.embbert_known_answer(self.model, (ctypes.c_float * self.package.classes)())


def bits(logits: np.ndarray) -> list[int]:
    return np.float32(logits).view(np.uint32).tolist()


def test_a_retrained_model_has_the_layout(pair, shorter):
    first, second = pair
    assert first.layout == second.layout is not None
    assert first.hash != second.hash
    assert blob_of(first) != blob_of(second)
    assert len(blob_of(first)) == len(blob_of(second)) < first.weights_bytes + 1500
    assert struct.unpack_from("<4I", blob_of(first))[2:] == (first.layout, len(blob_of(first)))
    assert first.layout != shorter.layout is not None


def test_a_blob_gives_its_models_bits_in_anothers_firmware(pair, shorter, tmp_path):
    first, second = pair
    c = Firmware(first, tmp_path)
    for package in (second, first):
        assert c.start(blob_of(package)) == OK
        for vector in load_vectors(package):
            assert c.run(vector.ids) == bits(vector.logits)
        assert [c.label(i) for i in range(3)] == list(package.labels)
        assert c.known_answer() == OK
    assert c.start(blob_of(shorter)) == E_LAYOUT


def test_the_object_that_is_linked_is_the_file(pair, tmp_path):
    for package in pair:
        (source,) = (path for path in package.sources if path.name.endswith("weights.c"))
        include = [f"-I{path}" for path in package.includes]
        subprocess.run(["gcc", *WARNED, *include, "-c", source, "-o", tmp_path / "w.o"], check=True)
        section = "--only-section=.rodata.embbert_weights.blob"
        subprocess.run(["objcopy", "-O", "binary", section, tmp_path / "w.o", tmp_path / "w.bin"], check=True)
        assert (tmp_path / "w.bin").read_bytes() == blob_of(package)


@pytest.mark.parametrize("place", ["host", "qemu"])
def test_it_runs_as_any_package(pair, place):
    """By the server, which says the hash of the model."""
    package = pair[1]
    with open_place(place, package) as device:
        sound = device.self_test([2, 17, 9])
        assert (sound.memory_intact, sound.answer_known) == (True, True)
        vector = load_vectors(package)[3]
        assert bits(device.run(vector.ids).logits) == bits(vector.logits)


def updates(program: list[str]) -> list[list[str]]:
    out = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    lines = (out.stdout + out.stderr).splitlines()
    return [line.split(maxsplit=-1 if "after" in line else 9) for line in lines]


def update_program(package: Package, new: Package, other: Package, place: str, folder: Path) -> list[str]:
    """The command of update_test.c with the first package's firmware and the others' blobs."""
    files = {"NEW": new, "OTHER": other}
    blobs = [f'-D{name}="{found.path / "weights.bin"}"' for name, found in files.items()]
    example, include = firmware("examples"), [f"-I{path}" for path in package.includes]
    sources = [example / "embbert_update.c", HERE / "update_test.c"]
    if place == "host":
        checked = ["-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        command = ["gcc", *WARNED, *checked, *blobs, *include, f"-I{example}", *sources, *package.sources]
        subprocess.run([*map(str, command), "-o", str(folder / "update")], check=True)
        return [str(folder / "update")]
    project = folder / "project"
    write_project(package, load_template("bare"), project, board=load_board("mps2_an385"))
    (project / "main.c").write_text('#include "update_test.c"\n#include "embbert_update.c"\n')
    flags = " ".join(["-std=gnu99 -O1 -DON_TARGET", *(f"'{blob}'" for blob in blobs), f"-I. -I{example} -I{HERE}"])
    subprocess.run(["make", "-s", f"CFLAGS={flags}"], cwd=project, check=True, stdin=subprocess.DEVNULL)
    return ["make", "-s", "-C", str(project), "run"]


@pytest.mark.parametrize("place", ["host", "qemu"])
def test_updates_and_the_way_back(pair, shorter, place, tmp_path):
    old, new = pair
    lines = updates(update_program(old, new, shorter, place, tmp_path))
    logits = {}
    for package in pair:
        with open_place("host", package) as device:
            logits[package.hash] = bits(device.run([2, 17, 9, 5]).logits)

    def runs(name: str, slot: int, package: Package) -> list[str]:
        words = [slot % 2**32, OK, OK, OK, package.hash, *logits[package.hash]]
        return [name, *(f"{word:08x}" for word in words), package.labels[0]]

    def says(name: str, status: int) -> list[str]:
        return [name, f"{status:08x}"]

    assert lines[:7] == [
        runs("first", -1, old), says("update", OK), runs("trial", 0, new), runs("back", -1, old),
        says("update", OK), runs("trial", 0, new), runs("kept", 0, new),
    ]  # fmt: skip
    assert lines[7:15] == [
        says("other", E_LAYOUT), says("short", E_SIZE), says("long", E_SIZE), says("broken", E_DAMAGED),
        runs("still", 0, new), says("update", OK), runs("second", 1, old), runs("old", 0, new),
    ]  # fmt: skip
    assert set(lines[15][1::2]) == {"00000000"}
    assert len(lines[15]) > 8
    assert lines[16:] == [
        says("magic", E_MAGIC), says("version", E_VERSION), says("layout", E_LAYOUT), says("size", E_SIZE),
        says("crc", E_DAMAGED), says("last", E_DAMAGED), says("askew", E_ALIGN), says("none", E_ARGUMENT),
    ]  # fmt: skip


def test_projects_take_it(pair, tmp_path):
    """The examples of all templates begin with the blob that was compiled with them; the bare one boots."""
    board = load_board("mps2_an385")
    for name in known_templates():
        write_project(pair[1], load_template(name), tmp_path / name, board=board)
        sources = [path.read_text() for kind in ("c", "cpp", "ino") for path in (tmp_path / name).rglob(f"*.{kind}")]
        calls = [line for text in sources for line in text.splitlines() if "embbert_init(&model" in line]
        assert any("sizeof arena, &embbert_blob)" in line for line in calls), name
    subprocess.run(["make", "-s"], cwd=tmp_path / "bare", check=True)
    out = subprocess.run(["make", "-s", "run"], cwd=tmp_path / "bare", capture_output=True, text=True, check=True)
    assert any(label in out.stdout + out.stderr for label in pair[1].labels)


@pytest.mark.parametrize("rank", [0, 3])
def test_ngrams_lie_in_it_too(rank, tmp_path):
    """Alone, a package of nothing else."""
    packages = []
    for seed in (1, 2):
        model_of("abcde", rank=rank, seed=seed).save(tmp_path / f"model{seed}")
        options = CompileOptions(weights="blob")
        packages.append(api.compile(tmp_path / f"model{seed}", "host", tmp_path / f"p{seed}", options).contents)
    first, second = packages
    assert first.layout == second.layout
    c = Firmware(first, tmp_path)
    assert c.start(blob_of(second)) == OK
    assert all(c.run(vector.ids) == bits(vector.logits) for vector in load_vectors(second))
    assert all(c.classify(v.text)[1] == bits(v.logits) for v in load_text_vectors(second) if v.text_pair is None)
    assert c.known_answer() == OK


@pytest.mark.parametrize("score", [ENERGY, DISTANCE])
def test_thresholds_and_added_ngrams_lie_in_it_too(folders, score, tmp_path):
    packages = []
    for number, folder in enumerate(folders):
        model = Path(shutil.copytree(folder, tmp_path / f"model{number}"))
        config = json.loads((model / "config.json").read_text())
        means = tuple(map(tuple, (np.eye(3) * (number + 1)).tolist())) if score == DISTANCE else None
        rejected = Rejection(score, 1.0 + number, -6.0 * (1 + number) if means else 0.5 * number, means)
        config["none_of_these"] = rejected.to_dict()
        (model / "config.json").write_text(json.dumps(config))
        model_of(config["labels"], rank=3, seed=number).save(model / "wide")
        options = CompileOptions(weights="blob")
        packages.append((api.compile(model, "host", tmp_path / f"p{number}", options).contents, rejected))
    (first, _), (second, rejected) = packages
    assert first.layout == second.layout
    c = Firmware(first, tmp_path)
    assert c.start(blob_of(second)) == OK
    vectors = [v for v in load_text_vectors(second) if v.text_pair is None]
    found = [c.classify(vector.text) for vector in vectors]
    assert [logits for _, logits in found] == [bits(vector.logits) for vector in vectors]
    logits = np.array([vector.logits for vector in vectors])
    assert [label for label, _ in found] == rejected.labels(logits).tolist()
    assert c.label(3) == "none of these"


def test_comments_are_no_layout():
    code = {"a.c": b'int a = 1; /* of mine */ // x\nchar *b = "/* kept */";\n'}
    same = {"a.c": b'/* other */ int a = 1;\n\nchar *b =   "/* kept */";\n'}
    assert layout_hash(code) == layout_hash(same)
    assert layout_hash(code) != layout_hash({"a.c": same["a.c"].replace(b"kept", b"other")})
    assert layout_hash(code) != layout_hash({"a.c": code["a.c"].replace(b"1", b"2")})
    assert layout_hash(code) != layout_hash({"b.c": code["a.c"]})
