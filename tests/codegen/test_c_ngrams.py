"""The C of hashed n-grams against its definition in Python."""

import ctypes
import subprocess

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embbert_tvm.codegen.c_expressions import C_TYPES
from embbert_tvm.codegen.c_ngrams import RUNTIME, constants, files, fold_tables
from embbert_tvm.data.ngrams import FOLDS, NgramFeatures, hash_texts
from embbert_tvm.models.ngrams import NEXT_TEXT, NgramModel, outputs_of, sketch

STRICT = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-pedantic", "-ffp-contract=off"]
FEATURES = [
    NgramFeatures(9000),
    NgramFeatures(2**24 - 1, words=3, shortest=2, longest=6),
    NgramFeatures(1, words=1, shortest=3, longest=3),
    NgramFeatures(500, words=1, longest=0),
    NgramFeatures(70001, words=3, shortest=4, longest=4),
]
EDGES = sorted({x for first, last, _, _ in FOLDS for x in (first, last, last + 1)} - {0})
TEXTS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("aB zZ09'.\u00e9\u00c9\u00d7\u0131\u1e9e\u0391\u03c2\u0416\u4e2d\u3042\uff21\U0001f600"),
        st.sampled_from(list(map(chr, EDGES))),
    ),
    max_size=40,
)

FEATURE_PROGRAM = """\
#include <stdint.h>
#define NGRAMS_BUCKETS {0.buckets}u
#define NGRAMS_COLUMNS 1
#define NGRAMS_WORDS {0.words}
#define NGRAMS_SHORTEST {0.shortest}
#define NGRAMS_LONGEST {0.longest}
static uint32_t found[65536];
#define NGRAMS_EMIT(state, bucket) (found[(state)->count - 1] = (bucket))
{1}
#include "embbert_ngrams.h"
long features(const char *text, size_t n, int second, uint32_t *out)
{{
    ngrams_t state;
    ngrams_begin(&state);
    ngrams_start(&state, second != 0);
    for (size_t i = 0; i < n; i++) {{
        ngrams_byte(&state, (uint8_t)text[i]);
    }}
    ngrams_end(&state);
    for (uint32_t i = 0; i < state.count; i++) {{
        out[i] = found[i];
    }}
    return (long)state.count;
}}
uint32_t root(uint32_t count) {{ return ngrams_root(count); }}
"""


