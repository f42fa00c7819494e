"""Intents by example over the protocol: the device answers as device/examples.py does, and its blob is the same."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import small

from embbert_tvm.compiler import compile_model, find_source
from embbert_tvm.device import store
from embbert_tvm.device.examples import Examples, load_examples
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError
from embbert_tvm.resources import resource
from embbert_tvm.target import load_cpu
from embbert_tvm.training.vector_export import export_vector

TAUGHT = (("lights", "turn the lights off and on"), ("song", "play the song again"), ("lights", "lights off"))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    from embbert_tvm.models.folder import read_folder

    place = tmp_path_factory.mktemp("store")
    (place / "texts.tsv").write_text("label\ttext\n" + "".join(f"x\t{text}\n" for text in small.TEXTS))
    export_vector(read_folder(small.folder()), place / "vector", place / "texts.tsv")
    compile_model(find_source(place / "vector"), load_cpu("host"), place / "package")
    return load_package(place / "package")


def test_a_device_learns_answers_forgets_and_keeps(package):
    texts = [*small.TEXTS, "lights", "song"]
    mine = Examples(store.vector_width(package))
    with open_place("host", package, flags=store.store_flags(package, 3)) as device:
        assert store.nearest(device, "lights", -1.0).name is None
        for name, text in TAUGHT:
            mine.add(name, device.classify(text).run.logits)
            assert store.add(device, name, text) == len(mine)
        for text in texts:
            name, cosine = mine.nearest(device.classify(text).run.logits)
            found = store.nearest(device, text, -1.0)
            assert found.name == name
            assert found.cosine == pytest.approx(cosine, abs=1e-5)
            assert store.nearest(device, text, 1.1).name is None
        blob = store.save(device)
        kept = load_examples(blob)
        assert [entry.name for entry in kept] == ["lights", "song"]
        for entry, own in zip(kept, mine, strict=True):
            assert np.abs(entry.vector.astype(int) - own.vector).max() <= 1
        store.add(device, "third", "wake me at six")
        with pytest.raises(InputError, match="the store is full"):
            store.add(device, "fourth", "will it rain")
        assert store.forget(device, "lights") == 2
        with pytest.raises(InputError, match="not there"):
            store.forget(device, "lights")
        damaged = bytes([*blob[:40], blob[40] ^ 1, *blob[41:]])
        with pytest.raises(InputError, match="a damaged one"):
            store.load(device, damaged)
        assert store.nearest(device, "wake me at six", 0.99).name == "third"  # what was there stays
        assert store.load(device, blob) == 2
        assert store.save(device) == blob
        with pytest.raises(InputError, match="must have 1 to 21 bytes"):
            store.add(device, "n" * 22, "play")
        with pytest.raises(InputError, match="has no room for a text"):
            store.add(device, "long", "l" * device.holds.payload)


def test_a_firmware_without_a_store_says_so(package):
    with open_place("host", package) as device, pytest.raises(InputError, match="keeps no examples"):
        store.add(device, "lights", "lights")
    with pytest.raises(InputError, match="gives no vector of a text"):
        store.store_flags(load_package(small.package()), 3)


def test_an_assistant_learns_and_forgets(package):
    sys.path.insert(0, str(resource("benchmarks")))
    import assistant

    said: list[str] = []
    lines = ["/learn", "/learn lights turn the lights off", "turn the lights off", "/forget lights", "lights", "", "no"]
    with open_place("host", package, flags=store.store_flags(package, 3)) as device:
        assistant.talk(device, lines, 0.99, learns=True, say=said.append)
    assert said == [
        "  /learn NAME TEXT",
        "  lights: learned, 1 names",
        "  lights (taught, cosine 1.00)",
        "  lights: forgotten, 0 left",
        "  none of these",
    ]
