"""Results kept in the user's cache folder."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from embbert_tvm import cache
from embbert_tvm.codegen import unicode_map
from embbert_tvm.resources import resource

sys.path.insert(0, str(resource("benchmarks")))

import unicode_tables

PARTS = {"one": b"1\n23", "none": b"", "zeros": bytes(1000)}
BERT = """{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
"lowercase": false}"""
KEY = cache.digest(["a test"])


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_kept_comes_back(folder):
    assert cache.load(KEY) is None
    cache.keep(KEY, PARTS)
    assert cache.load(KEY) == PARTS
    assert [file.name for file in folder.iterdir()] == [KEY]
    assert folder.joinpath(KEY).stat().st_size < 500


def test_it_is_made_once(folder):
    made = []

    def make() -> cache.Parts:
        made.append(1)
        return PARTS

    assert [cache.cached(KEY, make) for _ in range(3)] == 3 * [PARTS]
    assert made == [1]


@pytest.mark.parametrize(
    "spoil", [lambda c: c[:-1], lambda c: c + b"x", lambda c: b"", lambda c: c.replace(b'"', b"'")]
)
def test_what_is_damaged_is_made_anew(folder, spoil):
    cache.keep(KEY, PARTS)
    folder.joinpath(KEY).write_bytes(spoil(folder.joinpath(KEY).read_bytes()))
    assert cache.load(KEY) is None
    assert cache.cached(KEY, lambda: PARTS) == cache.load(KEY) == PARTS


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "cache"))
    assert cache.cached(KEY, lambda: PARTS) == PARTS
    assert cache.load(KEY) is None


def test_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, "")
    assert cache.cache_folder() is None
    assert cache.cached(KEY, lambda: PARTS) == PARTS
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "embbert-tvm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "embbert-tvm"


def test_the_least_lately_used_make_room(folder, monkeypatch):
    keys = [cache.digest([str(n)]) for n in range(8)]
    for second, key in enumerate(keys):
        cache.keep(key, {"random": np.random.default_rng(second).bytes(1000)})
        os.utime(folder / key, (second, second))
    cache.load(keys[0])
    monkeypatch.setattr(cache, "MOST_BYTES", 8000)
    looks = next(key for n in range(1000) if (key := cache.digest(["last", str(n)])).startswith("0"))
    cache.keep(looks.replace("0", "1", 1), PARTS)
    assert len(list(folder.iterdir())) == 9
    cache.keep(looks, PARTS)
    left = {file.name for file in folder.iterdir()}
    assert {keys[0], looks} <= left
    assert not set(keys) <= left
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 4000


def test_texts_are_hashed_with_their_ends():
    assert cache.digest(["ab", "c"]) != cache.digest(["a", "bc"])


def uncached(function):
    """A function of unicode_map.py without what this process has of it."""
    return getattr(function, "__wrapped__", function)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (unicode_map.outputs, [('{"type": "NFKC"}', '{"type": "Lowercase"}')]),
        (unicode_map.outputs, [(BERT,)]),
        (unicode_map.members, ["word"]),
        (unicode_map.members, [r"\p{Lu}"]),
        (unicode_map.members, ["\U0010ffff"]),
        (unicode_map.combining_classes, []),
        (unicode_map.compositions, []),
    ],
)
def test_tables_of_unicode_come_back_as_they_were_made(folder, function, arguments, monkeypatch):
    ask = uncached(function)

    def arrays(found) -> list[np.ndarray]:
        if isinstance(found, unicode_map.Outputs):
            several = found.several
            return [found.one, several.points, several.made, several.at]
        return [np.asarray(found)]

    first = arrays(ask(*arguments))
    count = len(list(folder.iterdir())) if folder.exists() else 0
    again = arrays(ask(*arguments))
    assert len(list(folder.iterdir()) if folder.exists() else []) == count
    monkeypatch.setenv(cache.VARIABLE, "")
    for one, other, made in zip(first, again, arrays(ask(*arguments)), strict=True):
        assert one.dtype == other.dtype == made.dtype
        assert np.array_equal(one, other)
        assert np.array_equal(one, made)
    assert first[0].size


def test_what_ships_of_unicode_is_what_the_library_says():
    made = unicode_tables.tables()
    place = next(iter(made)).parent
    assert {path: path.read_bytes() for path in place.iterdir()} == made, "run benchmarks/unicode_tables.py"


def test_the_folder_is_the_users(folder):
    cache.keep(KEY, PARTS)
    assert stat.S_IMODE(folder.joinpath(KEY).stat().st_mode) & 0o022 == 0