def built(folder, sources):
    for name, text in sources.items():
        (folder / name).write_text(text)
    command = ["gcc", *STRICT, "-shared", "-fPIC", f"-I{RUNTIME.parent}", *sorted(folder.glob("*.c"))]
    done = subprocess.run([*command, "-o", folder / "x.so"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(folder / "x.so"))


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    made = []
    for features in FEATURES:
        library = built(tmp_path_factory.mktemp("c"), {"x.c": FEATURE_PROGRAM.format(features, fold_tables())})
        library.features.restype = ctypes.c_long
        made.append((features, library))
    return made


def found(library, data, second=False):
    out = (ctypes.c_uint32 * 65536)()
    return sorted(out[: library.features(data, ctypes.c_size_t(len(data)), int(second), out)])


@settings(max_examples=150)
@given(TEXTS, st.sampled_from(range(len(FEATURES))))
@example("don\u2019t \u00c9TUDE \u0130\u0307 na\u00efve \ufb01sh 3.5", 0)
@example("\u4eca\u5929 weather \u3068\u3066\u3082!", 1)
@example("", 0)
@example(" ".join(["a"] * 9) + "b" * 300, 1)
def test_features_are_pythons(libraries, text, which):
    features, library = libraries[which]
    assert found(library, text.encode()) == sorted(hash_texts(features, [text]).buckets)
    both = hash_texts(features, [""], [text])
    assert found(library, text.encode(), second=True) == sorted(both.buckets)


def test_every_code_point_is_folded_alike(libraries):
    features, library = libraries[0]
    points = {*range(0x600), *range(0x1E00, 0x1F00), *range(0x600, 0x110000, 61), *EDGES, *(x - 1 for x in EDGES)}
    points = sorted(points - set(range(0xD800, 0xE000)))
    for start in range(0, len(points), 4000):
        text = "x".join(map(chr, points[start : start + 4000]))
        assert found(library, text.encode()) == sorted(hash_texts(features, [text]).buckets)


@settings(max_examples=300)
@given(
    st.lists(st.one_of(st.integers(0, 255), st.sampled_from(b"\xe0\xed\xf0\xf4\xa0\x9f\x90\x8f\xc2\xefA"))).map(bytes)
)
@example(b"\xed\xa0\x80")
@example(b"a\xc0\x80")
@example(b"\xf4\x90\x80\x80")
@example(b"\xe2\x82")
@example(b"\xe1\x80\xe2\xf0\x91\x92\xf1\xbfA")
def test_what_is_not_utf8_reads_as_in_python(libraries, data):
    features, library = libraries[0]
    assert found(library, data) == sorted(hash_texts(features, [data.decode(errors="replace")]).buckets)


def test_roots(libraries):
    for count in [1, 2, 3, 4, 99, 100, 65535, 65536, 2**24 - 1]:
        root = libraries[0][1].root(count)
        assert root**2 <= count << 24 < (root + 1) ** 2


def weights_header(model, prefix):
    """What stands in <prefix>_weights.h and .c of a package."""
    lines = ["#include <stdint.h>"]
    for name, value in constants(model).items():
        numbers = ", ".join(f"{x.hex()}f" if isinstance(x, float) else str(x) for x in value.ravel().tolist())
        lines.append(f"static const {C_TYPES[str(value.dtype)]} {prefix}_{name}[] = {{{numbers}}};")
    return "\n".join(lines)


def random_model(classes, rank):
    rng = np.random.default_rng(classes)
    outputs = outputs_of(classes)
    features = NgramFeatures(700)
    table = rng.integers(-127, 128, (700, rank or outputs)).astype(np.int8)
    bias = rng.standard_normal(outputs).astype(np.float32)
    projection = rng.integers(-127, 128, (rank, outputs)).astype(np.int8) if rank else None
    return NgramModel(features, tuple(map(str, range(classes))), table, 0.0123, bias, projection)


@pytest.mark.parametrize(
    "model",
    [*(random_model(*x) for x in [(2, 0), (3, 0), (150, 0), (2, 3), (150, 7)]), sketch(2, 0.5), sketch(64, 0.7)],
    ids=lambda model: f"{len(model.labels)} labels, {model.columns} columns",
)
def test_logits_have_pythons_bits(tmp_path, model):
    classes = len(model.labels) or model.columns
    library = built(tmp_path, files(model, "mine", "a model") | {"mine_weights.h": weights_header(model, "mine")})
    cases = [
        ("", None),
        ("Turn the lights off!", None),
        ("caf\u00e9", "\u4e2d\u6587"),
        ("one " * 3000, ""),
        ("a", "b c"),
    ]
    for text, pair in cases:
        logits = (ctypes.c_float * classes)(*[0.5] * classes)
        first, second = text.encode(), None if pair is None else pair.encode()
        sizes = [ctypes.c_size_t(len(x or b"")) for x in (first, second)]
        expected = model.logits([text], [pair])[0]
        library.mine_linear_add(first, sizes[0], second, sizes[1], logits)
        np.testing.assert_array_equal(np.array(logits[:], np.float32), np.float32(0.5) + expected)
        ids = [*first, *([] if second is None else [NEXT_TEXT, *second])]
        library.mine_linear(len(ids), (ctypes.c_int32 * len(ids))(*ids), logits)
        # Of no bytes there are no logits: what a text adds to them is all there is then.
        np.testing.assert_array_equal(np.array(logits[:], np.float32), expected if ids else 0 * expected)
        np.testing.assert_array_equal(model.logits_of_bytes(ids), expected)
