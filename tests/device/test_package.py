"""What a package's folder may hold wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from toy import LABELS, logits, write_package

from embbert_tvm.device.package import load_package, load_vectors
from embbert_tvm.errors import InputError
from embbert_tvm.heads import HEADS


def test_reads_what_it_says(toy):
    assert (toy.model_name, toy.target, toy.classes, toy.labels) == ("toy", "cortex-m7", 3, tuple(LABELS))
    assert [path.name for path in toy.sources] == ["model.c", "weights.c"]
    vector = load_vectors(toy)[1]
    assert np.array_equal(vector.logits, logits(list(vector.ids)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "embbert-tvm 9"}, "format: is 'embbert-tvm 9'"),
        ({"format": None}, "format: is missing"),
        ({"classes": 0}, "classes: must be a whole number"),
        ({"classes": True}, "classes: must be"),
        ({"classes": 70000, "labels": None}, "too many"),
        ({"max_length": "16"}, "max_length: must be"),
        ({"labels": ["one"]}, "labels: must be null or a list of 3"),
        ({"vocabulary": None}, "vocabulary: must be"),
        ({"operators": ["x"]}, "operators: must be a list of objects"),
        ({"arena": {}}, r"arena\.bytes: must be"),
        ({"arena": 5}, "arena: must be of type dict"),
        ({"sources": []}, "sources: is empty"),
        ({"sources": ["../../etc/passwd"]}, "outside the package"),
        ({"sources": ["codegen/host/src/gone.c"]}, "gone.c' is missing"),
        ({"includes": ["metadata.json"]}, "wrong kind"),
    ],
)
def test_malformed_metadata_names_the_key(tmp_path, changes, message):
    write_package(tmp_path / "p", **changes)
    with pytest.raises(InputError, match=message):
        load_package(tmp_path / "p")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100000])
def test_metadata_that_is_no_json_object(tmp_path, content):
    write_package(tmp_path / "p")
    (tmp_path / "p/metadata.json").write_bytes(content)
    with pytest.raises(InputError, match=r"metadata\.json"):
        load_package(tmp_path / "p")


def test_a_folder_that_is_no_package(tmp_path):
    with pytest.raises(InputError, match="not a compiled package"):
        load_package(tmp_path)


@pytest.mark.parametrize(
    "vectors",
    [
        [{"ids": [1]}],
        [{"ids": [1], "logits": ["zz"] * 3}],
        [{"ids": [1], "logits": ["00000000"]}],
        [{"ids": [], "logits": ["00000000"] * 3}],
        [{"ids": [70000], "logits": ["00000000"] * 3}],
        [{"ids": ["a"], "logits": ["00000000"] * 3}],
        [{"ids": [1], "logits": ["1ffffffff"] * 3}],
        ["x"],
        {"ids": 1},
    ],
)
def test_malformed_reference_vectors(tmp_path, vectors):
    write_package(tmp_path / "p")
    (tmp_path / "p/reference.json").write_text(json.dumps({"vectors": vectors}))
    with pytest.raises(InputError, match=r"reference\.json.*vectors"):
        load_vectors(load_package(tmp_path / "p"))


_WRONG = (True, 5, -1, 1.5, 2**63, 10**400, "x", "", [], {}, [None], [[]], {"x": None}, None)


def test_any_value_of_any_key_is_read_or_refused(tmp_path):
    """What is read lazily is checked at the door too: `outputs: true` ended in a TypeError."""
    write_package(tmp_path)
    path = tmp_path / "metadata.json"
    right = json.loads(path.read_text())
    optional = ("head", "linear", "streams", "example", "min_length", "padding", "outputs", "none_of_these")
    wrong = []
    for key in {*right, *optional}:
        for value in _WRONG:
            path.write_text(json.dumps(right | {key: value}))
            try:
                package = load_package(tmp_path)
            except InputError as error:
                wrong.append((key, str(error)))
                continue
            assert package.filled([1])
            assert package.head in HEADS
            assert max(package.max_length, package.classes, package.vocabulary, package.arena_bytes) < 2**31
            assert package.floating in (True, False)
            assert (type(package.min_length), type(package.streams)) == (int, bool)
            assert isinstance(package.example, str | None)
    assert len(wrong) > 100
    assert not [said for key, said in wrong if key.replace("_", " ") not in said.replace("_", " ")]


@pytest.mark.parametrize("key", ["step", "name", "dtype", "float", "scale", "interleave", "lanes"])
def test_any_value_in_an_output_is_read_or_refused(tmp_path, key):
    """An infinite step and a dtype of 5,000 digits ended in traces."""
    write_package(tmp_path)
    path = tmp_path / "metadata.json"
    right = {"step": 0, "name": "x", "dtype": "int8", "float": "y", "scale": 0.5}
    refused = []
    for value in (*_WRONG, float("inf"), float("nan"), "9" * 5000, "O", "f4,f4"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"outputs": [right | {key: value}]}))
        try:
            (output,) = load_package(tmp_path).outputs
            assert np.dtype(output.dtype).itemsize <= 8
        except InputError as error:
            refused.append(str(error))
    assert len(refused) >= 6
    assert all("outputs[0]" in said for said in refused)
