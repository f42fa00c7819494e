"""The C store of intents by example against the one in Python: names, statuses, cosines and the bytes of the blob."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from embbert_tvm.device.examples import WIDTH, Examples, load_examples
from embbert_tvm.errors import InputError
from embbert_tvm.resources import firmware

FLAGS = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wdouble-promotion"]
SANITIZED = ["-Werror", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
OK, E_NAME, E_ROOM, E_VECTOR = range(4)


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("examples") / "examples"
    folder = firmware("examples")
    sources = [folder / "embbert_examples.c", Path(__file__).with_name("examples_test.c")]
    subprocess.run(["gcc", *FLAGS, *SANITIZED, f"-I{folder}", *sources, "-o", out], check=True)
    return out


def call(program: Path, *commands: tuple[str, str, np.ndarray | None], width: int = WIDTH) -> list[str]:
    zeros = np.zeros(width, np.float32)
    packed = b"".join(
        command.encode() + name.encode().ljust(32, b"\0") + np.float32(zeros if vector is None else vector).tobytes()
        for command, name, vector in commands
    )
    return subprocess.run([program], input=packed, capture_output=True, check=True).stdout.decode().splitlines()


def test_the_c_is_the_reference(program):
    rng = np.random.default_rng(0)
    names = ["lights_party", "licht_an", "größer", "x", "a-name-of-21-bytes-ok"]
    centres = {name: rng.normal(0, 1, WIDTH) for name in names}
    store, commands, expected = Examples(), [], []
    for _ in range(60):
        name = names[rng.integers(len(names))]
        vector = ((centres[name] + rng.normal(0, 0.7, WIDTH)) * 10.0 ** rng.integers(-6, 6)).astype(np.float32)
        store.add(name, vector)
        commands.append(("a", name, vector))
        expected.append(str(OK))
    asked = [(centres[name] + rng.normal(0, 1, WIDTH)).astype(np.float32) for name in names * 4]
    asked += [rng.normal(0, 1, WIDTH).astype(np.float32) for _ in range(10)]
    out = call(program, *commands, *(("n", "", vector) for vector in asked), ("s", "", None))
    assert out[: len(commands)] == expected
    answers = [line.rsplit(" ", 1) for line in out[len(commands) : -1]]
    for (name, cosine), vector in zip(answers, asked, strict=True):
        found, value = store.nearest(vector, 0.25)
        assert (name, float(cosine)) == (found or "-", pytest.approx(value, abs=0.01))
    assert [name for name, _ in answers[:20]] == names * 4
    assert "-" in [name for name, _ in answers[20:]]
    # What the C wrote reads back as what was added; a rounding may differ where floats do.
    back = load_examples(bytes.fromhex(out[-1]))
    assert [(x.name, x.count) for x in back] == [(x.name, x.count) for x in store]
    for mine, its in zip(store, back, strict=True):
        np.testing.assert_allclose(its.scale * its.vector, mine.scale * mine.vector, atol=1.5 * float(mine.scale))
    assert back.save().hex() == out[-1]


def test_a_name_that_has_heard_much_still_hears(program):
    """In four bits one of forty unit vectors is less than half a step of their sum: it would be rounded away."""
    rng = np.random.default_rng(1)
    first, then = rng.normal(0, 1, (2, WIDTH)).astype(np.float32)
    store = Examples()
    for vector in (*[first] * 40, *[then] * 12):
        store.add("name", vector)
    store.add("first", first)
    assert store.nearest(then)[1] > 0.4
    out = call(program, *[("a", "name", first)] * 40, *[("a", "name", then)] * 12, ("n", "", then), ("s", "", None))
    assert float(out[-2].split()[1]) == pytest.approx(store.nearest(then)[1], abs=1e-3)
    assert next(iter(load_examples(bytes.fromhex(out[-1])))).count == 52


@pytest.mark.parametrize("width", [1, 100, 300])
def test_any_width_is_kept(width, tmp_path):
    """A word has eight numbers, and the halves of a sum hold 256: one that is no multiple, and one that is more."""
    program, folder = tmp_path / "examples", firmware("examples")
    sources = [folder / "embbert_examples.c", Path(__file__).with_name("examples_test.c")]
    flags = [*FLAGS, *SANITIZED, f"-DEMBBERT_EXAMPLES_WIDTH={width}", f"-I{folder}"]
    subprocess.run(["gcc", *flags, *sources, "-o", program], check=True)
    rng, store = np.random.default_rng(2), Examples(width)
    # Of equal signs and the largest numbers: the most that a sum can be.
    vectors = [np.ones(width), -np.ones(width), *rng.normal(0, 1, (3, width))]
    for number, vector in enumerate(np.float32(vectors)):
        store.add(f"{number}", vector)
    packed = [("a", f"{number}", np.float32(vector)) for number, vector in enumerate(vectors)]
    asked = [("n", "", np.float32(vector)) for vector in vectors]
    out = call(program, *packed, *asked, ("s", "", None), width=width)
    for line, vector in zip(out[5:10], np.float32(vectors), strict=True):
        name, cosine = line.split()
        found, value = store.nearest(vector)
        assert float(cosine) == pytest.approx(value, abs=1e-5)
        assert width == 1 or name == found
    for mine, its in zip(store, load_examples(bytes.fromhex(out[10])), strict=True):
        np.testing.assert_array_equal(its.vector, mine.vector)
        assert its.scale == pytest.approx(mine.scale)


def test_what_cannot_be_stored_has_a_status(program):
    one = np.ones(WIDTH, np.float32)
    bad = [one * np.nan, np.where(np.arange(WIDTH) == 5, np.inf, one), one * 0]
    out = call(
        program,
        ("a", "", one), ("a", "a name of more than 21", one), ("f", "nothing", None),
        *(("a", "bad", vector) for vector in bad),
        ("n", "", one),
        *(("a", f"name {n}", one) for n in range(7)), ("a", "name 3", -one), ("a", "name 3", one),
        ("f", "name 0", None), ("a", "name 9", one), ("f", "name 0", None),
    )  # fmt: skip
    assert out[:3] == [str(E_NAME)] * 3
    assert out[3:6] == [str(E_VECTOR)] * 3
    assert out[6] == "- -1.000000"
    assert out[7:] == [*[str(OK)] * 6, str(E_ROOM), str(OK), str(OK), str(OK), str(OK), str(E_NAME)]


def test_the_store_in_python_refuses_by_name():
    store = Examples()
    for wrong, words in (
        (lambda: store.add("", np.ones(WIDTH)), "1 to 21 bytes"),
        (lambda: store.add("x", np.ones(3)), "takes 240"),
        (lambda: store.add("x", np.zeros(WIDTH)), "not all 0"),
        (lambda: store.forget("x"), "no examples of 'x'"),
        (lambda: load_examples(b"PNG" * 40), "not a store"),
        (lambda: load_examples(store.save()[:-1] + b"\1"), "damaged"),
    ):
        with pytest.raises(InputError, match=words):
            wrong()
    assert store.nearest(np.ones(WIDTH)) == (None, -1.0)
